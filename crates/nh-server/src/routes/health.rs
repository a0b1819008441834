//! `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::failure::Answer;
use crate::store_failure::shutting_down;

#[derive(Serialize, ToSchema)]
pub(crate) struct Health {
    /// `ok`
    status: &'static str,
}

/// Whether the process answers. Touches nothing else.
#[utoipa::path(get, path = "/healthz", tag = "Operating", security(()), responses((status = 200, body = Health)))]
pub(crate) async fn is_alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Whether requests can be served: the store answers and the hub is not
/// stopping.
#[utoipa::path(get, path = "/readyz", tag = "Operating", security(()), responses(
    (status = 200, body = Health),
    (status = 503, description = "Stopping, or the store does not answer", body = nh_types::ErrorBody),
))]
pub(crate) async fn is_ready(State(app): State<Arc<App>>) -> Answer<Json<Health>> {
    if app.stopping.is_cancelled() {
        return Err(shutting_down().into());
    }
    app.hub.store.ping().await?;
    Ok(Json(Health { status: "ok" }))
}
