//! `/v1/resources`: sandboxes.

pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod templates;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use nh_compute::{Author, Found, New};
use nh_store::Once;
use nh_types::SandboxId;
use nh_types::sandbox::{ChangeSandbox, CreateSandbox, SandboxView};
use nh_types::{ApiError, ErrorCode};

use crate::app::App;
use crate::auth::{Auth, Principal, ResourcesRead, ResourcesWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::{Creating, Json as JsonBody};
use crate::sandbox_origin;

/// List the sandboxes that have not ended, newest first.
#[utoipa::path(get, path = "/v1/resources", tag = "Compute",
    security(("bearer" = ["resources:read"]), ("session" = ["resources:read"])),
    responses((status = 200, body = Vec<SandboxView>)))]
pub(crate) async fn list(
    auth: Auth<ResourcesRead>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Answer<Json<Vec<SandboxView>>> {
    let found = app.hub.compute.list(&auth.workspace_id).await?;
    found.into_iter().map(|found| view(&app, &headers, &auth, found)).collect::<Answer<_>>().map(Json)
}

/// Start a sandbox from a template.
#[utoipa::path(post, path = "/v1/resources", tag = "Compute", request_body = CreateSandbox,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["resources:write"]), ("session" = ["resources:write"])),
    responses((status = 201, body = SandboxView),
        (status = 402, description = "The budget of the key or the workspace is spent", body = nh_types::ErrorBody),
        (status = 429, description = "The workspace has as many as it may have", body = nh_types::ErrorBody),
        (status = 503, description = "This host can isolate none, or the template is not built", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<ResourcesWrite>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    creating: Creating<CreateSandbox>,
) -> Answer<(StatusCode, Json<SandboxView>)> {
    let CreateSandbox { template, env, timeout_seconds, memory_mb, cpus, network } = creating.body;
    if let Some(network) = network.filter(|network| network != "none") {
        let network: String = network.chars().take(40).collect();
        let message = format!("`network` is `{network}`; sandboxes reach no network in this version: `none`");
        return Err(ApiError::new(ErrorCode::NotAvailable, message).param("network").into());
    }
    let author =
        Author { workspace_id: auth.workspace_id.clone(), created_by: auth.created_by(), run_id: None };
    let new = New { template, env, life_seconds: timeout_seconds, memory_mb, cpus };
    let once = creating.once.map(|once| once.record(&auth, app.clock.now()));
    match app.hub.compute.create(author, new, once).await? {
        Once::First(found) | Once::Replay(found) => {
            Ok((StatusCode::CREATED, Json(view(&app, &headers, &auth, found)?)))
        }
        Once::Mismatch => Err(mismatch().into()),
    }
}

/// Get a sandbox: its state, what it takes, and for an hour after its end why it ended.
#[utoipa::path(get, path = "/v1/resources/{id}", tag = "Compute", params(("id" = String, Path)),
    security(("bearer" = ["resources:read"]), ("session" = ["resources:read"])),
    responses((status = 200, body = SandboxView)))]
pub(crate) async fn find(
    auth: Auth<ResourcesRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer<Json<SandboxView>> {
    let found = app.hub.compute.find(&auth.workspace_id, &parse(&id)?).await?;
    view(&app, &headers, &auth, found.ok_or_else(|| missing(&id))?).map(Json)
}

/// Have a sandbox live for so many seconds from now on, at most 24 hours in all.
#[utoipa::path(patch, path = "/v1/resources/{id}", tag = "Compute", request_body = ChangeSandbox,
    params(("id" = String, Path)),
    security(("bearer" = ["resources:write"]), ("session" = ["resources:write"])),
    responses((status = 200, body = SandboxView),
        (status = 409, description = "It has ended", body = nh_types::ErrorBody)))]
pub(crate) async fn change(
    auth: Auth<ResourcesWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    JsonBody(body, _room): JsonBody<ChangeSandbox>,
) -> Answer<Json<SandboxView>> {
    let found = app.hub.compute.prolong(&auth.workspace_id, &parse(&id)?, body.timeout_seconds).await?;
    view(&app, &headers, &auth, found).map(Json)
}

/// End a sandbox. When this answers, nothing of it is left.
#[utoipa::path(delete, path = "/v1/resources/{id}", tag = "Compute", params(("id" = String, Path)),
    security(("bearer" = ["resources:write"]), ("session" = ["resources:write"])),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete(
    auth: Auth<ResourcesWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    match app.hub.compute.delete(&auth.workspace_id, &parse(&id)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(missing(&id)),
    }
}

fn view(app: &App, headers: &HeaderMap, principal: &Principal, found: Found) -> Answer<SandboxView> {
    let Found { record, usage } = found;
    let url = match record.stopped_at {
        None => Some(sandbox_origin::url(app, headers, principal, &record)?),
        Some(_) => None,
    };
    Ok(SandboxView {
        id: record.id,
        url,
        template: record.template,
        isolation: record.isolation,
        state: record.state,
        stop_reason: record.stop_reason,
        network: "none".to_owned(),
        memory_mb: record.memory_mb,
        cpus: f64::from(record.cpu_millis) / 1000.0,
        run_id: record.run_id,
        usage,
        created_at: record.created_at,
        expires_at: record.expires_at,
        stopped_at: record.stopped_at,
    })
}

/// What is no id names nothing.
fn parse(id: &str) -> Answer<SandboxId> {
    id.parse().map_err(|_| missing(id))
}

fn missing(id: &str) -> Failure {
    Failure::not_found("sandbox", id)
}
