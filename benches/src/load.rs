//! A load of `in_flight` workers, each on its own kept-alive connection, each
//! sending its next request when the last one is answered; or at its time, if
//! the load has a pace, and a latency is then counted from that time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// The path of the request of this number; they are counted from 0.
pub type Paths = Arc<dyn Fn(u64) -> String + Send + Sync>;

/// The same path each time.
pub fn always(path: &str) -> Paths {
    let path = path.to_owned();
    Arc::new(move |_| path.clone())
}

#[derive(Clone)]
pub struct Load {
    pub address: SocketAddr,
    pub method: Method,
    pub path: Paths,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub in_flight: usize,
    pub expect: StatusCode,
    /// So many requests a second altogether; None: as many as are answered.
    pub per_second: Option<f64>,
}

pub struct Loaded {
    pub requests: u64,
    pub seconds: f64,
    /// Sorted.
    pub latencies: Vec<Duration>,
}

impl Loaded {
    pub fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }

    /// `quantile` from 0 to 1.
    pub fn latency_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latencies, quantile)
    }
}

/// Of sorted latencies; `quantile` from 0 to 1.
pub fn quantile_ms(sorted: &[Duration], quantile: f64) -> f64 {
    let index = ((sorted.len() as f64 - 1.0) * quantile).round().max(0.0) as usize;
    sorted.get(index).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1000.0)
}

impl Load {
    /// Drives the load for about `seconds`. An answer with another status than
    /// the expected one ends it with an error.
    pub async fn run(&self, seconds: f64) -> anyhow::Result<Loaded> {
        let requests = Arc::new(AtomicU64::new(0));
        let begun = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(seconds);
        let mut workers = tokio::task::JoinSet::new();
        let mut turns = Vec::new();
        for _ in 0..self.in_flight {
            let (turn, due) = mpsc::unbounded_channel();
            turns.push(turn);
            workers.spawn(self.clone().work(
                self.per_second.is_some().then_some(due),
                until,
                begun.clone(),
                requests.clone(),
            ));
        }
        if let Some(rate) = self.per_second {
            std::thread::spawn(move || pace(&turns, started, until, rate));
        }
        let mut latencies = Vec::new();
        while let Some(worker) = workers.join_next().await {
            latencies.extend(worker??);
        }
        latencies.sort_unstable();
        let seconds = started.elapsed().as_secs_f64();
        Ok(Loaded { requests: requests.load(Ordering::Relaxed), seconds, latencies })
    }

    /// `due`: when each request is to go out.
    async fn work(
        self,
        mut due: Option<mpsc::UnboundedReceiver<Instant>>,
        until: Instant,
        begun: Arc<AtomicU64>,
        requests: Arc<AtomicU64>,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut connection = Connection::open(self.address).await?;
        let mut latencies = Vec::new();
        while Instant::now() < until {
            let from = match &mut due {
                None => Instant::now(),
                Some(due) => match due.recv().await {
                    Some(due) => due,
                    None => break,
                },
            };
            let path = (self.path)(begun.fetch_add(1, Ordering::Relaxed));
            let (status, body) = connection.ask(&self.request(&path)).await?;
            latencies.push(from.elapsed());
            if status != self.expect {
                bail!("{path} answered {status}: {}", String::from_utf8_lossy(body));
            }
            requests.fetch_add(1, Ordering::Relaxed);
        }
        Ok(latencies)
    }

    fn request(&self, path: &str) -> Vec<u8> {
        let length = self.body.len() as u64;
        let head = request_head(&self.method, path, self.address, &self.headers, length);
        [head.as_bytes(), &self.body].concat()
    }
}

/// What comes before a body of so many bytes.
pub fn request_head(
    method: &Method,
    path: &str,
    address: SocketAddr,
    headers: &[(String, String)],
    length: u64,
) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\n{headers}content-length: {length}\r\n\r\n")
}

/// One that is kept alive.
pub struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting to the server")?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request; the answer's status and body.
    pub async fn ask(&mut self, request: &[u8]) -> anyhow::Result<(StatusCode, &[u8])> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let (status, body) = read_answer(&mut self.stream, &mut self.answer).await?;
        Ok((status, &self.answer[body..]))
    }
}

/// One answer of HTTP/1.1 into `answer`: its status, and where its body begins.
/// By hand: a client library takes as much of the processor as the servers that
/// are measured.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> anyhow::Result<(StatusCode, usize)> {
    loop {
        ensure!(stream.read_buf(answer).await? > 0, "the server hung up");
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(body) = head.parse(answer)? else { continue };
        let status = StatusCode::from_u16(head.code.unwrap_or_default())?;
        let length = head.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = length.context("the answer has no content-length")?;
        let end = body + std::str::from_utf8(length.value)?.parse::<usize>()?;
        while answer.len() < end {
            ensure!(stream.read_buf(answer).await? > 0, "the server hung up in the middle of an answer");
        }
        return Ok((status, body));
    }
}

/// Gives the workers their turns, one after the other. On a thread of its own:
/// tokio's timers are a millisecond late.
#[allow(clippy::disallowed_methods, reason = "this thread may sleep")]
fn pace(turns: &[mpsc::UnboundedSender<Instant>], started: Instant, until: Instant, per_second: f64) {
    for (number, turn) in turns.iter().cycle().enumerate() {
        let due = started + Duration::from_secs_f64(number as f64 / per_second);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if due >= until || turn.send(due).is_err() {
            return;
        }
    }
}
