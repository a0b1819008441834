//! `POST /v1/resources/{id}/exec`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use encoding_rs::{Decoder, UTF_8};
use futures_util::stream;
use nh_compute::{Executing, Said, What, Work};
use nh_types::sandbox::{ExecuteInSandbox, Execution};
use nh_types::{ApiError, ErrorCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::parse;
use crate::app::App;
use crate::auth::{Auth, ResourcesWrite};
use crate::event_stream::OpenStream;
use crate::failure::{Answer, Failure};
use crate::json::Json as JsonBody;
use crate::routes::chat::event_stream;

/// Of text in one event: clients bound what they take.
const PIECE_BYTES: usize = 32 * 1024;
/// A comment goes out after so long without an event.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Run code or a command in a sandbox. With `stream`, what it says comes as it says it:
/// events `stdout`, `stderr`, `artifact`, and `end` (or `error`) as the last.
#[utoipa::path(post, path = "/v1/resources/{id}/exec", tag = "Compute", request_body = ExecuteInSandbox,
    params(("id" = String, Path)),
    security(("bearer" = ["resources:write"]), ("session" = ["resources:write"])),
    responses((status = 200, description = "How it ended, and what it said; or its events", content(
            (Execution = "application/json"), (String = "text/event-stream"))),
        (status = 409, description = "The sandbox has ended", body = nh_types::ErrorBody),
        (status = 429, description = "Too much waits in this sandbox", body = nh_types::ErrorBody)))]
pub(crate) async fn execute(
    auth: Auth<ResourcesWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    JsonBody(body, room): JsonBody<ExecuteInSandbox>,
) -> Answer<Response> {
    let (id, is_stream) = (parse(&id)?, body.stream);
    let open = is_stream.then(|| app.event_streams.open(&auth.workspace_id)).transpose()?;
    let executing = app.hub.compute.execute(&auth.workspace_id, &id, work(body)?).await?;
    // It may go on for a day; what it is was handed on.
    drop(room);
    match open {
        None => Ok(Json(executing.whole().await?).into_response()),
        Some(open) => Ok(events(executing, open)),
    }
}

fn work(body: ExecuteInSandbox) -> Answer<Work> {
    let ExecuteInSandbox { language, code, command, stdin, timeout_seconds, stream: _ } = body;
    let wrong = |param: &str, message: &str| -> Failure {
        ApiError::new(ErrorCode::InvalidRequest, message).param(param).into()
    };
    let what = match (language, code, command) {
        (Some(language), Some(code), None) => What::Code(language, code),
        (None, None, Some(command)) if !command.is_empty() => What::Command(command),
        (None, None, Some(_)) => {
            return Err(wrong("command", "`command` is empty; it is a program and its arguments"));
        }
        (Some(_), None, None) => {
            return Err(wrong("code", "`code` is missing: what is to run in `language`"));
        }
        (None, Some(_), None) => {
            return Err(wrong("language", "`language` is missing: `python`, `nodejs` or `bash`"));
        }
        (None, None, None) => {
            return Err(wrong("code", "there is nothing to run: give `language` and `code`, or `command`"));
        }
        (_, _, Some(_)) => {
            return Err(wrong("command", "give `language` and `code`, or `command`, not both"));
        }
    };
    Ok(Work { what, stdin, timeout_seconds })
}

struct Events {
    executing: Executing,
    out: Decoder,
    error: Decoder,
    is_over: bool,
    _open: OpenStream,
}

fn events(executing: Executing, open: OpenStream) -> Response {
    let decoder = || UTF_8.new_decoder_without_bom_handling();
    let events = Events { executing, out: decoder(), error: decoder(), is_over: false, _open: open };
    let frames = stream::unfold(events, |mut events| async move {
        let frame = events.next().await?;
        Some((Ok::<_, Infallible>(frame), events))
    });
    event_stream(Body::from_stream(frames))
}

impl Events {
    async fn next(&mut self) -> Option<Bytes> {
        while !self.is_over {
            let Ok(said) = tokio::time::timeout(KEEP_ALIVE, self.executing.next()).await else {
                return Some(Bytes::from_static(b": keep-alive\n\n"));
            };
            let frame = match said {
                Ok(Said::Out(bytes)) => text("stdout", &mut self.out, &bytes),
                Ok(Said::Error(bytes)) => text("stderr", &mut self.error, &bytes),
                Ok(Said::Artifact(artifact)) => Some(event("artifact", &artifact).into()),
                Ok(Said::Ended(execution)) => {
                    self.is_over = true;
                    Some(event("end", &ended(&execution)).into())
                }
                Err(error) => {
                    self.is_over = true;
                    let failure = Failure::from(error);
                    if failure.error.code.status() >= 500 {
                        tracing::error!(cause = failure.chain(), "a stream of a sandbox failed");
                    }
                    Some(event("error", &failure.error.body(None)).into())
                }
            };
            if frame.is_some() {
                return frame;
            }
        }
        None
    }
}

/// Without what was said before, which came in events of its own.
fn ended(execution: &Execution) -> Value {
    json!({
        "exit_code": execution.exit_code,
        "duration_ms": execution.duration_ms,
        "truncated": execution.truncated,
        "killed": execution.killed,
        "state_reset": execution.state_reset,
    })
}

/// None: what came is the beginning of a character.
fn text(name: &str, decoder: &mut Decoder, bytes: &[u8]) -> Option<Bytes> {
    let mut events = String::new();
    for piece in bytes.chunks(PIECE_BYTES) {
        let room = decoder.max_utf8_buffer_length(piece.len()).unwrap_or(3 * piece.len() + 3);
        let mut text = String::with_capacity(room);
        let _ = decoder.decode_to_string(piece, &mut text, false);
        if !text.is_empty() {
            events.push_str(&event(name, &json!({"text": text})));
        }
    }
    (!events.is_empty()).then(|| events.into())
}

/// As the HTML standard has it, section 9.2.6: JSON has no line breaks.
fn event(name: &str, data: &impl Serialize) -> String {
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n")
}
