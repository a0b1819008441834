//! The server of the Model Context Protocol behind `/v1/mcp`, on the official SDK.
//!
//! Nothing is kept between requests: each comes with its key and is answered by a
//! [`Server`] of its own. What there is to call comes from the one catalogue
//! ([`nh_agents::Catalogue`]), and a call is a run as any other (`call.rs`). All five
//! revisions of the protocol are spoken; the SDK tells them apart.

mod call;
#[cfg(debug_assertions)]
mod fixtures;
mod progress;
mod prompts;
mod resources;
mod server;
mod shown;
mod tasks;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use nh_types::{ApiError, ErrorCode};
use rmcp::model::JsonRpcError;
use rmcp::transport::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{SessionManager, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use serde_json::json;

use crate::app::App;
use crate::auth::Principal;
use crate::failure::{Answer, Failure};
use server::Server;
pub(crate) use shown::tool;

pub(crate) const PATH: &str = "/v1/mcp";
/// The newest revision that is spoken.
pub(crate) const PROTOCOL_VERSION: &str = "2026-07-28";
/// What the SDK says of a message that it refuses before it reads it.
const MAX_REFUSAL_BYTES: usize = 4096;

/// The answer is whole as it is: the edge gives it no other body.
#[derive(Clone)]
pub(crate) struct Answered;

/// One message of a client, and the answer to it.
pub(crate) async fn answer(
    app: &Arc<App>,
    principal: Arc<Principal>,
    mut parts: Parts,
    body: Bytes,
) -> Answer<Response> {
    let server = Server::new(app.clone(), principal, &parts.headers).await?;
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        // The edge has looked at both; the body was read within the hub's own bound.
        .disable_allowed_hosts()
        .with_max_request_body_bytes(body.len().max(1));
    // What was sent is JSON by whatever name.
    parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let request = Request::from_parts(parts, Full::new(body));
    #[cfg(debug_assertions)]
    if app.has_mcp_fixtures() {
        let (config, server) = (config.with_legacy_session_mode(true), fixtures::Fixtures(server));
        return finish(serve(server, fixtures::sessions(), config, request).await).await;
    }
    finish(serve(server, Arc::new(NeverSessionManager::default()), config, request).await).await
}

async fn serve<S: ServerHandler + Clone, M: SessionManager>(
    server: S,
    sessions: Arc<M>,
    config: StreamableHttpServerConfig,
    request: Request<Full<Bytes>>,
) -> Response {
    let service = StreamableHttpService::new(move || Ok(server.clone()), sessions, config);
    service.handle(request).await.map(Body::new)
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
