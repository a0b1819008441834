//! `/v1/auth`: browser sessions.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::SET_COOKIE;
use http::request::Parts;
use nh_store::users::{self, Membership, Role};
use nh_store::{StoreError, sessions, workspaces};
use nh_types::{ApiError, ErrorCode, KeyId, Scope, UserId, WorkspaceId};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::login::client_address;
use crate::auth::{
    Anyone, Auth, Credential, Principal, SESSION_LIFE_MS, SessionToken, check_origin, session_cookie,
};
use crate::failure::{Answer, Failure};
use crate::json::Json;
use crate::paging::invalid;

/// A body that nobody has vouched for yet stays small.
const MAX_LOGIN_BYTES: usize = 16 * 1024;

/// `POST /v1/auth/login`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "ada@example.com", "password": "correct horse battery staple"}))]
pub(crate) struct Login {
    email: String,
    #[schema(value_type = String, format = Password)]
    password: SecretString,
}

/// `POST /v1/auth/workspace`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SwitchWorkspace {
    /// One that the user is a member of.
    workspace_id: String,
}

/// Who is calling.
#[derive(Serialize, ToSchema)]
pub(crate) struct Me {
    /// Of a session; null for an API key.
    user: Option<UserView>,
    /// Of an API key; null for a session.
    #[schema(value_type = Option<i64>)]
    key_id: Option<KeyId>,
    workspace: WorkspaceView,
    scopes: Vec<Scope>,
    /// Where the user is a member; of a key its own workspace alone.
    workspaces: Vec<WorkspaceView>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct UserView {
    id: UserId,
    email: String,
}

#[derive(Clone, Serialize, ToSchema)]
pub(crate) struct WorkspaceView {
    id: WorkspaceId,
    name: String,
    /// `owner` or `member`; null for an API key.
    role: Option<&'static str>,
}

/// Sign in: sets the session's cookie.
///
/// Needs an `Origin` header that is the hub's own. Five tries a minute, per
/// address and per e-mail; one error for every failure.
#[utoipa::path(post, path = "/v1/auth/login", tag = "Sessions", request_body = Login, security(()),
    responses((status = 200, body = Me), (status = 401, body = nh_types::ErrorBody),
        (status = 403, description = "A foreign Origin", body = nh_types::ErrorBody),
        (status = 429, description = "Too many tries", body = nh_types::ErrorBody)))]
pub(crate) async fn login(
    State(app): State<Arc<App>>,
    parts: Parts,
    Json(login, _room): Json<Login, MAX_LOGIN_BYTES>,
) -> Answer<Response> {
    check_origin(&app, &parts)?;
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
    app.logins.count(client_address(peer, &parts.headers), &login.email)?;
    let user = app.logins.check(&app, &login.email, login.password).await?;
    let mut memberships = users::memberships(&app.hub.store, &user.id).await?.into_iter();
    let Some(first) = memberships.next() else {
        return Err(Failure::new(ErrorCode::InvalidLogin, "the e-mail or the password is wrong"));
    };
    let token = SessionToken::generate(app.ids.as_ref());
    let now = app.clock.now();
    let create = sessions::Create {
        token_hash: token.hash(),
        user_id: user.id,
        workspace_id: first.workspace_id,
        created_at: now,
        expires_at: now.plus_millis(SESSION_LIFE_MS),
    };
    app.hub.store.write(create).await?;
    let principal = app.credentials.session(&app, &token).await?;
    let me = describe(&app, &principal).await?;
    Ok(with_cookie(&app, Some(&token), axum::Json(me)))
}

/// End the session.
#[utoipa::path(post, path = "/v1/auth/logout", tag = "Sessions", security(("session" = [])),
    responses((status = 204, description = "Ended"), (status = 400, body = nh_types::ErrorBody)))]
pub(crate) async fn logout(auth: Auth<Anyone>, State(app): State<Arc<App>>) -> Answer<Response> {
    let token_hash = session_of(&auth)?;
    app.hub.store.write(sessions::Delete { token_hash }).await?;
    app.credentials.forget();
    Ok(with_cookie(&app, None, StatusCode::NO_CONTENT))
}

/// Who is calling, and what they may do.
#[utoipa::path(get, path = "/v1/auth/me", tag = "Sessions", security(("bearer" = []), ("session" = [])),
    responses((status = 200, body = Me)))]
pub(crate) async fn me(auth: Auth<Anyone>, State(app): State<Arc<App>>) -> Answer<axum::Json<Me>> {
    Ok(axum::Json(describe(&app, &auth).await?))
}

/// Move the session to another workspace of the user.
#[utoipa::path(post, path = "/v1/auth/workspace", tag = "Sessions", request_body = SwitchWorkspace,
    security(("session" = [])), responses((status = 200, body = Me)))]
pub(crate) async fn switch_workspace(
    auth: Auth<Anyone>,
    State(app): State<Arc<App>>,
    Json(body, _room): Json<SwitchWorkspace>,
) -> Answer<axum::Json<Me>> {
    let token_hash = session_of(&auth)?;
    let refused = || {
        let given: String = body.workspace_id.chars().take(80).collect();
        invalid("workspace_id", format!("you are not a member of a workspace `{given}`"))
    };
    let workspace_id: WorkspaceId = body.workspace_id.parse().map_err(|_| refused())?;
    if !app.hub.store.write(sessions::SetWorkspace { token_hash, workspace_id }).await? {
        return Err(refused().into());
    }
    app.credentials.forget();
    let principal = app.credentials.session_by_hash(&app, token_hash).await?;
    Ok(axum::Json(describe(&app, &principal).await?))
}

fn session_of(caller: &Principal) -> Result<[u8; 32], ApiError> {
    match &caller.credential {
        Credential::Session { token_hash, .. } => Ok(*token_hash),
        Credential::Key { .. } => {
            let message = "this is about a browser session, and the request came with an API key";
            Err(ApiError::new(ErrorCode::InvalidRequest, message).param("Authorization"))
        }
    }
}

fn with_cookie(app: &App, token: Option<&SessionToken>, answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    if let Some(cookie) = session_cookie(app, token) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

async fn describe(app: &App, principal: &Principal) -> Result<Me, StoreError> {
    let store = &app.hub.store;
    let (user, memberships) = match &principal.credential {
        Credential::Session { user_id, .. } => {
            let user = users::find(store, user_id).await?;
            let user = user.map(|user| UserView { id: user.id, email: user.email });
            (user, users::memberships(store, user_id).await?)
        }
        Credential::Key { .. } => (None, Vec::new()),
    };
    let role = match &principal.credential {
        Credential::Session { role, .. } => Some(*role),
        Credential::Key { .. } => None,
    };
    let found = workspaces::find(store, &principal.workspace_id).await?;
    let name = found.map(|workspace| workspace.name).unwrap_or_default();
    let workspace = WorkspaceView { id: principal.workspace_id.clone(), name, role: role.map(Role::as_str) };
    let workspaces = match &principal.credential {
        Credential::Key { .. } => vec![workspace.clone()],
        Credential::Session { .. } => memberships.into_iter().map(view).collect(),
    };
    Ok(Me {
        user,
        key_id: principal.key_id(),
        workspace,
        scopes: principal.scopes.iter().collect(),
        workspaces,
    })
}

fn view(membership: Membership) -> WorkspaceView {
    WorkspaceView {
        id: membership.workspace_id,
        name: membership.workspace_name,
        role: Some(membership.role.as_str()),
    }
}
