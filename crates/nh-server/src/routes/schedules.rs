//! `/v1/schedules`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use nh_agents::schedules::{MAX_SCHEDULES, changed, created, view};
use nh_store::schedules::{self, Created};
use nh_store::{Once, StoreError};
use nh_types::schedule::{ChangeSchedule, CreateSchedule, ScheduleList, ScheduleView};
use nh_types::{ApiError, ErrorCode, ScheduleId};

use super::runs::caller;
use crate::app::App;
use crate::auth::{Auth, RunRead, RunWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::Creating;
use crate::paging::{Query, invalid, seal_cursor};

/// List the workspace's schedules, newest first.
#[utoipa::path(get, path = "/v1/schedules", tag = "Schedules",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, body = ScheduleList)))]
pub(crate) async fn list(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<ScheduleList>> {
    let page = query.page()?;
    query.finish()?;
    let found = schedules::list(&app.hub.store, &auth.workspace_id, &page).await?;
    let next_cursor = found.next.as_deref().map(seal_cursor);
    Ok(Json(ScheduleList { schedules: found.items.into_iter().map(view).collect(), next_cursor }))
}

/// Create a schedule, from JSON or YAML (`Content-Type: application/yaml`). Its
/// runs have the scopes of who makes it.
#[utoipa::path(post, path = "/v1/schedules", tag = "Schedules", 
    request_body(content((CreateSchedule = "application/json"), (CreateSchedule = "application/yaml"))),
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 201, body = ScheduleView),
        (status = 409, description = "The id is taken", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<CreateSchedule, false, true>,
) -> Answer<(StatusCode, Json<ScheduleView>)> {
    let id = match &creating.body.id {
        Some(chosen) => {
            chosen.parse().map_err(|error: nh_types::id::InvalidId| invalid("id", error.to_string()))?
        }
        None => ScheduleId::generate(app.ids.as_ref()),
    };
    let schedule = created(&app.hub, &caller(&auth), id.clone(), creating.body).await?;
    let once = creating.once.map(|once| once.record(&auth, app.clock.now()));
    match app.hub.store.write_once(once, schedules::Create { schedule, most: MAX_SCHEDULES }).await {
        Ok(Once::First(Created::Done(record)) | Once::Replay(Created::Done(record))) => {
            app.hub.schedules_changed.notify_one();
            Ok((StatusCode::CREATED, Json(view(*record))))
        }
        Ok(Once::First(Created::Full) | Once::Replay(Created::Full)) => Err(full().into()),
        Ok(Once::Mismatch) => Err(mismatch().into()),
        Err(StoreError::Conflict(_)) => Err(taken(&id).into()),
        Err(error) => Err(error.into()),
    }
}

/// Get a schedule.
#[utoipa::path(get, path = "/v1/schedules/{id}", tag = "Schedules", params(("id" = String, Path)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, body = ScheduleView)))]
pub(crate) async fn find(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<Json<ScheduleView>> {
    let found = schedules::find(&app.hub.store, &auth.workspace_id, &parse(&id)?).await?;
    found.map(|record| Json(view(record))).ok_or_else(|| missing(&id))
}

/// Change a schedule: what is absent stays. Its runs have the scopes of who
/// changes it, from then on.
#[utoipa::path(patch, path = "/v1/schedules/{id}", tag = "Schedules", 
    request_body(content((ChangeSchedule = "application/json"), (ChangeSchedule = "application/yaml"))),
    params(("id" = String, Path)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 200, body = ScheduleView),
        (status = 409, description = "Somebody else changed it meanwhile", body = nh_types::ErrorBody)))]
pub(crate) async fn change(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    creating: Creating<ChangeSchedule, false, true>,
) -> Answer<Json<ScheduleView>> {
    let found = schedules::find(&app.hub.store, &auth.workspace_id, &parse(&id)?).await?;
    let now = found.ok_or_else(|| missing(&id))?;
    let from = now.updated_at;
    let schedule = changed(&app.hub, &caller(&auth), now, creating.body).await?;
    match app.hub.store.write(schedules::Change { schedule: schedule.clone(), from }).await {
        Ok(()) => {
            app.hub.schedules_changed.notify_one();
            Ok(Json(view(schedule)))
        }
        Err(StoreError::Conflict(_)) => {
            let message =
                format!("the schedule `{id}` was changed or deleted meanwhile; read it and try again");
            Err(Failure::new(ErrorCode::Conflict, message))
        }
        Err(error) => Err(error.into()),
    }
}

/// Delete a schedule. The runs that it began go on.
#[utoipa::path(delete, path = "/v1/schedules/{id}", tag = "Schedules", params(("id" = String, Path)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let delete = schedules::Delete { workspace_id: auth.workspace_id.clone(), id: parse(&id)? };
    if app.hub.store.write(delete).await? { Ok(StatusCode::NO_CONTENT) } else { Err(missing(&id)) }
}

/// What is no id names nothing.
fn parse(id: &str) -> Answer<ScheduleId> {
    id.parse().map_err(|_| missing(id))
}

fn missing(id: &str) -> Failure {
    Failure::not_found("schedule", id)
}

fn taken(id: &ScheduleId) -> ApiError {
    ApiError::new(ErrorCode::AlreadyExists, format!("there is a schedule `{id}` already")).param("id")
}

fn full() -> ApiError {
    let message =
        format!("the workspace has {MAX_SCHEDULES} schedules, as many as it may have; delete one first");
    ApiError::new(ErrorCode::Conflict, message)
}
