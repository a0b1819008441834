//! `/v1/webhooks`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use nh_agents::webhooks::{Rotated, detail, rotate as make_secret, secret_view, view};
use nh_store::webhooks;
use nh_types::webhook::{
    DeliveryDetail, DeliveryId, DeliveryList, DeliveryState, DeliveryView, RotateSecret, RotatedSecret,
    SecretView,
};
use nh_types::{ApiError, ErrorCode, Page, RunId};

use crate::app::App;
use crate::auth::{Auth, KeysRead, KeysWrite, RunRead, RunWrite};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::Creating;
use crate::paging::{Query, seal_cursor};

/// List what was told, or is to be told, of the ends of runs, newest first.
#[utoipa::path(get, path = "/v1/webhooks/deliveries", tag = "Webhooks",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query),
        ("state" = Option<DeliveryState>, Query), ("run_id" = Option<String>, Query)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, body = DeliveryList)))]
pub(crate) async fn list(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<DeliveryList>> {
    let page = query.page()?;
    let (state, run_id) = (query.parsed::<DeliveryState>("state")?, query.parsed::<RunId>("run_id")?);
    query.finish()?;
    let (store, workspace_id) = (&app.hub.store, &auth.workspace_id);
    let found = match run_id {
        // A run has one.
        Some(run_id) => {
            let one = webhooks::find(store, workspace_id, run_id).await?;
            let items = one.into_iter().filter(|one| state.is_none_or(|state| one.state == state)).collect();
            Page { items, next: None }
        }
        None => webhooks::list(store, workspace_id, state, &page).await?,
    };
    let next_cursor = found.next.as_deref().map(seal_cursor);
    Ok(Json(DeliveryList { deliveries: found.items.into_iter().map(view).collect(), next_cursor }))
}

/// Get a delivery with its tries.
#[utoipa::path(get, path = "/v1/webhooks/deliveries/{id}", tag = "Webhooks", params(("id" = String, Path)),
    security(("bearer" = ["run:read"]), ("session" = ["run:read"])),
    responses((status = 200, body = DeliveryDetail)))]
pub(crate) async fn find(
    auth: Auth<RunRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<Json<DeliveryDetail>> {
    let found = detail(&app.hub, &auth.workspace_id, parse(&id)?).await?;
    found.map(Json).ok_or_else(|| missing(&id))
}

/// Have a delivery made once more, at once and with all its retries, whatever
/// came of it before.
#[utoipa::path(post, path = "/v1/webhooks/deliveries/{id}/redeliver", tag = "Webhooks",
    params(("id" = String, Path)),
    security(("bearer" = ["run:write"]), ("session" = ["run:write"])),
    responses((status = 202, body = DeliveryView)))]
pub(crate) async fn redeliver(
    auth: Auth<RunWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<(StatusCode, Json<DeliveryView>)> {
    let again = nh_agents::webhooks::redeliver(&app.hub, &auth.workspace_id, parse(&id)?).await?;
    again.map(|delivery| (StatusCode::ACCEPTED, Json(delivery))).ok_or_else(|| missing(&id))
}

/// Tell when the secret that signs deliveries was made, never the secret.
#[utoipa::path(get, path = "/v1/webhooks/secret", tag = "Webhooks",
    security(("bearer" = ["keys:read"]), ("session" = ["keys:read"])),
    responses((status = 200, body = SecretView)))]
pub(crate) async fn secret(auth: Auth<KeysRead>, State(app): State<Arc<App>>) -> Answer<Json<SecretView>> {
    Ok(Json(secret_view(&app.hub, &auth.workspace_id).await?))
}

/// Make the secret that signs deliveries, or another in its place: it is in
/// this answer and nowhere else. The one before signs too for 24 hours.
#[utoipa::path(post, path = "/v1/webhooks/secret/rotate", tag = "Webhooks", request_body = RotateSecret,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["keys:write"]), ("session" = ["keys:write"])),
    responses((status = 201, body = RotatedSecret),
        (status = 409, description = "The Idempotency-Key was used before", body = nh_types::ErrorBody)))]
pub(crate) async fn rotate(
    auth: Auth<KeysWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<RotateSecret, true>,
) -> Answer<(StatusCode, Json<RotatedSecret>)> {
    let once = creating.once.map(|once| once.record(&auth, app.clock.now()));
    match make_secret(&app.hub, &auth.workspace_id, once).await? {
        Rotated::Done(secret) => Ok((StatusCode::CREATED, Json(secret))),
        Rotated::Repeated => Err(already_created().into()),
        Rotated::Mismatch => Err(mismatch().into()),
    }
}

/// What is no id names nothing.
fn parse(id: &str) -> Answer<RunId> {
    id.parse::<DeliveryId>().map(DeliveryId::run_id).map_err(|_| missing(id))
}

fn missing(id: &str) -> Failure {
    Failure::not_found("delivery", id)
}

fn already_created() -> ApiError {
    let message = "this Idempotency-Key already made a signing secret, which was shown then and is not shown \
                   again; rotate once more if it is lost";
    ApiError::new(ErrorCode::AlreadyCreated, message).param("Idempotency-Key")
}
