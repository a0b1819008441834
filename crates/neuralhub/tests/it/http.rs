//! A small blocking HTTP/1.1 client for tests of the whole binary: one request
//! a connection, and an error when the server dies in between.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
}

impl Client {
    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> std::io::Result<Answer> {
        self.send("GET", path, headers, "")
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> std::io::Result<Answer> {
        self.send("POST", path, headers, &body.to_string())
    }

    /// The bytes of an object.
    pub(crate) fn send_text(&self, method: &str, path: &str, text: &str) -> std::io::Result<Answer> {
        let mut stream = self.open(method, path, "text/plain", &[], text.len())?;
        stream.write_all(text.as_bytes())?;
        read(stream)
    }

    pub(crate) fn delete(&self, path: &str) -> std::io::Result<Answer> {
        self.send("DELETE", path, &[], "")
    }

    /// A memory on each line.
    pub(crate) fn import(&self, lines: &str) -> std::io::Result<Answer> {
        let mut stream = self.begin_import(lines.len())?;
        stream.write_all(lines.as_bytes())?;
        read(stream)
    }

    /// An import whose body is still to come.
    pub(crate) fn begin_import(&self, body_bytes: usize) -> std::io::Result<TcpStream> {
        self.open("POST", "/v1/memory/import", "application/x-ndjson", &[], body_bytes)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Answer> {
        let mut stream = self.open(method, path, "application/json", headers, body.len())?;
        stream.write_all(body.as_bytes())?;
        read(stream)
    }

    fn open(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        headers: &[(&str, &str)],
        body_bytes: usize,
    ) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: Bearer {}\r\n\
             content-type: {content_type}\r\ncontent-length: {body_bytes}\r\n",
            self.address, self.key,
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{request}\r\n").as_bytes())?;
        Ok(stream)
    }
}

fn read(mut stream: TcpStream) -> std::io::Result<Answer> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&answer).ok_or_else(|| std::io::Error::other("the server stopped before it had answered"))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let body = if header("transfer-encoding").is_some() {
        // A stream that broke off keeps what came.
        unchunk(body)
    } else {
        let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        (body.len() >= length).then(|| body.to_owned())?
    };
    Some(Answer { status, body })
}

fn unchunk(mut rest: &str) -> String {
    let mut whole = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        let Some(chunk) = after.get(..size).filter(|_| size > 0) else { break };
        whole.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    whole
}
