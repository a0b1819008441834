//! `/v1/agents`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use nh_store::agents::{self, AgentRecord};
use nh_store::{Once, StoreError};
use nh_types::agent::{AgentView, ChangeAgent, CreateAgent};
use nh_types::{AgentId, ApiError, ErrorCode};

use crate::app::App;
use crate::auth::{AgentsRead, AgentsWrite, Auth};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::{Creating, Json as Body};
use crate::paging::{Query, invalid, link_to_next};

/// A change that meets another one is made anew on top of it, so often.
const MAX_CHANGE_TRIES: usize = 3;

/// List the workspace's agents, newest first. The next page is in the `Link`
/// header.
#[utoipa::path(get, path = "/v1/agents", tag = "Agents",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    security(("bearer" = ["agents:read"]), ("session" = ["agents:read"])),
    responses((status = 200, body = Vec<AgentView>)))]
pub(crate) async fn list(
    auth: Auth<AgentsRead>,
    State(app): State<Arc<App>>,
    parts: Parts,
    mut query: Query,
) -> Answer<(HeaderMap, Json<Vec<AgentView>>)> {
    let page = query.page()?;
    query.finish()?;
    let found = agents::list(&app.hub.store, &auth.workspace_id, &page).await?;
    let link = link_to_next(&app.base_url(&parts.headers), parts.uri.path(), &page, found.next.as_deref());
    let default_model = app.hub.models.default_model(&auth.workspace_id).await?;
    let view = |record| nh_agents::agents::view(record, &default_model);
    Ok((link, Json(found.items.into_iter().map(view).collect())))
}

/// Create an agent.
#[utoipa::path(post, path = "/v1/agents", tag = "Agents", request_body = CreateAgent,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["agents:write"]), ("session" = ["agents:write"])),
    responses((status = 201, body = AgentView),
        (status = 409, description = "The id is taken", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<AgentsWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<CreateAgent>,
) -> Answer<(StatusCode, Json<AgentView>)> {
    let id = match &creating.body.id {
        Some(chosen) => {
            chosen.parse().map_err(|error: nh_types::id::InvalidId| invalid("id", error.to_string()))?
        }
        None => AgentId::generate(app.ids.as_ref()),
    };
    let definition = nh_agents::agents::create(creating.body, &app.hub.tools_of(&auth.workspace_id).await?)?;
    app.hub.check_agents_runs(&auth.workspace_id, &definition).await?;
    let at = app.clock.now();
    let create = agents::Create { workspace_id: auth.workspace_id.clone(), id: id.clone(), definition, at };
    let once = creating.once.map(|once| once.record(&auth, at));
    match app.hub.store.write_once(once, create).await {
        Ok(Once::First(record) | Once::Replay(record)) => {
            Ok((StatusCode::CREATED, shown(&app, record).await?))
        }
        Ok(Once::Mismatch) => Err(mismatch().into()),
        Err(StoreError::Conflict(_)) => Err(taken(&id).into()),
        Err(error) => Err(error.into()),
    }
}

/// Get an agent.
#[utoipa::path(get, path = "/v1/agents/{id}", tag = "Agents", params(("id" = String, Path)),
    security(("bearer" = ["agents:read"]), ("session" = ["agents:read"])),
    responses((status = 200, body = AgentView)))]
pub(crate) async fn find(
    auth: Auth<AgentsRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<Json<AgentView>> {
    let agent_id = parse(&id)?;
    let found = agents::find(&app.hub.store, &auth.workspace_id, &agent_id).await?;
    shown(&app, found.ok_or_else(|| missing(&id))?).await
}

/// Change an agent: what is absent stays, null puts back what a new agent has.
/// Each change makes a new version; what changes nothing makes none.
#[utoipa::path(patch, path = "/v1/agents/{id}", tag = "Agents", request_body = ChangeAgent,
    params(("id" = String, Path)),
    security(("bearer" = ["agents:write"]), ("session" = ["agents:write"])),
    responses((status = 200, body = AgentView),
        (status = 409, description = "Others kept changing it", body = nh_types::ErrorBody)))]
pub(crate) async fn change(
    auth: Auth<AgentsWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Body(body, _room): Body<ChangeAgent>,
) -> Answer<Json<AgentView>> {
    let agent_id = parse(&id)?;
    let tools = app.hub.tools_of(&auth.workspace_id).await?;
    for _ in 0..MAX_CHANGE_TRIES {
        let found = agents::find(&app.hub.store, &auth.workspace_id, &agent_id).await?;
        let now = found.ok_or_else(|| missing(&id))?;
        let definition = nh_agents::agents::change(&now.definition, body.clone(), &tools)?;
        if definition == now.definition {
            return shown(&app, now).await;
        }
        app.hub.check_agents_runs(&auth.workspace_id, &definition).await?;
        let change = agents::Change {
            definition,
            workspace_id: now.workspace_id,
            id: now.id,
            from_version: now.version,
            at: app.clock.now(),
        };
        match app.hub.store.write(change).await {
            Ok(changed) => return shown(&app, changed.ok_or_else(|| missing(&id))?).await,
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(ErrorCode::Conflict, format!("the agent `{id}` is being changed by others; try again")))
}

/// Delete an agent. Runs that began with it go on.
#[utoipa::path(delete, path = "/v1/agents/{id}", tag = "Agents", params(("id" = String, Path)),
    security(("bearer" = ["agents:write"]), ("session" = ["agents:write"])),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    auth: Auth<AgentsWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let delete =
        agents::Delete { workspace_id: auth.workspace_id.clone(), id: parse(&id)?, at: app.clock.now() };
    if app.hub.store.write(delete).await? { Ok(StatusCode::NO_CONTENT) } else { Err(missing(&id)) }
}

/// What is no id names nothing.
fn parse(id: &str) -> Answer<AgentId> {
    id.parse().map_err(|_| missing(id))
}

fn missing(id: &str) -> Failure {
    Failure::not_found("agent", id)
}

fn taken(id: &AgentId) -> ApiError {
    ApiError::new(ErrorCode::AlreadyExists, format!("there is an agent `{id}` already")).param("id")
}

async fn shown(app: &App, record: AgentRecord) -> Answer<Json<AgentView>> {
    let default_model = app.hub.models.default_model(&record.workspace_id).await?;
    Ok(Json(nh_agents::agents::view(record, &default_model)))
}
