//! `neuralhub mcp`: the Model Context Protocol on stdio, for clients that start a program
//! instead of asking for an address. What is said here is said to the hub, message by
//! message, and its answers come back as they are.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::HeaderName;
use http::header::CONTENT_TYPE;
use nh_http::Response;
use nh_http::sse::{SseLimits, frames};
use serde_json::{Value, json};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader, Stdout, stdin, stdout};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

const PATH: &str = "/v1/mcp";
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Requests that the hub is asked at once; others wait for one of them.
const MAX_IN_FLIGHT: usize = 64;
/// Those and the others: then no more are read.
const MAX_WAITING: usize = 1024;
/// What is still to come when the client says no more.
const GRACE: Duration = Duration::from_secs(10);
const NO_ANSWER: &str = "the hub's answer ended before it was whole; what was called may go on";
/// JSON-RPC 2.0, section 5.1.
const PARSE_ERROR: i64 = -32700;
const INTERNAL_ERROR: i64 = -32603;

#[derive(Debug, Args)]
pub struct Mcp {
    #[command(flatten)]
    client: ClientArgs,
}

impl Mcp {
    pub async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        client.require_key()?;
        let bridge = Bridge::new(client);
        let mut lines = Lines::new(BufReader::new(stdin()));
        let mut answers = FuturesUnordered::new();
        let mut is_open = true;
        loop {
            // Once nobody asks any more, what is on its way has a while to come.
            let grace = async {
                if is_open { std::future::pending().await } else { tokio::time::sleep(GRACE).await }
            };
            tokio::select! {
                line = lines.next(), if is_open && answers.len() < MAX_WAITING => match line {
                    Ok(Some(Line::Whole(line))) if line.trim_ascii().is_empty() => {}
                    Ok(Some(Line::Whole(line))) => match Message::parse(line) {
                        Ok(message) => answers.push(bridge.answer(message)),
                        Err(error) => bridge.write(&error).await?,
                    },
                    Ok(Some(Line::TooLong)) => {
                        let told = format!("a message has more than {MAX_LINE_BYTES} bytes");
                        bridge.write(&error(None, PARSE_ERROR, &told)).await?;
                    }
                    Err(error) => {
                        return Err(anyhow::Error::new(error).context("stdin cannot be read").into());
                    }
                    Ok(None) => is_open = false,
                },
                Some(answered) = answers.next(), if !answers.is_empty() => answered?,
                () = grace, if !answers.is_empty() => return Ok(()),
                else => return Ok(()),
            }
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// Lines of a bounded length. One that is longer is passed over, and the next is read.
struct Lines<R> {
    reader: R,
    line: Vec<u8>,
    is_too_long: bool,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self { reader, line: Vec::new(), is_too_long: false }
    }

    /// None at the end. Whoever gives it up and asks again loses nothing.
    async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let bytes = self.reader.fill_buf().await?;
            let is_end = bytes.is_empty();
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let more = &bytes[..end.unwrap_or(bytes.len())];
            self.is_too_long |= self.line.len() + more.len() > MAX_LINE_BYTES;
            if self.is_too_long {
                self.line.clear();
            } else {
                self.line.extend_from_slice(more);
            }
            let read = end.map_or(bytes.len(), |end| end + 1);
            self.reader.consume(read);
            if end.is_some() || (is_end && (self.is_too_long || !self.line.is_empty())) {
                let line = std::mem::take(&mut self.line);
                return Ok(Some(match std::mem::take(&mut self.is_too_long) {
                    true => Line::TooLong,
                    false => Line::Whole(line),
                }));
            }
            if is_end {
                return Ok(None);
            }
        }
    }
}

/// One line of the client.
struct Message {
    value: Value,
    line: Vec<u8>,
}

impl Message {
    fn parse(line: Vec<u8>) -> Result<Self, Value> {
        match serde_json::from_slice(&line) {
            Ok(value) => Ok(Self { value, line }),
            Err(wrong) => Err(error(None, PARSE_ERROR, &format!("the message is not valid JSON: {wrong}"))),
        }
    }

    fn method(&self) -> &str {
        self.value["method"].as_str().unwrap_or_default()
    }

    /// Of a request; notifications have none.
    fn id(&self) -> Option<&Value> {
        self.value.get("id").filter(|_| !self.method().is_empty())
    }

    /// What goes into headers too (specification 2026-07-28, basic/transports, "Standard MCP
    /// Request Headers"). Before that revision it was the version alone, as agreed on in the
    /// handshake.
    fn headers(&self, agreed: Option<&str>) -> Vec<(HeaderName, String)> {
        let params = &self.value["params"];
        let named = |name: &'static str, value: String| (HeaderName::from_static(name), value);
        let own = params["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str();
        let mut headers = vec![
            named("accept", "application/json, text/event-stream".to_owned()),
            named("x-neuralhub-cancel-on-close", "true".to_owned()),
        ];
        if let Some(version) = own.or(agreed.filter(|_| self.method() != "initialize")) {
            headers.push(named("mcp-protocol-version", version.to_owned()));
        }
        if own.is_some() {
            headers.push(named("mcp-method", header_value(self.method())));
            let field = match self.method() {
                "tools/call" | "prompts/get" => "name",
                "resources/read" => "uri",
                "tasks/get" | "tasks/update" | "tasks/cancel" => "taskId",
                _ => return headers,
            };
            if let Some(name) = params[field].as_str() {
                headers.push(named("mcp-name", header_value(name)));
            }
        }
        headers
    }
}

/// What no header can carry as it is comes in base64, marked as the specification says.
fn header_value(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && text.trim() == text;
    if is_plain && !text.starts_with("=?base64?") {
        return text.to_owned();
    }
    format!("=?base64?{}?=", STANDARD.encode(text))
}

fn error(id: Option<&Value>, code: i64, message: &str) -> Value {
    let mut told = json!({"jsonrpc": "2.0", "error": {"code": code, "message": message}});
    if let Some(id) = id {
        told["id"] = id.clone();
    }
    told
}

fn is_answer(said: &Value) -> bool {
    said["jsonrpc"] == "2.0" && (said.get("result").is_some() || said.get("error").is_some())
}

struct Bridge {
    client: Client,
    /// The revision that was agreed on in a handshake.
    agreed: SyncMutex<Option<String>>,
    /// The requests that are being answered, numbered: a client may use an id twice.
    in_flight: SyncMutex<BTreeMap<u64, (Value, CancellationToken)>>,
    turns: Semaphore,
    out: Mutex<Stdout>,
}

impl Bridge {
    fn new(client: Client) -> Self {
        Self {
            client,
            agreed: SyncMutex::default(),
            in_flight: SyncMutex::default(),
            turns: Semaphore::new(MAX_IN_FLIGHT),
            out: Mutex::new(stdout()),
        }
    }

    /// Whatever goes wrong with one message is told as its answer; an error is the end.
    async fn answer(&self, message: Message) -> Result<(), Failure> {
        if message.method() == "notifications/cancelled" {
            // The hub hears of it by the end of the connection.
            let id = &message.value["params"]["requestId"];
            let in_flight = locked(&self.in_flight);
            in_flight.values().filter(|(known, _)| known == id).for_each(|(_, cancelled)| cancelled.cancel());
            return Ok(());
        }
        let cancelled = CancellationToken::new();
        let Some(id) = message.id().cloned() else {
            return match self.exchange(&message).await {
                Err(Failure::OutputClosed) => Err(Failure::OutputClosed),
                // Nobody waits for an answer.
                Err(failure) => {
                    output::note(format!("{} was not heard: {failure}", message.method()));
                    Ok(())
                }
                Ok(_) => Ok(()),
            };
        };
        let number = {
            let mut in_flight = locked(&self.in_flight);
            let number = in_flight.last_key_value().map_or(0, |(last, _)| last + 1);
            in_flight.insert(number, (id.clone(), cancelled.clone()));
            number
        };
        let answered = tokio::select! {
            answered = self.exchange(&message) => Some(answered),
            () = cancelled.cancelled() => None,
        };
        locked(&self.in_flight).remove(&number);
        match answered {
            None | Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => self.write(&error(Some(&id), INTERNAL_ERROR, NO_ANSWER)).await,
            Some(Err(Failure::OutputClosed)) => Err(Failure::OutputClosed),
            Some(Err(failure)) => self.write(&error(Some(&id), INTERNAL_ERROR, &failure.to_string())).await,
        }
    }

    /// Whether what came answers the message.
    async fn exchange(&self, message: &Message) -> Result<bool, Failure> {
        // It is never closed.
        let _turn = self.turns.acquire().await.map_err(anyhow::Error::new)?;
        let headers = message.headers(locked(&self.agreed).as_deref());
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
        let response = self.client.speak(PATH, message.line.clone(), &headers).await?;
        if response.header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return self.relay_stream(response, message).await;
        }
        let (status, bytes) = (response.status, response.bytes().await.map_err(anyhow::Error::new)?);
        if bytes.is_empty() && status.is_success() {
            return Ok(false);
        }
        let foreign = || format!("what answers at {}{PATH} ({status}) is not a hub", self.client.base());
        let mut answer: Value = serde_json::from_slice(&bytes).with_context(foreign)?;
        if !is_answer(&answer) {
            return Err(anyhow::anyhow!(foreign()).into());
        }
        if message.method() == "initialize" {
            *locked(&self.agreed) = answer["result"]["protocolVersion"].as_str().map(str::to_owned);
        }
        // What is refused before it is read bears no id.
        if let (Some(id), Some(answer)) = (message.id(), answer.as_object_mut()) {
            answer.entry("id").or_insert_with(|| id.clone());
        }
        self.write(&answer).await?;
        Ok(true)
    }

    async fn relay_stream(&self, response: Response, message: &Message) -> Result<bool, Failure> {
        let mut frames = std::pin::pin!(frames(response.body, SseLimits::default()));
        while let Some(frame) = frames.next().await {
            let frame = frame.map_err(anyhow::Error::new)?;
            if let Ok(said) = serde_json::from_str::<Value>(&frame.data) {
                self.write(&said).await?;
                if is_answer(&said) && said.get("id") == message.id() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// One message is one line.
    async fn write(&self, message: &Value) -> Result<(), Failure> {
        let mut out = self.out.lock().await;
        let line = format!("{message}\n");
        let written = async {
            out.write_all(line.as_bytes()).await?;
            out.flush().await
        };
        written.await.map_err(|_| Failure::OutputClosed)
    }
}

fn locked<T>(mutex: &SyncMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_costs_no_other() {
        let long = "x".repeat(MAX_LINE_BYTES + 1);
        let text = format!("first\n{long}\nlast");
        let mut lines = Lines::new(text.as_bytes());
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await.expect("readable") {
            seen.push(match line {
                Line::Whole(line) => String::from_utf8(line).expect("text"),
                Line::TooLong => "too long".to_owned(),
            });
        }
        assert_eq!(seen, ["first", "too long", "last"]);
    }

    #[test]
    fn what_is_in_headers_follows_from_the_message() {
        let of = |message: Value, agreed: Option<&str>| {
            let message = Message::parse(message.to_string().into_bytes()).expect("json");
            let headers = message.headers(agreed).into_iter().skip(2);
            headers.map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        let old = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"});
        assert_eq!(of(old.clone(), Some("2025-11-25")), ["mcp-protocol-version: 2025-11-25"]);
        assert!(of(old, None).is_empty());
        let new = |method: &str, field: &str, name: &str| {
            json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {field: name,
                "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}})
        };
        let told = |method: &str, name: &str| {
            let version = "mcp-protocol-version: 2026-07-28".to_owned();
            [version, format!("mcp-method: {method}"), format!("mcp-name: {name}")]
        };
        assert_eq!(of(new("tools/call", "name", "calculate"), None), told("tools/call", "calculate"));
        assert_eq!(of(new("tasks/get", "taskId", "1"), None), told("tasks/get", "1"));
        assert_eq!(of(new("resources/read", "uri", "é"), None), told("resources/read", "=?base64?w6k=?="));
        assert_eq!(of(new("tools/list", "name", "x"), None).len(), 2);
    }
}
