//! The server of the Model Context Protocol behind `/v1/mcp`, on the official SDK.
//!
//! Nothing is kept between requests: each comes with its key and is answered by a
//! [`Server`] of its own. What there is to call comes from the one catalogue
//! ([`nh_agents::Catalogue`]), and a call is a run as any other (`call.rs`). All five
//! revisions of the protocol are spoken; the SDK tells them apart.

mod call;
mod envelope;
#[cfg(debug_assertions)]
mod fixtures;
mod progress;
mod prompts;
mod resources;
mod server;
mod shown;
mod tasks;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use nh_agents::MAX_WAIT_SECONDS;
use nh_types::{ApiError, ErrorCode};
use rmcp::model::JsonRpcError;
use rmcp::transport::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{SessionManager, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use serde_json::json;

use crate::app::App;
use crate::auth::Principal;
use crate::body_room::Room;
use crate::failure::{Answer, Failure};
use server::Server;
pub(crate) use shown::tool;

pub(crate) const PATH: &str = "/v1/mcp";
/// The newest revision that is spoken.
pub(crate) const PROTOCOL_VERSION: &str = "2026-07-28";
/// What the SDK says of a message that it refuses before it reads it.
const MAX_REFUSAL_BYTES: usize = 4096;

/// Longer than the longest wait.
const ANSWER_LIMIT: Duration = Duration::from_secs(MAX_WAIT_SECONDS.unsigned_abs() + 30);

/// The answer is whole as it is: the edge gives it no other body.
#[derive(Clone)]
pub(crate) struct Answered;

/// One message of a client, and the answer to it.
pub(crate) async fn answer(
    app: &Arc<App>,
    principal: Arc<Principal>,
    mut parts: Parts,
    body: Bytes,
    room: Option<Room>,
) -> Answer<Response> {
    let called = envelope::check(&body)?;
    let server = Server::new(app.clone(), principal, called.as_deref(), room).await?;
    // What was sent is JSON by whatever name, and who takes anything takes both.
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if takes_json(&parts.headers) {
        parts.headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
    }
    #[cfg(debug_assertions)]
    if app.has_mcp_fixtures() {
        return respond_in_session(server, Request::from_parts(parts, Full::new(body))).await;
    }
    refuse_session(&parts.headers)?;
    let request = Request::from_parts(parts, Full::new(body));
    finish(serve(server, Arc::new(NeverSessionManager::default()), config(), request).await?).await
}

/// What comes without a message belongs to a session.
#[cfg(debug_assertions)]
pub(crate) async fn answer_in_session(
    app: &Arc<App>,
    principal: Arc<Principal>,
    parts: Parts,
) -> Answer<Response> {
    let server = Server::new(app.clone(), principal, None, None).await?;
    respond_in_session(server, Request::from_parts(parts, Full::default())).await
}

#[cfg(debug_assertions)]
async fn respond_in_session(server: Server, request: Request<Full<Bytes>>) -> Answer<Response> {
    let (config, server) = (config().with_legacy_session_mode(true), fixtures::Fixtures(server));
    finish(serve(server, fixtures::sessions(), config, request).await?).await
}

fn config() -> StreamableHttpServerConfig {
    StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // The edge has looked at both; the body was read within the hub's own bound.
        .disable_allowed_hosts()
        .with_max_request_body_bytes(usize::MAX)
}

/// `*/*`, as `curl` sends, and JSON alone are enough: an event stream is sent only to who asks
/// to hear of progress.
fn takes_json(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut ranges = lines.flat_map(|line| line.split(',')).peekable();
    let is_json = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        ["*/*", "application/*", "application/json"].iter().any(|known| range.eq_ignore_ascii_case(known))
    };
    ranges.peek().is_none() || ranges.any(is_json)
}

/// A client that believes in a session of another server has to begin anew (specification
/// 2025-11-25, basic/transports, "Session Management"). 2026-07-28 knows none.
fn refuse_session(headers: &HeaderMap) -> Result<(), ApiError> {
    let is_new = headers.get("mcp-protocol-version").is_some_and(|version| version == PROTOCOL_VERSION);
    if is_new || !headers.contains_key("mcp-session-id") {
        return Ok(());
    }
    let message =
        "there is no such session, as the hub keeps none; initialize anew, and send no Mcp-Session-Id";
    Err(ApiError::new(ErrorCode::NotFound, message).param("Mcp-Session-Id"))
}

async fn serve<S: ServerHandler + Clone, M: SessionManager>(
    server: S,
    sessions: Arc<M>,
    config: StreamableHttpServerConfig,
    request: Request<Full<Bytes>>,
) -> Answer<Response> {
    let service = StreamableHttpService::new(move || Ok(server.clone()), sessions, config);
    // The SDK has no bound of its own for a handler that came to no end.
    let answered = tokio::time::timeout(ANSWER_LIMIT, service.handle(request)).await;
    Ok(answered.map_err(Failure::internal)?.map(Body::new))
}

/// What the SDK refuses before it reads it is told as the hub tells errors.
async fn finish(mut response: Response) -> Answer<Response> {
    let is_json = response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if response.status().is_success() || is_json {
        response.extensions_mut().insert(Answered);
        return Ok(response);
    }
    let status = response.status();
    let said = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said[..said.len().min(MAX_REFUSAL_BYTES)]).into_owned();
    Err(match status {
        // What it says when the JSON is no message.
        StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            let message = format!("the body is no message of JSON-RPC 2.0 that the protocol knows: {said}");
            Failure::new(ErrorCode::InvalidRequest, message)
        }
        status if status.is_client_error() => Failure::new(ErrorCode::InvalidRequest, said),
        _ => Failure::internal(said),
    })
}

/// An error of the hub as JSON-RPC tells it (specification, section 5.1). Nobody knows whose
/// message it answers.
pub(crate) fn error(error: &ApiError, request_id: String) -> JsonRpcError {
    let code = match error.code {
        ErrorCode::InvalidJson => rmcp::model::ErrorCode::PARSE_ERROR,
        code if code.status() >= 500 => rmcp::model::ErrorCode::INTERNAL_ERROR,
        _ => rmcp::model::ErrorCode::INVALID_REQUEST,
    };
    let data = json!({"code": error.code.as_str(), "param": error.param, "request_id": request_id});
    JsonRpcError::new(None, ErrorData::new(code, error.message.clone(), Some(data)))
}
