//! `/v1/providers`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use nh_models::own::{changed, created, sealed};
use nh_store::providers::{self, Created, KeyChange, ProviderRecord};
use nh_store::{Once, StoreError};
use nh_types::provider::{ChangeProvider, CreateProvider, ProviderList, ProviderView};
use nh_types::{ApiError, ErrorCode, WorkspaceId};

use crate::app::App;
use crate::auth::{Auth, KeysWrite, ModelsRead, Principal};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::{Creating, Json as JsonBody};

/// Providers that a workspace may register.
const MAX_PROVIDERS: u32 = 10;

/// List the providers of models that the workspace can use, its own first, and how their calls
/// went on this node since its start: one that fails five times in a row is left alone for some
/// seconds.
#[utoipa::path(get, path = "/v1/providers", tag = "Providers",
    security(("bearer" = ["models:read"]), ("session" = ["models:read"])),
    responses((status = 200, body = ProviderList)))]
pub(crate) async fn list(auth: Auth<ModelsRead>, State(app): State<Arc<App>>) -> Answer<Json<ProviderList>> {
    Ok(Json(ProviderList { providers: app.hub.models.providers(&auth.workspace_id).await? }))
}

/// Register a provider of the workspace's own. It is asked for its models at once; one that does
/// not answer is registered too. It comes before the providers of the configuration, and in the
/// place of one of the same name.
#[utoipa::path(post, path = "/v1/providers", tag = "Providers", request_body = CreateProvider,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["keys:write"]), ("session" = ["keys:write"])),
    responses((status = 201, body = ProviderView),
        (status = 409, description = "The name is taken", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<KeysWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<CreateProvider>,
) -> Answer<(StatusCode, Json<ProviderView>)> {
    check_caller(&auth)?;
    let now = app.clock.now();
    let once = creating.once.map(|once| once.record(&auth, now));
    let (definition, key) = created(creating.body, app.ids.uuid_v7(now).to_string())?;
    let (name, workspace_id) = (definition.name.clone(), auth.workspace_id.clone());
    let key = key.map(|key| sealed(app.hub.sealer(), &workspace_id, &definition, &key)).transpose()?;
    let created_by = auth.created_by();
    let provider = ProviderRecord { workspace_id, definition, created_by, created_at: now, updated_at: now };
    let create = providers::Create { provider, key, most: MAX_PROVIDERS };
    match app.hub.store.write_once(once, create).await {
        Ok(Once::First(Created::Done) | Once::Replay(Created::Done)) => {}
        Ok(Once::First(Created::Full) | Once::Replay(Created::Full)) => return Err(full().into()),
        Ok(Once::Mismatch) => return Err(mismatch().into()),
        Err(StoreError::Conflict(_)) => return Err(taken(&name).into()),
        Err(error) => return Err(error.into()),
    }
    Ok((StatusCode::CREATED, Json(asked(&app, &auth.workspace_id, &name).await?)))
}

/// Get a provider, and how its calls went on this node.
#[utoipa::path(get, path = "/v1/providers/{name}", tag = "Providers", params(("name" = String, Path)),
    security(("bearer" = ["models:read"]), ("session" = ["models:read"])),
    responses((status = 200, body = ProviderView)))]
pub(crate) async fn find(
    auth: Auth<ModelsRead>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<Json<ProviderView>> {
    let found = app.hub.models.provider(&auth.workspace_id, &name, false).await?;
    found.map(Json).ok_or_else(|| Failure::not_found("provider", &name))
}

/// Change one of the workspace's own: what is absent stays. It is asked for its models at once.
/// On other nodes the change is seen within a second.
#[utoipa::path(patch, path = "/v1/providers/{name}", tag = "Providers", request_body = ChangeProvider,
    params(("name" = String, Path)),
    security(("bearer" = ["keys:write"]), ("session" = ["keys:write"])),
    responses((status = 200, body = ProviderView),
        (status = 409, description = "Somebody else changed it meanwhile, or it is the operator's",
            body = nh_types::ErrorBody)))]
pub(crate) async fn change(
    auth: Auth<KeysWrite>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
    JsonBody(body, _room): JsonBody<ChangeProvider>,
) -> Answer<Json<ProviderView>> {
    check_caller(&auth)?;
    let workspace_id = auth.workspace_id.clone();
    let mut all = providers::all(&app.hub.store, &workspace_id).await?.into_iter();
    let Some(now) = all.find(|own| own.definition.name == name) else {
        return Err(missing(&app, &workspace_id, &name).await);
    };
    let (definition, key) = changed(now.definition, body)?;
    let seal = |key| sealed(app.hub.sealer(), &workspace_id, &definition, &key);
    let key = match key {
        None => KeyChange::Stays,
        Some(key) => KeyChange::Becomes(key.map(seal).transpose()?),
    };
    // Each change is later than the one before, whatever the clock says.
    let (from, updated_at) = (now.updated_at, app.clock.now().max(now.updated_at.plus_millis(1)));
    let change = providers::Change { workspace_id: workspace_id.clone(), definition, from, updated_at, key };
    match app.hub.store.write(change).await {
        Ok(()) => Ok(Json(asked(&app, &workspace_id, &name).await?)),
        Err(StoreError::Conflict(_)) => Err(changed_meanwhile(&name)),
        Err(error) => Err(error.into()),
    }
}

/// Delete one of the workspace's own, with its key. Calls under way end as they would have.
#[utoipa::path(delete, path = "/v1/providers/{name}", tag = "Providers", params(("name" = String, Path)),
    security(("bearer" = ["keys:write"]), ("session" = ["keys:write"])),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete(
    auth: Auth<KeysWrite>,
    State(app): State<Arc<App>>,
    Path(name): Path<String>,
) -> Answer<StatusCode> {
    check_caller(&auth)?;
    let workspace_id = auth.workspace_id.clone();
    let delete = providers::Delete { workspace_id: workspace_id.clone(), name: name.clone() };
    let deleted = app.hub.store.write(delete).await?;
    app.hub.own_providers.forget(&workspace_id);
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(missing(&app, &workspace_id, &name).await) }
}

/// What a key with an end may do must not outlast it.
fn check_caller(caller: &Principal) -> Result<(), ApiError> {
    if caller.is_limited() {
        let message = "a key with an expiry, a rate limit or a budget cannot change who serves the \
                       workspace's models; use another key";
        return Err(ApiError::new(ErrorCode::LimitedKey, message));
    }
    Ok(())
}

/// What was just changed, once it was asked for its models.
async fn asked(app: &App, workspace_id: &WorkspaceId, name: &str) -> Answer<ProviderView> {
    app.hub.own_providers.forget(workspace_id);
    let found = app.hub.models.provider(workspace_id, name, true).await?;
    found.ok_or_else(|| Failure::not_found("provider", name))
}

/// One of the configuration is there, but nobody's to change.
async fn missing(app: &App, workspace_id: &WorkspaceId, name: &str) -> Failure {
    match app.hub.models.provider(workspace_id, name, false).await {
        Err(error) => error.into(),
        Ok(None) => Failure::not_found("provider", name),
        Ok(Some(_)) => {
            let message = format!(
                "the provider `{name}` is in the hub's configuration; the operator changes it there. \
                 Registered with POST, one of the workspace's own takes its place"
            );
            Failure::new(ErrorCode::Conflict, message)
        }
    }
}

fn changed_meanwhile(name: &str) -> Failure {
    let message = format!("the provider `{name}` was changed or deleted meanwhile; read it and try again");
    Failure::new(ErrorCode::Conflict, message)
}

fn taken(name: &str) -> ApiError {
    ApiError::new(ErrorCode::AlreadyExists, format!("the workspace has a provider `{name}` already"))
        .param("name")
}

fn full() -> ApiError {
    let message =
        format!("a workspace may have {MAX_PROVIDERS} providers, and has as many; delete one first");
    ApiError::new(ErrorCode::Conflict, message)
}
