//! `/v1/workflows`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::HeaderMap;
use http::StatusCode;
use http::request::Parts;
use nh_agents::workflows::{changed, checked, created, view};
use nh_store::workflows;
use nh_store::{Once, StoreError};
use nh_types::workflow::{ChangeWorkflow, CreateWorkflow, WorkflowView};
use nh_types::{ApiError, ErrorCode, WorkflowId};

use crate::app::App;
use crate::auth::{Auth, RunRead, RunWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::Creating;
use crate::paging::{Query, invalid, link_to_next};

/// A change that meets another one is made anew on top of it, so often.
const MAX_CHANGE_TRIES: usize = 3;

/// List the workspace's workflows, newest first. The next page is in the `Link`
/// header.
#[utoipa::path(get, path = "/v1/workflows", tag = "Workflows",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, body = Vec<WorkflowView>)))]
pub(crate) async fn list(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    parts: Parts,
    mut query: Query,
) -> Answer<(HeaderMap, Json<Vec<WorkflowView>>)> {
    let page = query.page()?;
    query.finish()?;
    let found = workflows::list(&app.hub.store, &auth.workspace_id, &page).await?;
    let link = link_to_next(&app.base_url(&parts.headers), parts.uri.path(), &page, found.next.as_deref());
    Ok((link, Json(found.items.into_iter().map(view).collect())))
}

/// Create a workflow, from JSON or YAML (`Content-Type: application/yaml`).
#[utoipa::path(post, path = "/v1/workflows", tag = "Workflows",
    request_body(content((CreateWorkflow = "application/json"), (CreateWorkflow = "application/yaml"))),
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 201, body = WorkflowView),
        (status = 409, description = "The id is taken", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<CreateWorkflow, false, true>,
) -> Answer<(StatusCode, Json<WorkflowView>)> {
    let id = match &creating.body.id {
        Some(chosen) => {
            chosen.parse().map_err(|error: nh_types::id::InvalidId| invalid("id", error.to_string()))?
        }
        None => WorkflowId::generate(app.ids.as_ref()),
    };
    let (hub, at) = (&app.hub, app.clock.now());
    let new = created(creating.body);
    let definition =
        checked(&hub.store, &hub.tools_of(&auth.workspace_id).await?, &auth.workspace_id, &id, new).await?;
    let create =
        workflows::Create { workspace_id: auth.workspace_id.clone(), id: id.clone(), definition, at };
    match hub.store.write_once(creating.once.map(|once| once.record(&auth, at)), create).await {
        Ok(Once::First(record) | Once::Replay(record)) => Ok((StatusCode::CREATED, Json(view(record)))),
        Ok(Once::Mismatch) => Err(mismatch().into()),
        Err(StoreError::Conflict(_)) => Err(taken(&id).into()),
        Err(error) => Err(error.into()),
    }
}

/// Get a workflow: the newest version, or the one that `version` names.
#[utoipa::path(get, path = "/v1/workflows/{id}", tag = "Workflows",
    params(("id" = String, Path), ("version" = Option<u32>, Query)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, body = WorkflowView)))]
pub(crate) async fn find(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    mut query: Query,
) -> Answer<Json<WorkflowView>> {
    let workflow_id = parse(&id)?;
    let version: Option<u32> = query.parsed("version")?;
    query.finish()?;
    let (store, workspace_id) = (&app.hub.store, &auth.workspace_id);
    let found = match version {
        Some(version) => workflows::find_version(store, workspace_id, &workflow_id, version).await?,
        None => workflows::find(store, workspace_id, &workflow_id).await?,
    };
    let missing = || version.map_or_else(|| missing(&id), |version| no_version(&id, version));
    found.map(|record| Json(view(record))).ok_or_else(missing)
}

/// Change a workflow: what is absent stays, null puts back what a new workflow
/// has. Each change makes a new version; what changes nothing makes none.
#[utoipa::path(patch, path = "/v1/workflows/{id}", tag = "Workflows",
    request_body(content((ChangeWorkflow = "application/json"), (ChangeWorkflow = "application/yaml"))),
    params(("id" = String, Path)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 200, body = WorkflowView),
        (status = 409, description = "Others kept changing it", body = nh_types::ErrorBody)))]
pub(crate) async fn change(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    creating: Creating<ChangeWorkflow, false, true>,
) -> Answer<Json<WorkflowView>> {
    let (workflow_id, hub) = (parse(&id)?, &app.hub);
    let tools = hub.tools_of(&auth.workspace_id).await?;
    for _ in 0..MAX_CHANGE_TRIES {
        let found = workflows::find(&hub.store, &auth.workspace_id, &workflow_id).await?;
        let now = found.ok_or_else(|| missing(&id))?;
        let new = changed(&now.definition, creating.body.clone());
        if new == now.definition {
            return Ok(Json(view(now)));
        }
        let definition = checked(&hub.store, &tools, &auth.workspace_id, &workflow_id, new).await?;
        let (from_version, at) = (now.version, app.clock.now());
        let change =
            workflows::Change { definition, workspace_id: now.workspace_id, id: now.id, from_version, at };
        match hub.store.write(change).await {
            Ok(changed) => return changed.map(|record| Json(view(record))).ok_or_else(|| missing(&id)),
            Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(
        ErrorCode::Conflict,
        format!("the workflow `{id}` is being changed by others; try again"),
    ))
}

/// Delete a workflow. Runs that began with it go on.
#[utoipa::path(delete, path = "/v1/workflows/{id}", tag = "Workflows", params(("id" = String, Path)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let delete =
        workflows::Delete { workspace_id: auth.workspace_id.clone(), id: parse(&id)?, at: app.clock.now() };
    if app.hub.store.write(delete).await? { Ok(StatusCode::NO_CONTENT) } else { Err(missing(&id)) }
}

/// What is no id names nothing.
fn parse(id: &str) -> Answer<WorkflowId> {
    id.parse().map_err(|_| missing(id))
}

fn missing(id: &str) -> Failure {
    Failure::not_found("workflow", id)
}

fn no_version(id: &str, version: u32) -> Failure {
    let id: String = id.chars().take(80).collect();
    Failure::new(
        ErrorCode::NotFound,
        format!("there is no version {version} of a workflow `{id}` in this workspace"),
    )
}

fn taken(id: &WorkflowId) -> ApiError {
    ApiError::new(ErrorCode::AlreadyExists, format!("there is a workflow `{id}` already")).param("id")
}
