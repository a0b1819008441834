//! What nginx and the hub are both before: a provider of models that costs next
//! to nothing, and that counts what it answered.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

/// Chunks of a stream that say something.
pub const CHUNKS: u32 = 50;

/// Frames of a stream: its chunks, the usage, and `[DONE]`.
pub const FRAMES: usize = CHUNKS as usize + 2;

pub const INTERVAL: Duration = Duration::from_millis(5);

pub const PLAIN_PATH: &str = "/v1/chat/completions";

/// A GET here answers with what was counted.
pub const COUNT_PATH: &str = "/count";

/// How the chunks of a stream follow each other; each is a model of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// One each [`INTERVAL`], the first at once.
    Steady,
    /// One after the other, each in a write of its own.
    AtOnce,
    /// All in as few writes as they take.
    OneWrite,
}

impl Pace {
    pub const EVERY: [Pace; 3] = [Pace::Steady, Pace::AtOnce, Pace::OneWrite];

    pub fn model(self) -> &'static str {
        match self {
            Pace::Steady => "bench",
            Pace::AtOnce => "bench-at-once",
            Pace::OneWrite => "bench-one-write",
        }
    }

    fn of_model(model: &str) -> Self {
        Pace::EVERY.into_iter().find(|pace| pace.model() == model).unwrap_or(Pace::Steady)
    }
}

/// What it always answers where no stream is asked for.
const ANSWER: &str = r#"{"id":"chatcmpl-1","object":"chat.completion","created":1760000000,"model":"bench","choices":[{"index":0,"message":{"role":"assistant","content":"The internet started in the 1960s with ARPANET, a network of the United States Department of Defense."},"finish_reason":"stop"}],"usage":{"prompt_tokens":27,"completion_tokens":24,"total_tokens":51}}"#;

#[derive(Default)]
struct Served {
    plain: AtomicU64,
    streams: AtomicU64,
    /// To their last frame.
    whole_streams: AtomicU64,
    /// Whose client went away.
    left_streams: AtomicU64,
}

/// Serves on `address` until the process is ended.
pub async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let served = Arc::<Served>::default();
    let frames: Arc<[Bytes]> = frames().into();
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (served, frames) = (served.clone(), frames.clone());
        let service = service_fn(move |request| answer(request, served.clone(), frames.clone()));
        let connection = hyper::server::conn::http1::Builder::new();
        connections.spawn(connection.serve_connection(TokioIo::new(stream), service));
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    served: Arc<Served>,
    frames: Arc<[Bytes]>,
) -> Result<Response<Either<Full<Bytes>, Stream>>, hyper::Error> {
    if request.method() != Method::POST {
        let body = if request.uri().path() == COUNT_PATH { counted(&served) } else { no_models() };
        return Ok(as_json(Bytes::from(body.to_string())));
    }
    let body = request.into_body().collect().await?.to_bytes();
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    if asked["stream"] != true {
        served.plain.fetch_add(1, Ordering::Relaxed);
        return Ok(as_json(Bytes::from_static(ANSWER.as_bytes())));
    }
    served.streams.fetch_add(1, Ordering::Relaxed);
    let pace = Pace::of_model(asked["model"].as_str().unwrap_or_default());
    let stream = Stream { frames, sent: 0, pace, has_waited: true, timer: None, served };
    let mut answer = Response::new(Either::Right(stream));
    let of_events = header::HeaderValue::from_static("text/event-stream");
    answer.headers_mut().insert(header::CONTENT_TYPE, of_events);
    Ok(answer)
}

fn as_json(body: Bytes) -> Response<Either<Full<Bytes>, Stream>> {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    let of_json = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, of_json);
    answer
}

fn counted(served: &Served) -> Value {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    json!({"plain": count(&served.plain), "streams": count(&served.streams),
        "whole_streams": count(&served.whole_streams), "left_streams": count(&served.left_streams)})
}

/// The hub is told of the models in its configuration.
fn no_models() -> Value {
    json!({"object": "list", "data": []})
}

/// All frames of a stream, as OpenAI has them.
fn frames() -> Vec<Bytes> {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000,
            "model": "bench", "system_fingerprint": "fp_44709d6fcb", "choices": choices, "usage": usage});
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let words = |number: u32| {
        let delta = match number {
            1 => json!({"role": "assistant", "content": "The"}),
            number => json!({"content": format!(" word{number}")}),
        };
        let finish_reason = if number == CHUNKS { json!("stop") } else { Value::Null };
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        chunk(json!([choice]), Value::Null)
    };
    let usage = json!({"prompt_tokens": 27, "completion_tokens": CHUNKS, "total_tokens": 27 + CHUNKS});
    let last = [chunk(json!([]), usage), Bytes::from_static(b"data: [DONE]\n\n")];
    (1..=CHUNKS).map(words).chain(last).collect()
}

/// A stream that is under way.
struct Stream {
    frames: Arc<[Bytes]>,
    sent: usize,
    pace: Pace,
    /// Whether the next chunk need not wait for its turn any more.
    has_waited: bool,
    /// When the next chunk of a steady stream is due.
    timer: Option<Pin<Box<Sleep>>>,
    served: Arc<Served>,
}

impl Stream {
    /// Whether the next frame may go. What comes after the chunks does not wait.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.sent == 0 || self.sent >= CHUNKS as usize {
            return Poll::Ready(());
        }
        match self.pace {
            Pace::OneWrite => Poll::Ready(()),
            Pace::AtOnce if std::mem::replace(&mut self.has_waited, true) => Poll::Ready(()),
            // What is there is written when a body has nothing for now.
            Pace::AtOnce => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Pace::Steady => match &mut self.timer {
                Some(timer) => timer.as_mut().poll(context),
                None => Poll::Ready(()),
            },
        }
    }

    /// From when the chunk before was due, so that a late one makes none of the others late.
    fn set_timer(&mut self) {
        match &mut self.timer {
            Some(timer) => {
                let due = timer.deadline() + INTERVAL;
                timer.as_mut().reset(due);
            }
            None => self.timer = Some(Box::pin(tokio::time::sleep_until(Instant::now() + INTERVAL))),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.sent < self.frames.len() {
            self.served.left_streams.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.poll_turn(context));
        let Some(frame) = self.frames.get(self.sent).cloned() else { return Poll::Ready(None) };
        self.sent += 1;
        self.has_waited = false;
        if self.pace == Pace::Steady {
            self.set_timer();
        }
        if self.sent == self.frames.len() {
            self.served.whole_streams.fetch_add(1, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(Frame::data(frame))))
    }
}
