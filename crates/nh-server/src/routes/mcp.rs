//! `/v1/mcp` and what discovers it.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::Response;
use http::HeaderMap;
use nh_types::PageRequest;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::{Auth, KeyAuth, ToolsRead, check_foreign_origin};
use crate::failure::Answer;
use crate::paging::{Query, seal_cursor};
use crate::{json as body, mcp};

/// Speak the Model Context Protocol: JSON-RPC 2.0 over streamable HTTP, without sessions.
///
/// The answer is JSON, or a stream of events where the client asked to hear of progress.
/// Every revision of the protocol is spoken, from 2024-11-05 to 2026-07-28. Which tools,
/// resources and prompts there are depends on the key's scopes; a browser's session does not
/// count. Errors are JSON-RPC's.
#[utoipa::path(post, path = "/v1/mcp", tag = "Tools", request_body = Object,
    security(("bearer" = ["tools:read"])),
    responses((status = 200, description = "The answer", content(
            (Object = "application/json"), (String = "text/event-stream"))),
        (status = 202, description = "A notification was taken")))]
pub(crate) async fn speak(
    auth: KeyAuth<ToolsRead>,
    State(app): State<Arc<App>>,
    request: Request,
) -> Answer<Response> {
    let (parts, body) = request.into_parts();
    check_foreign_origin(&app, &parts)?;
    let (body, room) = body::unparsed(&app, &parts.headers, body).await?;
    mcp::answer(&app, auth.shared(), parts, body, room).await
}

/// What belongs to sessions, which only the fixtures have.
#[cfg(debug_assertions)]
pub(crate) async fn in_session(
    auth: KeyAuth<ToolsRead>,
    State(app): State<Arc<App>>,
    request: Request,
) -> Answer<Response> {
    mcp::answer_in_session(&app, auth.shared(), request.into_parts().0).await
}

/// `GET /v1/mcp/manifest`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    name: &'static str,
    version: &'static str,
    /// Where the Model Context Protocol is spoken.
    endpoint: String,
    /// The newest revision of it that is spoken.
    protocol_version: &'static str,
    /// As `tools/list` of the protocol gives them.
    #[schema(value_type = Vec<Object>)]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What this key may call, as `tools/list` of the Model Context Protocol tells it, and where.
#[utoipa::path(get, path = "/v1/mcp/manifest", tag = "Tools",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    security(("bearer" = ["tools:read"]), ("session" = ["tools:read"])),
    responses((status = 200, body = Manifest)))]
pub(crate) async fn manifest(
    auth: Auth<ToolsRead>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    mut query: Query,
) -> Answer<Json<Manifest>> {
    let page = query.page_of(PageRequest::MAX_LIMIT)?;
    query.finish()?;
    let page = app.hub.catalogue(&auth.workspace_id, &auth.scopes).await?.page(&page).await?;
    let tools = page.items.into_iter().map(|callable| serde_json::to_value(mcp::tool(callable)));
    Ok(Json(Manifest {
        name: "neuralhub",
        version: env!("CARGO_PKG_VERSION"),
        endpoint: format!("{}{}", app.base_url(&headers), mcp::PATH),
        protocol_version: mcp::PROTOCOL_VERSION,
        tools: tools.filter_map(Result::ok).collect(),
        next_cursor: page.next.as_deref().map(seal_cursor),
    }))
}

/// This hub as an entry of a registry of MCP servers: what a registry, or a client that reads
/// its format, is to be told of it (`server.json`, schema 2025-12-11).
#[utoipa::path(get, path = "/v1/mcp/server.json", tag = "Tools",
    security(("bearer" = ["tools:read"]), ("session" = ["tools:read"])),
    responses((status = 200, body = Object)))]
pub(crate) async fn registry_entry(
    _: Auth<ToolsRead>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    query: Query,
) -> Answer<Json<Value>> {
    query.finish()?;
    let base = app.base_url(&headers);
    Ok(Json(json!({
        "$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": format!("{}/neuralhub", namespace(&base)),
        "title": "NeuralHub",
        "description": "The agents, tools, memory, storage and sandboxes of one self-hosted hub.",
        "version": env!("CARGO_PKG_VERSION"),
        "remotes": [{
            "type": "streamable-http",
            "url": format!("{base}{}", mcp::PATH),
            "headers": [{
                "name": "Authorization",
                "description": "An API key of the hub, with the scope tools:read and those of what is called",
                "isRequired": true,
                "isSecret": true,
                "value": "Bearer {api_key}",
                "variables": {"api_key": {"description": "An API key: nh_…", "isRequired": true, "isSecret": true}},
            }],
        }],
    })))
}

/// The host's name the other way round: whose servers these are.
fn namespace(base: &str) -> String {
    let url = url::Url::parse(base).ok();
    let host = url.as_ref().and_then(|url| url.domain()).unwrap_or("localhost");
    host.split('.').rev().collect::<Vec<_>>().join(".")
}
