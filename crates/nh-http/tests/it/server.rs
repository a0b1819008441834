//! A server that does exactly what a test says, also what no library would.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Request;
use nh_http::{Guard, HttpSettings, Limits, Outbound, Resolve, Resolving};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    requests: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// `serve` is called for each request with its text and the connection.
    pub(crate) async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(String, TcpStream) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (serve, seen) = (serve.clone(), Arc::clone(&seen));
                connections.spawn(async move {
                    let request = read_request(&mut stream).await;
                    seen.lock().unwrap().push(request.clone());
                    serve(request, stream).await;
                });
            }
        });
        Self { address, accepted, requests, _tasks: tasks }
    }

    /// Always the same bytes, then the end of the connection.
    pub(crate) async fn fixed(answer: impl Into<String>) -> Self {
        let answer = answer.into();
        Self::start(move |_, mut stream| {
            let answer = answer.clone();
            async move {
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Connections, whatever came over them.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

/// The head, and the body if there is a Content-Length.
pub(crate) async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                return text;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&chunk[..count]),
            _ended => return text,
        }
    }
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

pub(crate) fn redirect(status: u16, location: &str) -> String {
    format!("HTTP/1.1 {status} Go\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
}

/// Answers each look-up with the next of its answers, the last for ever.
pub(crate) struct Answers(Mutex<VecDeque<Vec<IpAddr>>>, Mutex<Vec<String>>);

impl Answers {
    pub(crate) fn new(answers: &[&[&str]]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(answers.iter().map(parse).collect()), Mutex::default()))
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.1.lock().unwrap().clone()
    }
}

impl Resolve for Answers {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        self.1.lock().unwrap().push(host.to_owned());
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.len() > 1 { answers.pop_front() } else { answers.front().cloned() };
        let found = answer.unwrap_or_default().into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Box::pin(async move { Ok(found) })
    }
}

/// Never answers.
pub(crate) struct Silence;

impl Resolve for Silence {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
        Box::pin(std::future::pending::<io::Result<Vec<SocketAddr>>>())
    }
}

pub(crate) fn allowing(networks: &[&str]) -> HttpSettings {
    HttpSettings { allow_networks: networks.iter().map(|network| network.parse().unwrap()).collect() }
}

/// A guarded client to which our own servers are allowed.
pub(crate) fn guarded(resolver: Arc<dyn Resolve>) -> Outbound {
    let guard = Guard::new(&allowing(&["127.0.0.1/32"]), Vec::new());
    Outbound::guarded_with(guard, resolver).unwrap()
}

pub(crate) fn get(url: &str) -> Request<Bytes> {
    Request::get(url).body(Bytes::new()).unwrap()
}

pub(crate) fn following(max_redirects: u32) -> Limits {
    Limits { max_redirects, ..Limits::default() }
}
