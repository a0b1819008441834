//! `/v1/keys`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use http::StatusCode;
use nh_agents::{check_limits, check_model_limits, check_usd};
use nh_models::Account;
use nh_store::Once;
use nh_store::keys::{self, KeyRecord};
use nh_types::key::{CreateKey, CreatedKey, KeyLimits, KeyList, KeyView};
use nh_types::{ApiError, ErrorCode, KeyId, Scope, ScopeSet};

use crate::app::App;
use crate::auth::api_key::ApiKey;
use crate::auth::{Auth, KeysRead, KeysWrite, Principal};
use crate::failure::{Answer, Failure};
use crate::idempotency::mismatch;
use crate::json::Creating;
use crate::paging::{Query, invalid, seal_cursor};

const MAX_NAME_CHARS: usize = 128;
const MAX_RATE_LIMIT: u32 = 1_000_000;

/// List the workspace's active keys, masked, newest first.
#[utoipa::path(get, path = "/v1/keys", tag = "API keys",
    params(("limit" = Option<u32>, Query, minimum = 1, maximum = 1000), ("cursor" = Option<String>, Query)),
    security(("bearer" = ["keys:read"]), ("session" = ["keys:read"])),
    responses((status = 200, body = KeyList)))]
pub(crate) async fn list(
    auth: Auth<KeysRead>,
    State(app): State<Arc<App>>,
    mut query: Query,
) -> Answer<Json<KeyList>> {
    let page = query.page()?;
    query.finish()?;
    let found = keys::list(&app.hub.store, &auth.workspace_id, app.clock.now(), &page).await?;
    let next_cursor = found.next.as_deref().map(seal_cursor);
    let mut keys = Vec::with_capacity(found.items.len());
    for record in found.items {
        keys.push(view(&app, record).await?);
    }
    Ok(Json(KeyList { keys, next_cursor }))
}

/// Create a key. Its raw form is in this answer and nowhere else.
#[utoipa::path(post, path = "/v1/keys", tag = "API keys", request_body = CreateKey,
    params(("Idempotency-Key" = Option<String>, Header)),
    security(("bearer" = ["keys:write"]), ("session" = ["keys:write"])),
    responses((status = 201, body = CreatedKey),
        (status = 409, description = "The Idempotency-Key was used before", body = nh_types::ErrorBody)))]
pub(crate) async fn create(
    auth: Auth<KeysWrite>,
    State(app): State<Arc<App>>,
    creating: Creating<CreateKey>,
) -> Answer<(StatusCode, Json<CreatedKey>)> {
    let now = app.clock.now();
    let scopes = check(&auth, &creating.body, now)?;
    let rate_limit = creating.body.rate_limit.map(check_rate_limit).transpose()?;
    let key = ApiKey::generate(app.ids.as_ref());
    let create = keys::Create {
        workspace_id: auth.workspace_id.clone(),
        name: creating.body.name,
        prefix: key.prefix(),
        hash: key.hash(),
        scopes,
        created_at: now,
        expires_at: creating.body.expires_at,
        rate_limit,
        limits: KeyLimits {
            budget_usd: creating.body.budget_usd,
            runs: creating.body.limits.unwrap_or_default(),
            models: creating.body.model_limits.unwrap_or_default(),
        },
    };
    let once = creating.once.map(|once| once.record(&auth, now));
    match app.hub.store.write_once(once, create).await? {
        Once::First(record) => Ok((StatusCode::CREATED, Json(created(&key, record)))),
        Once::Replay(record) => Err(already_created(record.id).into()),
        Once::Mismatch => Err(mismatch().into()),
    }
}

/// Revoke a key: within a second no node accepts it.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "API keys", params(("id" = i64, Path)),
    security(("bearer" = ["keys:write"]), ("session" = ["keys:write"])),
    responses((status = 204, description = "Revoked")))]
pub(crate) async fn revoke(
    auth: Auth<KeysWrite>,
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let missing = || Failure::not_found("key", &id);
    let number: KeyId = id.parse().map_err(|_| missing())?;
    let revoke = keys::Revoke { workspace_id: auth.workspace_id.clone(), id: number, at: app.clock.now() };
    let revoked = app.hub.store.write(revoke).await?;
    app.credentials.forget();
    if revoked { Ok(StatusCode::NO_CONTENT) } else { Err(missing()) }
}

fn check(caller: &Principal, body: &CreateKey, now: nh_types::Timestamp) -> Result<ScopeSet, ApiError> {
    if caller.is_limited() {
        let message = "a key with an expiry, a rate limit or a budget can create no keys";
        return Err(ApiError::new(ErrorCode::LimitedKey, message));
    }
    let chars = body.name.chars().count();
    if !(1..=MAX_NAME_CHARS).contains(&chars) || body.name.contains('\0') {
        let message =
            format!("`name` has {chars} characters; it must have 1 to {MAX_NAME_CHARS}, and no NUL");
        return Err(invalid("name", message));
    }
    if let Some(end) = body.expires_at.filter(|end| *end <= now) {
        let message = format!("`expires_at` is {end}; it must be in the future, and now it is {now}");
        return Err(invalid("expires_at", message));
    }
    if let Some(usd) = body.budget_usd {
        check_usd("budget_usd", usd)?;
    }
    if let Some(limits) = &body.limits {
        check_limits("limits", limits)?;
    }
    if let Some(limits) = &body.model_limits {
        check_model_limits("model_limits", limits)?;
    }
    check_scopes(caller, &body.scopes)
}

fn check_rate_limit(given: i64) -> Result<u32, ApiError> {
    u32::try_from(given).ok().filter(|limit| (1..=MAX_RATE_LIMIT).contains(limit)).ok_or_else(|| {
        let message = format!("`rate_limit` is {given}; it must be 1 to {MAX_RATE_LIMIT} requests a minute");
        invalid("rate_limit", message)
    })
}

fn check_scopes(caller: &Principal, names: &[String]) -> Result<ScopeSet, ApiError> {
    if names.is_empty() {
        return Err(invalid("scopes", "`scopes` is empty; a key needs at least one".to_owned()));
    }
    let mut wanted = Vec::new();
    for (index, name) in names.iter().enumerate() {
        wanted.push(name.parse::<Scope>().map_err(|error| {
            ApiError::new(ErrorCode::UnknownScope, error.to_string()).param(format!("scopes[{index}]"))
        })?);
    }
    let wanted: ScopeSet = wanted.into_iter().collect();
    match caller.scopes.first_beyond(&wanted) {
        None => Ok(wanted),
        Some(scope) => {
            let message =
                format!("a key cannot create one with the scope `{scope}`, which it does not have itself");
            Err(ApiError::new(ErrorCode::MissingScope, message).param(scope.as_str()))
        }
    }
}

fn already_created(id: KeyId) -> ApiError {
    let message = format!(
        "this Idempotency-Key already created the key {id}, whose secret was shown then and is not kept; \
         revoke it and create another if it is lost"
    );
    ApiError::new(ErrorCode::AlreadyCreated, message).param(id.to_string())
}

fn created(key: &ApiKey, record: KeyRecord) -> CreatedKey {
    CreatedKey {
        key: key.expose().to_owned(),
        id: record.id,
        prefix: record.prefix,
        name: record.name,
        scopes: record.scopes.iter().collect(),
        created_at: record.created_at,
        expires_at: record.expires_at,
        rate_limit: record.rate_limit,
        budget_usd: record.limits.budget_usd,
        limits: record.limits.runs,
        model_limits: record.limits.models,
    }
}

async fn view(app: &App, record: KeyRecord) -> Answer<KeyView> {
    let account = record.limits.budget_usd.map(|usd| Account::of_key(record.id, usd, app.clock.now()));
    let spent_usd = match account {
        Some(account) => Some(app.hub.ledger.spent_usd(&record.workspace_id, &account.name).await?),
        None => None,
    };
    Ok(KeyView {
        id: record.id,
        name: record.name,
        prefix: record.prefix,
        scopes: record.scopes.iter().collect(),
        created_at: record.created_at,
        last_used_at: record.last_used_at,
        expires_at: record.expires_at,
        rate_limit: record.rate_limit,
        budget_usd: record.limits.budget_usd,
        spent_usd,
        limits: record.limits.runs,
        model_limits: record.limits.models,
    })
}
