//! Who may reach a sandbox's servers.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::header::{ACCEPT, AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN, SET_COOKIE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use nh_store::sandboxes::SandboxRecord;
use nh_types::{ApiError, ErrorCode, SandboxId, Scope, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::Target;
use crate::app::App;
use crate::auth::{Auth, CredentialHash, Principal, ResourcesRead};
use crate::failure::{Answer, Failure};
use crate::json::changes_state;
use crate::signed;

/// Of the query of a sandbox's `url`.
pub(super) const PARAM: &str = "token";
const COOKIE_NAME: &str = "nh_sandbox";
const PURPOSE: &str = "sandbox url";

/// What lets its holder reach a sandbox's servers for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Token {
    workspace_id: WorkspaceId,
    /// Whose end ends it.
    by: CredentialHash,
    expires_at: Timestamp,
}

/// What becomes of a request for a sandbox.
pub(super) enum Checked {
    May {
        workspace_id: WorkspaceId,
        /// Without what let it through.
        request: Request,
        /// To be set.
        cookie: Option<HeaderValue>,
    },
    /// To the same place without the token, which no page of the sandbox is to see.
    Redirect(Response),
}

impl Token {
    pub(super) fn new(principal: &Principal, record: &SandboxRecord) -> Self {
        Self {
            workspace_id: record.workspace_id.clone(),
            by: CredentialHash::of(principal),
            expires_at: record.expires_at,
        }
    }

    pub(super) fn seal(&self, app: &App, id: &SandboxId) -> Answer<String> {
        signed::seal(app.hub.sealer(), PURPOSE, &[id.as_str()], self).map_err(Failure::internal)
    }

    async fn open(app: &App, id: &SandboxId, given: &str) -> Answer<Self> {
        let refused = |message: &str| -> Failure {
            ApiError::new(ErrorCode::InvalidCredential, message).param(PARAM).into()
        };
        let token: Self = signed::open(given, app.hub.sealer(), |_| PURPOSE.to_owned(), &[id.as_str()])
            .ok_or_else(|| refused("the token is not as the sandbox's `url` has it; use that unchanged"))?;
        if token.expires_at <= app.clock.now() {
            return Err(refused(
                "the token has expired; GET /v1/resources/{id} tells a `url` with a new one",
            ));
        }
        let maker = app.credentials.again(app, &token.by).await.ok();
        let maker = maker.filter(|maker| maker.workspace_id == token.workspace_id);
        let maker = maker.ok_or_else(|| refused("the key that the token was made with counts no longer"))?;
        app.rate_limits.check(&maker)?;
        maker.require(Scope::ResourcesRead)?;
        Ok(token)
    }

    fn cookie(&self, app: &App, value: &str) -> Option<HeaderValue> {
        let seconds = self.expires_at.millis_since(app.clock.now()) / 1000;
        let is_https = app.settings.public_url.as_ref().is_some_and(|url| url.scheme() == "https");
        let secure = if is_https { "; Secure" } else { "" };
        let text =
            format!("{COOKIE_NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// A key comes before a token, and that before a cookie.
pub(super) async fn check(app: &Arc<App>, target: &Target, request: Request) -> Answer<Checked> {
    let (mut parts, body) = request.into_parts();
    let (token, rest) = taken_from(&parts.uri);
    let cookie = cookie_of(&parts.headers);
    let may = |parts: Parts, workspace_id, cookie| {
        let request = Request::from_parts(cleaned(parts, rest.clone()), body);
        Checked::May { workspace_id, request, cookie }
    };
    if parts.headers.contains_key(AUTHORIZATION) {
        let auth = Auth::<ResourcesRead>::from_request_parts(&mut parts, app).await?;
        let workspace_id = auth.workspace_id.clone();
        return Ok(may(parts, workspace_id, None));
    }
    if let Some(given) = token {
        let token = Token::open(app, &target.id, &given).await?;
        let cookie = token.cookie(app, &given);
        if is_page(&parts) {
            return Ok(Checked::Redirect(redirect(&rest, cookie)));
        }
        return Ok(may(parts, token.workspace_id, cookie));
    }
    if let Some(given) = cookie {
        let token = Token::open(app, &target.id, &given).await?;
        check_origin(&parts)?;
        return Ok(may(parts, token.workspace_id, None));
    }
    let message = "a sandbox's server is reached with a key of `resources:read` (`Authorization: Bearer nh_…`), \
                   or by the `url` that GET /v1/resources/{id} tells";
    Err(Failure::new(ErrorCode::MissingCredential, message))
}

/// The token in the query, and what is left of the target.
fn taken_from(uri: &Uri) -> (Option<String>, String) {
    let Some(query) = uri.query() else { return (None, uri.path().to_owned()) };
    let mut token = None;
    // What is left stays as it was written.
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| match pair.split_once('=') {
            Some((PARAM, value)) => {
                token.get_or_insert_with(|| value.to_owned());
                false
            }
            _ => true,
        })
        .collect();
    let path = uri.path();
    match kept.is_empty() {
        true => (token, path.to_owned()),
        false => (token, format!("{path}?{}", kept.join("&"))),
    }
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(';')).map(str::trim)
}

fn cookie_of(headers: &HeaderMap) -> Option<String> {
    let mut pairs = cookies(headers).filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, value)| value.to_owned())
}

/// Whether a cookie is the hub's business alone.
pub(super) fn is_hubs(cookie: &str) -> bool {
    let name = cookie.split('=').next().unwrap_or_default().trim();
    let name = name.strip_prefix("__Host-").or(name.strip_prefix("__Secure-")).unwrap_or(name);
    name.starts_with("nh_")
}

/// Without what is the hub's: no credential reaches a sandbox.
fn cleaned(mut parts: Parts, target: String) -> Parts {
    parts.headers.remove(AUTHORIZATION);
    let kept: Vec<&str> = cookies(&parts.headers).filter(|cookie| !is_hubs(cookie)).collect();
    let kept = kept.join("; ");
    parts.headers.remove(COOKIE);
    if let Some(kept) = HeaderValue::from_str(&kept).ok().filter(|_| !kept.is_empty()) {
        parts.headers.insert(COOKIE, kept);
    }
    if let Ok(uri) = target.parse() {
        parts.uri = uri;
    }
    parts
}

/// Whether a browser shows what is answered as a page of its own.
fn is_page(parts: &Parts) -> bool {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    matches!(parts.method, Method::GET | Method::HEAD)
        && (text("sec-fetch-mode") == "navigate" || text(ACCEPT.as_str()).contains("text/html"))
}

fn redirect(to: &str, cookie: Option<HeaderValue>) -> Response {
    let mut response = (StatusCode::SEE_OTHER, Body::empty()).into_response();
    let headers = response.headers_mut();
    // Beginning with one slash, it can lead to no other host.
    let to = format!("/{}", to.trim_start_matches(['/', '\\']));
    headers.insert(LOCATION, HeaderValue::from_str(&to).unwrap_or(HeaderValue::from_static("/")));
    headers.insert("referrer-policy", HeaderValue::from_static("no-referrer"));
    if let Some(cookie) = cookie {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

/// A cookie lets no page of another origin, another sandbox's above all, do anything.
fn check_origin(parts: &Parts) -> Answer<()> {
    let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let origin = parts.headers.get(ORIGIN).and_then(|value| value.to_str().ok());
    let is_own = origin.is_some_and(|origin| origin.split_once("://").is_some_and(|(_, name)| name == host));
    let is_upgrade = parts.headers.contains_key(http::header::UPGRADE);
    if is_own || (origin.is_none() && !changes_state(&parts.method) && !is_upgrade) {
        return Ok(());
    }
    let message = "the request came from another origin than the sandbox's, so its cookie does not count";
    Err(ApiError::new(ErrorCode::OriginRefused, message).param("Origin").into())
}
