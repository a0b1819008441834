//! A provider that speaks OpenAI's protocol, on a port of its own, for tests of
//! what calls one. It answers like a friendly provider unless a reply was
//! scripted, and can fail in every way that providers do.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use futures_util::stream::{self, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What the upstream does with one request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole answer: status, headers, body; packed when the headers say gzip.
    Whole(u16, Vec<(&'static str, String)>, String),
    /// Status 200 and an event stream of these parts.
    Stream(Vec<Part>),
    /// Takes the request and never answers.
    Silent,
}

/// A part of an event stream.
#[derive(Clone, Debug)]
pub enum Part {
    /// `data: …` and an empty line.
    Data(String),
    /// Bytes as they are, in a piece of their own.
    Raw(Vec<u8>),
    /// The connection breaks.
    Cut,
    /// Nothing more comes, and the stream stays open.
    Hang,
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Whole(status, vec![("content-type", "application/json".to_owned())], body.to_string())
    }

    /// OpenAI's error body.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let error = json!({"message": message, "type": "error", "code": code, "param": null});
        Self::json(status, &json!({"error": error}))
    }

    pub fn with_header(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Whole(status, mut headers, body) => {
                headers.push((name, value.to_owned()));
                Self::Whole(status, headers, body)
            }
            other => other,
        }
    }

    /// The same answer to who asked for a stream, as OpenAI cuts it: a role, then
    /// the text in two pieces and the calls in two each, then the end and usage.
    fn streamed(self) -> Self {
        let Self::Whole(200, headers, text) = &self else { return self };
        let Ok(answer) = serde_json::from_str::<Value>(text) else { return self };
        if answer["object"] != "chat.completion" || headers.iter().any(|(name, _)| *name == "x-whole") {
            return self;
        }
        let choice = &answer["choices"][0];
        let mut chunks: Vec<Value> =
            deltas(&choice["message"]).into_iter().map(|delta| chunk(delta, None)).collect();
        chunks.push(chunk(json!({}), choice["finish_reason"].as_str()));
        let mut usage = chunk(json!({}), None);
        (usage["choices"], usage["usage"]) = (json!([]), answer["usage"].clone());
        chunks.push(usage);
        for chunk in &mut chunks {
            (chunk["id"], chunk["model"]) = (answer["id"].clone(), answer["model"].clone());
        }
        Self::chunks(&chunks).done()
    }

    /// Sent whole, whoever asks for a stream.
    pub fn always_whole(self) -> Self {
        self.with_header("x-whole", "yes")
    }

    /// A stream of JSON chunks, without `[DONE]`.
    pub fn chunks(chunks: &[Value]) -> Self {
        Self::Stream(chunks.iter().map(Part::json).collect())
    }

    pub fn then(self, part: Part) -> Self {
        match self {
            Self::Stream(mut parts) => {
                parts.push(part);
                Self::Stream(parts)
            }
            other => other,
        }
    }

    pub fn done(self) -> Self {
        self.then(Part::Data("[DONE]".to_owned()))
    }
}

impl Part {
    pub fn json(chunk: &Value) -> Self {
        Self::Data(chunk.to_string())
    }

    /// A comment line, as OpenRouter sends them.
    pub fn comment(text: &str) -> Self {
        Self::Raw(format!(": {text}\n\n").into_bytes())
    }
}

/// A chunk in OpenAI's form with one choice.
pub fn chunk(delta: Value, finish_reason: Option<&str>) -> Value {
    json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_770_379_200, "model": "mock-1",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
    })
}

/// A message in pieces.
fn deltas(message: &Value) -> Vec<Value> {
    let mut deltas = vec![json!({"role": "assistant", "content": null})];
    if let Some(refusal) = message["refusal"].as_str() {
        deltas.push(json!({"refusal": refusal}));
    }
    if let Some(text) = message["content"].as_str() {
        let half = text.floor_char_boundary(text.len() / 2);
        deltas.extend([json!({"content": text[..half]}), json!({"content": text[half..]})]);
    }
    for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let mut head = call.clone();
        let arguments = head["function"]["arguments"].take();
        let arguments = arguments.as_str().unwrap_or_default();
        let half = arguments.floor_char_boundary(arguments.len() / 2);
        head["index"] = json!(index);
        head["function"]["arguments"] = json!("");
        deltas.push(json!({"tool_calls": [head]}));
        for piece in [&arguments[..half], &arguments[half..]] {
            deltas.push(json!({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}));
        }
    }
    deltas
}

/// A request as the upstream saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    /// Null when the body is not JSON.
    pub body: Value,
}

/// The embedding of a text.
type Embed = fn(&str) -> Vec<f32>;

#[derive(Clone)]
struct Shared {
    script: Arc<Mutex<VecDeque<Reply>>>,
    listing: Arc<Mutex<Reply>>,
    embed: Arc<Mutex<Embed>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// How many replies were left by their client before they ended.
    abandoned: Arc<watch::Sender<usize>>,
}

/// A running mock provider; it ends when dropped.
pub struct Upstream {
    address: SocketAddr,
    shared: Shared,
    _server: JoinSet<()>,
}

impl Upstream {
    /// Serves `mock-1` and `mock-embed` on a free port of this machine.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Shared {
            script: Arc::default(),
            listing: Arc::new(Mutex::new(Reply::json(200, &models(&["mock-1", "mock-embed"])))),
            embed: Arc::new(Mutex::new(|_| vec![0.5, -1.0])),
            seen: Arc::default(),
            abandoned: Arc::new(watch::Sender::new(0)),
        };
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let _ends_with_the_test = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, _server: server })
    }

    /// What to write as a provider's `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Scripts the answer to the next call that is not `GET /models`.
    pub fn reply(&self, reply: Reply) {
        locked(&self.shared.script).push_back(reply);
    }

    /// What `GET /models` answers from now on.
    pub fn list(&self, reply: Reply) {
        *locked(&self.shared.listing) = reply;
    }

    /// What a text's embedding is from now on; until then all have the same.
    pub fn embed_by(&self, embed: Embed) {
        *locked(&self.shared.embed) = embed;
    }

    /// The calls so far, without those of `GET /models`.
    pub fn calls(&self) -> Vec<Seen> {
        self.seen(|path| !path.ends_with("/models"))
    }

    /// How often `GET /models` was asked.
    pub fn listings(&self) -> usize {
        self.seen(|path| path.ends_with("/models")).len()
    }

    fn seen(&self, is_meant: impl Fn(&str) -> bool) -> Vec<Seen> {
        locked(&self.shared.seen).iter().filter(|seen| is_meant(&seen.path)).cloned().collect()
    }

    /// Waits until a client has left a reply before its end.
    pub async fn abandoned(&self) {
        let mut count = self.shared.abandoned.subscribe();
        let _sender_lives = count.wait_for(|count| *count > 0).await;
    }
}

/// The `base_url` of a provider that refuses connections.
pub async fn refusing() -> io::Result<String> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    Ok(format!("http://{}/v1", listener.local_addr()?))
}

/// A provider that takes each request and closes the connection without a word.
pub struct Resetting {
    pub base_url: String,
    _server: JoinSet<()>,
}

impl Resetting {
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let base_url = format!("http://{}/v1", listener.local_addr()?);
        let mut server = JoinSet::new();
        server.spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let _whatever_came = connection.read(&mut buffer).await;
            }
        });
        Ok(Self { base_url, _server: server })
    }
}

/// A listing with these ids.
pub fn models(ids: &[&str]) -> Value {
    let data: Vec<Value> =
        ids.iter().map(|id| json!({"id": id, "object": "model", "created": 1, "owned_by": "mock"})).collect();
    json!({"object": "list", "data": data})
}

fn locked<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(State(shared): State<Shared>, request: Request<Body>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let path = head.uri.path().to_owned();
    let seen = Seen { method: head.method, path: path.clone(), headers: head.headers, body: body.clone() };
    locked(&shared.seen).push(seen);
    if path.ends_with("/models") {
        let listing = locked(&shared.listing).clone();
        return Ok(send(listing, &shared).await);
    }
    let scripted = locked(&shared.script).pop_front();
    let scripted = scripted.map(|reply| if body["stream"] == true { reply.streamed() } else { reply });
    let embed = *locked(&shared.embed);
    Ok(send(scripted.unwrap_or_else(|| friendly(&path, &body, embed)), &shared).await)
}

/// Counts a reply that is dropped before it ended.
struct Watched {
    abandoned: Arc<watch::Sender<usize>>,
    has_ended: bool,
}

impl Watched {
    fn note(&mut self, has_ended: bool) {
        self.has_ended |= has_ended;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.has_ended {
            self.abandoned.send_modify(|count| *count += 1);
        }
    }
}

async fn send(reply: Reply, shared: &Shared) -> Response<Body> {
    let mut watched = Watched { abandoned: shared.abandoned.clone(), has_ended: false };
    match reply {
        Reply::Whole(status, headers, body) => {
            watched.has_ended = true;
            let is_packed =
                headers.iter().any(|(name, value)| *name == "content-encoding" && value == "gzip");
            let body = if is_packed { packed(&body) } else { body.into_bytes() };
            let mut response = Response::new(Body::from(body));
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
            for (name, value) in headers {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    response.headers_mut().insert(HeaderName::from_static(name), value);
                }
            }
            response
        }
        Reply::Stream(parts) => {
            let mut response = Response::new(Body::from_stream(pieces(parts, watched)));
            let event_stream = HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert("content-type", event_stream);
            response
        }
        Reply::Silent => std::future::pending().await,
    }
}

fn pieces(parts: Vec<Part>, watched: Watched) -> impl Stream<Item = io::Result<Bytes>> {
    let mut watched = watched;
    let parts = stream::iter(parts).then(|part| async {
        match part {
            Part::Data(data) => Ok(Bytes::from(format!("data: {data}\n\n"))),
            Part::Raw(bytes) => Ok(Bytes::from(bytes)),
            Part::Cut => Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut")),
            Part::Hang => std::future::pending().await,
        }
    });
    let mut parts = Box::pin(parts);
    let mut may_pause = false;
    stream::poll_fn(move |context| {
        // Each part goes out in a piece of its own.
        may_pause = !may_pause;
        if may_pause {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let next = parts.as_mut().poll_next(context);
        watched.note(matches!(next, Poll::Ready(None | Some(Err(_)))));
        next
    })
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
    packed.unwrap_or_default()
}

/// What a provider without faults would say.
fn friendly(path: &str, body: &Value, embed: Embed) -> Reply {
    let usage = json!({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11});
    if path.ends_with("/embeddings") {
        let texts = body["input"].as_array().map_or(std::slice::from_ref(&body["input"]), Vec::as_slice);
        let item = |(index, text): (usize, &Value)| {
            let embedding = embed(text.as_str().unwrap_or_default());
            json!({"object": "embedding", "index": index, "embedding": embedding})
        };
        let data: Vec<Value> = texts.iter().enumerate().map(item).collect();
        return Reply::json(
            200,
            &json!({"object": "list", "data": data, "model": body["model"],
            "usage": {"prompt_tokens": 3, "total_tokens": 3}}),
        );
    }
    if body["stream"] == true {
        let mut last = chunk(json!({}), None);
        last["choices"] = json!([]);
        last["usage"] = usage;
        return Reply::chunks(&[
            chunk(json!({"role": "assistant", "content": ""}), None),
            chunk(json!({"content": "Hello"}), None),
            chunk(json!({"content": "!"}), None),
            chunk(json!({}), Some("stop")),
            last,
        ])
        .done();
    }
    Reply::json(
        200,
        &json!({
            "id": "chatcmpl-1", "object": "chat.completion", "created": 1_770_379_200, "model": "mock-1",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
            "usage": usage,
        }),
    )
}
