//! `/v1/mcp/servers`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use nh_agents::mcp::{changed, created, secrets_of, view};
use nh_store::mcp_servers::{self, Created, McpServerRecord};
use nh_store::{Once, StoreError};
use nh_types::mcp::{ChangeMcpServer, CreateMcpServer, McpSeen, McpServerList, McpServerView};
use nh_types::{ApiError, ErrorCode, Page, WorkspaceId};

use crate::app::App;
use crate::auth::{Auth, ToolsRead, ToolsWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::{Creating, Json as JsonBody};
use crate::paging::{Query, seal_cursor};

/// Servers that a workspace may register.
const MAX_SERVERS: u32 = 20;

/// List the servers of the Model Context Protocol whose tools the workspace has.
#[utoipa::path(get, path = "/v1/mcp/servers", tag = "MCP servers",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    security(("bearer" = ["tools:read"]), ("session" = ["tools:read"])),
    responses((status = 200, body = McpServerList)))]
pub(crate) async fn list(
    auth: Auth<ToolsRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<McpServerList>> {
    let page = query.page()?;
    query.finish()?;
    let found = mcp_servers::list(&app.hub.store, &auth.workspace_id, &page).await?;
    let after = page.after.unwrap_or_default();
    let local = app.hub.mcp.local_views(&auth.workspace_id).into_iter();
    let registered = found.items.into_iter().map(view);
    // One that is in the configuration too is never called.
    let registered = registered.filter(|server| !app.hub.mcp.is_local(&auth.workspace_id, &server.name));
    let mut servers: Vec<_> = local.filter(|server| server.name > after).chain(registered).collect();
    servers.sort_by(|one, other| one.name.cmp(&other.name));
    // What is further on may come after one that is registered, on the next page.
    if let Some(last) = &found.next {
        servers.retain(|server| server.name <= *last);
    }
    let cut = Page::cut(servers, page.limit, |server| server.name.clone());
    let next = cut.next.or(found.next);
    Ok(Json(McpServerList { servers: cut.items, next_cursor: next.as_deref().map(seal_cursor) }))
}

/// Register a server by its URL. It is asked for its tools at once; one that cannot be used now
/// is registered too, and asked again.
#[utoipa::path(post, path = "/v1/mcp/servers", tag = "MCP servers", request_body = CreateMcpServer,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["tools:write"]), ("session" = ["tools:write"])),
    responses((status = 201, body = McpServerView),
        (status = 409, description = "The name is taken", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<ToolsWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<CreateMcpServer>,
) -> Answer<(StatusCode, Json<McpServerView>)> {
    let now = app.clock.now();
    let once = creating.once.map(|once| once.record(&auth, now));
    let generation = app.ids.uuid_v7(now).to_string();
    let (definition, values) = created(creating.body, &generation)?;
    let (name, workspace_id) = (definition.name.clone(), auth.workspace_id.clone());
    if app.hub.mcp.is_local(&workspace_id, &name) {
        return Err(taken(&name).into());
    }
    let secrets = secrets_of(&definition).seal(app.hub.sealer(), &workspace_id, Some(&values))?;
    let server = McpServerRecord {
        workspace_id: workspace_id.clone(),
        definition,
        seen: McpSeen::default(),
        failures: 0,
        checked_at: None,
        next_at: now.plus_millis(nh_agents::mcp::CLAIM_MS),
        created_by: auth.created_by(),
        created_at: now,
        updated_at: now,
    };
    let create = mcp_servers::Create { server, secrets, most: MAX_SERVERS };
    match app.hub.store.write_once(once, create).await {
        Ok(Once::First(Created::Done)) => app.hub.mcp.check(&workspace_id, &name).await?,
        Ok(Once::Replay(Created::Done)) => {}
        Ok(Once::First(Created::Full) | Once::Replay(Created::Full)) => return Err(full().into()),
        Ok(Once::Mismatch) => return Err(mismatch().into()),
        Err(StoreError::Conflict(_)) => return Err(taken(&name).into()),
        Err(error) => return Err(error.into()),
    }
    Ok((StatusCode::CREATED, Json(shown(&app, &workspace_id, &name).await?)))
}

/// Get a server, with what was last seen of it.
#[utoipa::path(get, path = "/v1/mcp/servers/{name}", tag = "MCP servers", params(("name" = String, Path)),
    security(("bearer" = ["tools:read"]), ("session" = ["tools:read"])),
    responses((status = 200, body = McpServerView)))]
pub(crate) async fn find(
    auth: Auth<ToolsRead>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<Json<McpServerView>> {
    shown(&app, &auth.workspace_id, &name).await.map(Json)
}

/// Change a registered server: what is absent stays. It is asked for its tools at once. Calls
/// that begin from now on, also in runs under way, are made as it says now.
#[utoipa::path(patch, path = "/v1/mcp/servers/{name}", tag = "MCP servers", request_body = ChangeMcpServer,
    params(("name" = String, Path)),
    security(("bearer" = ["tools:write"]), ("session" = ["tools:write"])),
    responses((status = 200, body = McpServerView),
        (status = 409, description = "Somebody else changed it meanwhile", body = nh_types::ErrorBody)))]
pub(crate) async fn change(
    auth: Auth<ToolsWrite>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    JsonBody(body, _room): JsonBody<ChangeMcpServer>,
) -> Answer<Json<McpServerView>> {
    let workspace_id = auth.workspace_id.clone();
    let now = registered(&app, &workspace_id, &name).await?;
    let (definition, values) = changed(now.definition.clone(), body)?;
    let secrets = secrets_of(&definition).seal(app.hub.sealer(), &workspace_id, Some(&values))?;
    let kept = secrets_of(&definition).rows();
    let forgotten =
        secrets_of(&now.definition).rows().into_iter().filter(|row| !kept.contains(row)).collect();
    // Each change is later than the one before, whatever the clock says.
    let (from, updated_at) = (now.updated_at, app.clock.now().max(now.updated_at.plus_millis(1)));
    let change = mcp_servers::Change {
        workspace_id: workspace_id.clone(),
        definition,
        from,
        updated_at,
        secrets,
        forgotten,
    };
    match app.hub.store.write(change).await {
        Ok(()) => app.hub.mcp.check(&workspace_id, &name).await?,
        Err(StoreError::Conflict(_)) => return Err(changed_meanwhile(&name)),
        Err(error) => return Err(error.into()),
    }
    shown(&app, &workspace_id, &name).await.map(Json)
}

/// Delete a registered server, with its tools and secrets. Runs under way find it gone.
#[utoipa::path(delete, path = "/v1/mcp/servers/{name}", tag = "MCP servers", params(("name" = String, Path)),
    security(("bearer" = ["tools:write"]), ("session" = ["tools:write"])),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    auth: Auth<ToolsWrite>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    let workspace_id = auth.workspace_id.clone();
    let delete = mcp_servers::Delete { workspace_id, name: name.clone() };
    match app.hub.store.write(delete).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(missing(&app, &auth.workspace_id, &name)),
    }
}

/// Ask a server for its tools now. After ten seconds the answer is what was known before, and the
/// rest is done behind it.
#[utoipa::path(post, path = "/v1/mcp/servers/{name}/refresh", tag = "MCP servers", params(("name" = String, Path)),
    security(("bearer" = ["tools:write"]), ("session" = ["tools:write"])),
    responses((status = 200, body = McpServerView)))]
pub(crate) async fn refresh(
    auth: Auth<ToolsWrite>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<Json<McpServerView>> {
    let workspace_id = auth.workspace_id.clone();
    match app.hub.mcp.is_local(&workspace_id, &name) {
        true => app.hub.mcp.check_local(&workspace_id, &name).await,
        false => app.hub.mcp.check(&workspace_id, &name).await?,
    }
    shown(&app, &workspace_id, &name).await.map(Json)
}

async fn shown(app: &App, workspace_id: &WorkspaceId, name: &str) -> Answer<McpServerView> {
    let local = app.hub.mcp.local_views(workspace_id).into_iter().find(|server| server.name == name);
    match local {
        Some(local) => Ok(local),
        None => registered(app, workspace_id, name).await.map(view),
    }
}

async fn registered(app: &App, workspace_id: &WorkspaceId, name: &str) -> Answer<McpServerRecord> {
    let found = mcp_servers::find(&app.hub.store, workspace_id, name).await?;
    found.ok_or_else(|| missing(app, workspace_id, name))
}

/// One of the configuration is there, but nobody's to change.
fn missing(app: &App, workspace_id: &WorkspaceId, name: &str) -> Failure {
    if app.hub.mcp.is_local(workspace_id, name) {
        let message =
            format!("the server `{name}` is in the hub's configuration; the operator changes it there");
        return Failure::new(ErrorCode::Conflict, message);
    }
    Failure::not_found("server", name)
}

fn changed_meanwhile(name: &str) -> Failure {
    let message = format!("the server `{name}` was changed or deleted meanwhile; read it and try again");
    Failure::new(ErrorCode::Conflict, message)
}

fn taken(name: &str) -> ApiError {
    ApiError::new(ErrorCode::AlreadyExists, format!("there is a server `{name}` already")).param("name")
}

fn full() -> ApiError {
    let message = format!("a workspace may have {MAX_SERVERS} servers, and has as many; delete one first");
    ApiError::new(ErrorCode::Conflict, message)
}
