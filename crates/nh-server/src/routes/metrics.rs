//! `/metrics`, for Prometheus.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

use crate::app::App;
use crate::auth::{Auth, UsageRead};

/// Counters, gauges and histograms in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "Operating",
    security(("bearer" = ["usage:read"]), ("session" = ["usage:read"])),
    responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn show(_: Auth<UsageRead>, state: State<Arc<App>>) -> impl IntoResponse {
    show_to_anyone(state).await
}

/// On the port of its own.
pub(crate) async fn show_to_anyone(State(app): State<Arc<App>>) -> impl IntoResponse {
    if let Err(error) = app.hub.engine.measure_queue().await {
        tracing::warn!(%error, "the queue could not be measured; its gauges are old");
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}
