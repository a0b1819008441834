//! A load of streams: so many at once, each on its own kept-alive connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::load::{quantile_ms, request_head};

#[derive(Clone)]
pub struct StreamLoad {
    pub address: SocketAddr,
    pub path: &'static str,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
    pub at_once: usize,
    /// The streams begin one after the other within this, so that they do not all go in step.
    pub begin_within: Duration,
    /// Of a whole stream; one that has fewer is an error.
    pub frames: usize,
}

pub struct Streamed {
    pub streams: usize,
    pub seconds: f64,
    /// From the request to the first frame; sorted.
    pub first_frames: Vec<Duration>,
}

impl Streamed {
    pub fn per_second(&self) -> f64 {
        self.streams as f64 / self.seconds
    }

    /// `quantile` from 0 to 1.
    pub fn first_frame_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.first_frames, quantile)
    }
}

impl StreamLoad {
    /// Begins streams for about `seconds`, and reads all of them to their ends.
    pub async fn run(&self, seconds: f64) -> anyhow::Result<Streamed> {
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(seconds);
        let mut workers = JoinSet::new();
        for number in 0..self.at_once {
            let wait = self.begin_within.mul_f64(number as f64 / self.at_once as f64);
            workers.spawn(self.clone().work(wait, until));
        }
        let mut first_frames = Vec::new();
        while let Some(worker) = workers.join_next().await {
            first_frames.extend(worker??);
        }
        first_frames.sort_unstable();
        let seconds = started.elapsed().as_secs_f64();
        Ok(Streamed { streams: first_frames.len(), seconds, first_frames })
    }

    /// Begins a stream and hangs up as soon as its first bytes are here.
    pub async fn leave(&self) -> anyhow::Result<()> {
        let mut connection = Connection::open(self.address).await?;
        let length = self.body.len() as u64;
        let head = request_head(&Method::POST, self.path, self.address, &self.headers, length);
        connection.stream.write_all(&[head.as_bytes(), &self.body].concat()).await?;
        connection.head().await.map(drop)
    }

    async fn work(self, wait: Duration, until: Instant) -> anyhow::Result<Vec<Duration>> {
        tokio::time::sleep(wait).await;
        let mut connection = Connection::open(self.address).await?;
        let length = self.body.len() as u64;
        let head = request_head(&Method::POST, self.path, self.address, &self.headers, length);
        let request = [head.as_bytes(), &self.body].concat();
        let mut first_frames = Vec::new();
        while Instant::now() < until {
            first_frames.push(connection.ask(&request, self.frames).await?);
        }
        Ok(first_frames)
    }
}

/// One that is kept alive. Its answers are read by hand, as in [`crate::load`].
struct Connection {
    stream: TcpStream,
    /// What was received of this answer.
    received: Vec<u8>,
    /// So much of it is taken apart.
    taken: usize,
    /// Without HTTP's own chunks.
    body: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.context("connecting to the server")?;
        stream.set_nodelay(true)?;
        let buffer = || Vec::with_capacity(64 * 1024);
        Ok(Self { stream, received: buffer(), taken: 0, body: buffer() })
    }

    /// Reads a stream to its end; how long its first frame took.
    async fn ask(&mut self, request: &[u8], frames: usize) -> anyhow::Result<Duration> {
        let from = Instant::now();
        self.stream.write_all(request).await?;
        self.received.clear();
        self.body.clear();
        self.taken = self.head().await?;
        let mut first = None;
        loop {
            let has_ended = self.take_chunks()?;
            if first.is_none() && !self.body.is_empty() {
                first = Some(from.elapsed());
            }
            if has_ended {
                break;
            }
            self.receive().await?;
        }
        self.check(frames)?;
        first.context("the stream was empty")
    }

    /// Where the body begins.
    async fn head(&mut self) -> anyhow::Result<usize> {
        loop {
            self.receive().await?;
            let mut headers = [httparse::EMPTY_HEADER; 32];
            let mut head = httparse::Response::new(&mut headers);
            let httparse::Status::Complete(body) = head.parse(&self.received)? else { continue };
            let status = head.code.unwrap_or_default();
            if status != StatusCode::OK.as_u16() {
                bail!("a stream was answered with {status}: {}", String::from_utf8_lossy(&self.received));
            }
            return Ok(body);
        }
    }

    async fn receive(&mut self) -> anyhow::Result<()> {
        let count = self.stream.read_buf(&mut self.received).await?;
        ensure!(count > 0, "the server hung up in the middle of a stream");
        Ok(())
    }

    /// What has come whole of HTTP's chunks; whether the last one has.
    fn take_chunks(&mut self) -> anyhow::Result<bool> {
        loop {
            let rest = &self.received[self.taken..];
            let size = httparse::parse_chunk_size(rest).ok().context("a chunk has no size")?;
            let httparse::Status::Complete((from, size)) = size else { return Ok(false) };
            let to = from + usize::try_from(size)?;
            let Some(chunk) = rest.get(from..to).filter(|_| rest.len() >= to + 2) else { return Ok(false) };
            self.body.extend_from_slice(chunk);
            self.taken += to + 2;
            if size == 0 {
                return Ok(true);
            }
        }
    }

    /// What is between the frames are comments, such as that the upstream lives.
    fn check(&self, frames: usize) -> anyhow::Result<()> {
        let lines = self.body.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"data: ")).count();
        let is_whole = lines == frames && self.body.ends_with(b"data: [DONE]\n\n");
        ensure!(is_whole, "a stream is not whole: {}", String::from_utf8_lossy(&self.body));
        Ok(())
    }
}
