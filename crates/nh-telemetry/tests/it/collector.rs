//! A collector that answers as it is told, and a process's spans to it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use nh_telemetry::{Collector, SpanLayer, Telemetry, TelemetrySettings};
use nh_testkit::{FixedClock, SeededIds};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tracing::Subscriber;
use tracing_subscriber::layer::{Layer, SubscriberExt};

/// Never answered.
pub(crate) const SILENT: u16 = 0;

pub(crate) struct Receiver {
    pub(crate) endpoint: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    _server: JoinSet<()>,
}

impl Receiver {
    /// Answers with these statuses in turn, and then with 200.
    pub(crate) async fn start(statuses: &[u16]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let statuses = Arc::new(Mutex::new(VecDeque::from(statuses.to_vec())));
        let bodies: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
        let seen = bodies.clone();
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, statuses.clone(), seen.clone()));
            }
        });
        Self { endpoint, bodies, _server: server }
    }

    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().expect("no test failed").clone()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies();
        let requests =
            bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.as_slice()).expect("OTLP"));
        let scopes =
            requests.flat_map(|request| request.resource_spans).flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

async fn serve(stream: TcpStream, statuses: Arc<Mutex<VecDeque<u16>>>, seen: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
                return;
            }
            if let Some(given) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = given.trim().parse().expect("a number");
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("the whole body");
        seen.lock().expect("no test failed").push(body);
        let status = statuses.lock().expect("no test failed").pop_front().unwrap_or(200);
        if status == SILENT {
            return std::future::pending().await;
        }
        let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n");
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

pub(crate) fn settings(endpoint: &str, sample_ratio: f64) -> TelemetrySettings {
    let otlp_endpoint = Some(endpoint.parse().expect("a URL"));
    TelemetrySettings { otlp_endpoint, sample_ratio, ..TelemetrySettings::default() }
}

/// The sending, and the subscriber that spans are made under.
pub(crate) fn telemetry(endpoint: &str, sample_ratio: f64) -> (Telemetry, impl Subscriber + Send + Sync) {
    let collector = Collector::resolve(&settings(endpoint, sample_ratio), |_| None);
    let collector = collector.expect("right").expect("somewhere");
    let (clock, ids) = (Arc::new(FixedClock::default()), Arc::new(SeededIds::new(9)));
    let (telemetry, layer) = Telemetry::start(collector, clock, ids).expect("a client");
    (telemetry, tracing_subscriber::registry().with(layer.with_filter(SpanLayer::filter())))
}
