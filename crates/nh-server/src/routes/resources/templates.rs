//! `GET /v1/templates`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use nh_types::sandbox::TemplateList;

use crate::app::App;
use crate::auth::{Auth, ResourcesRead};

/// List what sandboxes can begin with.
#[utoipa::path(get, path = "/v1/templates", tag = "Compute",
    security(("bearer" = ["resources:read"]), ("session" = ["resources:read"])),
    responses((status = 200, body = TemplateList)))]
pub(crate) async fn list_templates(
    _: Auth<ResourcesRead>,
    State(app): State<Arc<App>>,
) -> Json<TemplateList> {
    Json(TemplateList { templates: app.hub.compute.templates() })
}
