//! `/v1/models`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use nh_models::ModelError;
use nh_types::model::{ModelList, ModelView};

use crate::app::App;
use crate::auth::{Auth, ModelsRead};
use crate::failure::Answer;

/// List the models that this hub can call: OpenAI's shape in `data`, the same
/// in `models`.
#[utoipa::path(get, path = "/v1/models", tag = "Chat and models",
    security(("bearer" = ["models:read"]), ("session" = ["models:read"])),
    responses((status = 200, body = ModelList)))]
pub(crate) async fn list(auth: Auth<ModelsRead>, State(app): State<Arc<App>>) -> Answer<Json<ModelList>> {
    let models = app.hub.models.list(&auth.workspace_id).await?;
    Ok(Json(ModelList { object: "list".to_owned(), data: models.clone(), models }))
}

/// Get a model. The slashes of its id may be written as they are or as `%2F`.
#[utoipa::path(get, path = "/v1/models/{*id}", tag = "Chat and models", params(("id" = String, Path)),
    security(("bearer" = ["models:read"]), ("session" = ["models:read"])),
    responses((status = 200, body = ModelView)))]
pub(crate) async fn find(
    auth: Auth<ModelsRead>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<Json<ModelView>> {
    let found = app.hub.models.find(&auth.workspace_id, &id).await?;
    let model: String = id.chars().take(128).collect();
    Ok(Json(found.ok_or(ModelError::NotFound { model })?))
}
