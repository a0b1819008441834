//! An OTLP/HTTP receiver, which reads what comes with OpenTelemetry's own types.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// One request: its head's lines and its body.
#[derive(Clone, Debug)]
pub(crate) struct Export {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    exports: Arc<Mutex<Vec<Export>>>,
}

impl Collector {
    /// On a free port, for as long as the test's process lives.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let exports: Arc<Mutex<Vec<Export>>> = Arc::default();
        let seen = exports.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = seen.clone();
                std::thread::spawn(move || serve(stream, &seen));
            }
        });
        Self { address, exports }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn exports(&self) -> Vec<Export> {
        self.exports.lock().expect("no test failed").clone()
    }

    pub(crate) fn spans(&self) -> Vec<Told> {
        let exports = self.exports();
        let requests = exports.iter().map(|export| {
            ExportTraceServiceRequest::decode(export.body.as_slice()).expect("OpenTelemetry's own message")
        });
        let resources = requests.flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).map(Told::of).collect()
    }

    /// The spans, once there is one for which `is_there` holds.
    pub(crate) fn until(&self, is_there: impl Fn(&Told) -> bool) -> Vec<Told> {
        let begun = Instant::now();
        loop {
            let spans = self.spans();
            if spans.iter().any(&is_there) {
                return spans;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "it never came: {spans:#?}");
        }
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Vec<Export>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        loop {
            let before = head.len();
            match reader.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) if head[before..].trim().is_empty() => break,
                Ok(_) => {}
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        seen.lock().expect("no test failed").push(Export { head, body });
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// A span, with its ids in hexadecimal and its attributes as text.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// The traces and spans that it is linked to.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) has_failed: bool,
    pub(crate) is_client: bool,
    pub(crate) times: (u64, u64),
}

impl Told {
    fn of(span: Span) -> Self {
        let links = span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id)));
        let attributes = span.attributes.into_iter();
        let attributes =
            attributes.map(|given| (given.key, shown(given.value.and_then(|value| value.value))));
        Self {
            name: span.name,
            trace: hex(&span.trace_id),
            id: hex(&span.span_id),
            parent: hex(&span.parent_span_id),
            links: links.collect(),
            attributes: attributes.collect(),
            has_failed: span.status.is_some_and(|status| status.code == 2),
            is_client: span.kind == 3,
            times: (span.start_time_unix_nano, span.end_time_unix_nano),
        }
    }

    pub(crate) fn says(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).map(String::as_str)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn shown(value: Option<Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::BoolValue(flag)) => flag.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => {
            let items: Vec<String> = list.values.into_iter().map(|item| shown(item.value)).collect();
            format!("[{}]", items.join(", "))
        }
        other => panic!("an attribute of a kind that is not used: {other:?}"),
    }
}
