//! `neuralhub mcp`: the Model Context Protocol on stdio, for clients that start a program
//! instead of asking for an address. What is said here is said to the hub, message by
//! message, and its answers come back as they are.

use std::collections::HashMap;
use std::sync::Mutex as SyncMutex;
use std::sync::PoisonError;

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
use tokio::io::{AsyncWriteExt, Stdout, stdin, stdout};
use tokio::sync::Mutex;
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::sync::CancellationToken;

use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;

const PATH: &str = "/v1/mcp";
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;
/// Requests that are answered at once; others wait for one of them.
const MAX_IN_FLIGHT: usize = 64;
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
        let mut lines = FramedRead::new(stdin(), LinesCodec::new_with_max_length(MAX_LINE_BYTES));
        let mut answers = FuturesUnordered::new();
        let mut is_open = true;
        loop {
            tokio::select! {
                line = lines.next(), if is_open && answers.len() < MAX_IN_FLIGHT => match line {
                    Some(Ok(line)) if line.trim().is_empty() => {}
                    Some(Ok(line)) => match Message::parse(line) {
                        Ok(message) => answers.push(bridge.answer(message)),
                        Err(error) => bridge.write(&error).await?,
                    },
                    Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
                        let told = format!("a message has more than {MAX_LINE_BYTES} bytes");
                        bridge.write(&error(None, PARSE_ERROR, &told)).await?;
                    }
                    Some(Err(LinesCodecError::Io(error))) => {
                        return Err(anyhow::Error::new(error).context("stdin cannot be read").into());
                    }
                    None => is_open = false,
                },
                Some(answered) = answers.next(), if !answers.is_empty() => answered?,
                else => return Ok(()),
            }
        }
    }
}

/// One line of the client.
struct Message {
    value: Value,
    line: String,
}

impl Message {
    fn parse(line: String) -> Result<Self, Value> {
        match serde_json::from_str(&line) {
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
        let mut headers = vec![named("accept", "application/json, text/event-stream".to_owned())];
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

struct Bridge {
    client: Client,
    /// The revision that was agreed on in a handshake.
    agreed: SyncMutex<Option<String>>,
    /// The requests that are being answered, by their ids.
    in_flight: SyncMutex<HashMap<String, CancellationToken>>,
    out: Mutex<Stdout>,
}

impl Bridge {
    fn new(client: Client) -> Self {
        Self {
            client,
            agreed: SyncMutex::default(),
            in_flight: SyncMutex::default(),
            out: Mutex::new(stdout()),
        }
    }

    /// Whatever goes wrong with one message is told as its answer; an error is the end.
    async fn answer(&self, message: Message) -> Result<(), Failure> {
        if message.method() == "notifications/cancelled" {
            // The hub hears of it by the end of the connection.
            let id = message.value["params"]["requestId"].to_string();
            if let Some(cancelled) = locked(&self.in_flight).remove(&id) {
                cancelled.cancel();
            }
            return Ok(());
        }
        let cancelled = CancellationToken::new();
        let id = message.id().map(Value::to_string);
        if let Some(id) = &id {
            locked(&self.in_flight).insert(id.clone(), cancelled.clone());
        }
        let answered = tokio::select! {
            answered = self.exchange(&message) => answered,
            () = cancelled.cancelled() => return Ok(()),
        };
        if let Some(id) = &id {
            locked(&self.in_flight).remove(id);
        }
        match (answered, message.id()) {
            (Err(Failure::OutputClosed), _) => Err(Failure::OutputClosed),
            (Err(failure), Some(id)) => {
                self.write(&error(Some(id), INTERNAL_ERROR, &failure.to_string())).await
            }
            _ => Ok(()),
        }
    }

    async fn exchange(&self, message: &Message) -> Result<(), Failure> {
        let headers = message.headers(locked(&self.agreed).as_deref());
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
        let response = self.client.speak(PATH, message.line.clone(), &headers).await?;
        if response.header(CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return self.relay_stream(response).await;
        }
        let (status, bytes) = (response.status, response.bytes().await.map_err(anyhow::Error::new)?);
        if bytes.is_empty() {
            return Ok(());
        }
        let mut answer: Value = serde_json::from_slice(&bytes).with_context(|| {
            format!("what answers at {}{PATH} ({status}) is not a hub", self.client.base())
        })?;
        if message.method() == "initialize" {
            *locked(&self.agreed) = answer["result"]["protocolVersion"].as_str().map(str::to_owned);
        }
        // What is refused before it is read bears no id.
        if let (Some(id), Some(answer)) = (message.id(), answer.as_object_mut()) {
            answer.entry("id").or_insert_with(|| id.clone());
        }
        self.write(&answer).await
    }

    async fn relay_stream(&self, response: Response) -> Result<(), Failure> {
        let mut frames = std::pin::pin!(frames(response.body, SseLimits::default()));
        while let Some(frame) = frames.next().await {
            let frame = frame.map_err(anyhow::Error::new)?;
            if let Ok(message) = serde_json::from_str::<Value>(&frame.data) {
                self.write(&message).await?;
            }
        }
        Ok(())
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

    #[test]
    fn what_is_in_headers_follows_from_the_message() {
        let of = |message: Value, agreed: Option<&str>| {
            let message = Message::parse(message.to_string()).expect("json");
            let headers = message.headers(agreed).into_iter().skip(1);
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
