//! The listener, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use nh_server::{App, ServerSettings};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::app::TestApp;
use crate::runs::calculation;

struct Served {
    app: TestApp,
    address: SocketAddr,
    server: JoinHandle<std::io::Result<()>>,
}

#[allow(clippy::disallowed_methods)] // the test itself waits for the task
fn spawn(listener: TcpListener, app: Arc<App>) -> JoinHandle<std::io::Result<()>> {
    tokio::spawn(nh_server::serve(listener, app))
}

async fn served(settings: ServerSettings) -> Served {
    let app = TestApp::with(settings, Vec::new()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
    let address = listener.local_addr().expect("address");
    let server = spawn(listener, app.app.clone());
    Served { app, address, server }
}

impl Served {
    async fn open(&self, request: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("sent");
        stream
    }

    /// Everything that comes until the hub closes.
    async fn send(&self, request: &str) -> String {
        read(self.open(request).await).await
    }

    async fn stop(self) {
        self.app.stopping.cancel();
        self.server.await.expect("ended").expect("served");
    }
}

async fn read(mut stream: TcpStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.expect("read");
    String::from_utf8_lossy(&text).into_owned()
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{more}\r\n")
}

#[tokio::test]
async fn it_serves_and_drains() {
    let served = served(ServerSettings::default()).await;
    let answer = served.send(&get("/healthz", "connection: close\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // An idle connection does not hold the end up.
    let idle = served.open("").await;
    let mut kept = served.open(&get("/healthz", "")).await;
    let mut start = [0; 15];
    kept.read_exact(&mut start).await.expect("answer");
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    served.stop().await;
    assert_eq!(read(idle).await, "");
    assert!(read(kept).await.ends_with("{\"status\":\"ok\"}"));
}

#[tokio::test]
async fn waits_and_streams_end_when_the_hub_stops() {
    let served = served(ServerSettings::default()).await;
    let run = calculation(json!({})).to_string();
    let key = format!("authorization: Bearer {}\r\n", served.app.key);
    let head = format!("POST /v1/run HTTP/1.1\r\nhost: localhost\r\n{key}content-type: application/json\r\n");
    let answer =
        served.send(&format!("{head}content-length: {}\r\nconnection: close\r\n\r\n{run}", run.len())).await;
    assert!(answer.contains("\"state\":\"SUCCESS\""), "{answer}");
    served.stop().await;
}

#[tokio::test]
async fn headers_have_bounds() {
    let served = served(ServerSettings { header_timeout_ms: 100, ..Default::default() }).await;
    let huge = served.send(&get("/healthz", &format!("x: {}\r\n", "a".repeat(64 * 1024)))).await;
    assert!(huge.starts_with("HTTP/1.1 431"), "{huge}");
    let many = served.send(&get("/healthz", &"x: y\r\n".repeat(200))).await;
    assert!(many.starts_with("HTTP/1.1 431"), "{many}");
    let slow = served.send("GET /healthz HTTP/1.1\r\nhost: local").await;
    assert!(!slow.contains("200 OK"), "{slow}");
    let smuggled =
        "POST /v1/keys HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!";
    assert!(served.send(smuggled).await.starts_with("HTTP/1.1 400"));
    served.stop().await;
}

#[tokio::test]
async fn more_connections_than_allowed_wait_their_turn() {
    let served = served(ServerSettings { max_connections: 1, ..Default::default() }).await;
    let first = served.open(&get("/healthz", "")).await;
    let second = served.open(&get("/healthz", "connection: close\r\n")).await;
    drop(first);
    assert!(read(second).await.contains("200 OK"));
    served.stop().await;
}
