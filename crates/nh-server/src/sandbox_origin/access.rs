//! Who may reach a sandbox's servers.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCEPT, AUTHORIZATION, CACHE_CONTROL, COOKIE, HOST, LOCATION, ORIGIN, PROXY_AUTHORIZATION, REFERER,
    REFERRER_POLICY, SET_COOKIE, UPGRADE,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use nh_store::sandboxes::SandboxRecord;
use nh_types::{ApiError, ErrorCode, SandboxId, Scope, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use super::Target;
use crate::app::App;
use crate::auth::api_key::START;
use crate::auth::{API_KEY, Auth, CredentialHash, Principal, ResourcesRead, cookies, is_https};
use crate::failure::{Answer, Failure};
use crate::json::changes_state;
use crate::signed;

/// Of the query of a sandbox's `url`.
pub(super) const PARAM: &str = "token";
/// That are tried.
const MAX_COOKIES: usize = 8;
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
        maker.require(Scope::ResourcesRead)?;
        Ok(token)
    }

    fn cookie(&self, app: &App, value: &str) -> Option<HeaderValue> {
        let seconds = self.expires_at.millis_since(app.clock.now()) / 1000;
        let (name, secure) = (cookie_name(app), if is_https(app) { "; Secure" } else { "" });
        let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        let mut header = HeaderValue::from_str(&text).ok()?;
        header.set_sensitive(true);
        Some(header)
    }
}

/// Behind https the `__Host-` prefix keeps other hosts of its domain from setting it.
fn cookie_name(app: &App) -> &'static str {
    if is_https(app) { "__Host-nh_sandbox" } else { "nh_sandbox" }
}

/// A key comes before a token, and that before a cookie.
pub(super) async fn check(app: &Arc<App>, target: &Target, request: Request) -> Answer<Checked> {
    let (mut parts, body) = request.into_parts();
    refuse_worker(&parts)?;
    let (token, rest) = taken_from(&parts.uri);
    let opened = match &token {
        Some(given) => Some(Token::open(app, &target.id, given).await),
        None => None,
    };
    // One that is not the hub's is the sandbox's own; one that is, of whatever sandbox and
    // age, is nobody else's.
    let to = match token.as_deref().is_some_and(signed::is_of::<Token>) {
        true => rest,
        false => parts.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned(),
    };
    if parts.headers.contains_key(AUTHORIZATION) {
        let auth = Auth::<ResourcesRead>::from_request_parts(&mut parts, app).await?;
        let workspace_id = auth.workspace_id.clone();
        return may(parts, &to, body, workspace_id, None);
    }
    if let (Some(given), Some(Ok(token))) = (&token, &opened) {
        let cookie = token.cookie(app, given);
        if is_page(&parts) {
            return Ok(Checked::Redirect(redirect(&to, cookie)));
        }
        return may(parts, &to, body, token.workspace_id.clone(), cookie);
    }
    if let Some(token) = of_cookies(app, &target.id, &parts.headers).await {
        check_origin(&parts)?;
        return may(parts, &to, body, token.workspace_id, None);
    }
    if let Some(Err(failure)) = opened {
        return Err(failure);
    }
    let message = "a sandbox's server is reached with a key of `resources:read` (`Authorization: Bearer nh_…`), \
                   or by the `url` that GET /v1/resources/{id} tells";
    Err(Failure::new(ErrorCode::MissingCredential, message))
}

fn may(
    parts: Parts,
    to: &str,
    body: Body,
    workspace_id: WorkspaceId,
    cookie: Option<HeaderValue>,
) -> Answer<Checked> {
    let request = Request::from_parts(cleaned(parts, to)?, body);
    Ok(Checked::May { workspace_id, request, cookie })
}

/// A service worker would see each later request of the browser before the hub does, the
/// one that brings the token too.
fn refuse_worker(parts: &Parts) -> Answer<()> {
    match parts.headers.contains_key("service-worker") {
        true => Err(Failure::new(ErrorCode::OriginRefused, "a sandbox's pages can have no service worker")),
        false => Ok(()),
    }
}

/// Others may have set cookies of the name too: the one that counts is looked for.
async fn of_cookies(app: &App, id: &SandboxId, headers: &HeaderMap) -> Option<Token> {
    let pairs = cookies(headers).filter_map(|pair| pair.split_once('='));
    for (_, given) in pairs.filter(|(name, _)| *name == cookie_name(app)).take(MAX_COOKIES) {
        if let Ok(token) = Token::open(app, id, given).await {
            return Some(token);
        }
    }
    None
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

/// Whether a cookie is the hub's business alone.
pub(super) fn is_hubs(cookie: &str) -> bool {
    let name = cookie.split('=').next().unwrap_or_default().trim();
    let name = name.strip_prefix("__Host-").or(name.strip_prefix("__Secure-")).unwrap_or(name);
    // One without a name is what its value says (RFC 6265bis, section 5.5).
    name.is_empty() || name.starts_with("nh_")
}

/// Without what is the hub's: no credential reaches a sandbox.
fn cleaned(mut parts: Parts, to: &str) -> Answer<Parts> {
    let kept: Vec<&str> = cookies(&parts.headers).filter(|cookie| !is_hubs(cookie)).collect();
    let kept = HeaderValue::from_str(&kept.join("; ")).ok().filter(|kept| !kept.is_empty());
    for name in [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE] {
        parts.headers.remove(name);
    }
    // Another's is the sandbox's own.
    if parts.headers.get_all(API_KEY).iter().any(|key| key.as_bytes().starts_with(START.as_bytes())) {
        parts.headers.remove(API_KEY);
    }
    if let Some(kept) = kept {
        parts.headers.insert(COOKIE, kept);
    }
    let has_token = |referer: &HeaderValue| {
        let token = format!("{PARAM}=");
        referer.as_bytes().windows(token.len()).any(|part| part == token.as_bytes())
    };
    if parts.headers.get(REFERER).is_some_and(has_token) {
        parts.headers.remove(REFERER);
    }
    if parts.method == Method::CONNECT {
        return Err(Failure::new(ErrorCode::MethodNotAllowed, "CONNECT goes to no sandbox"));
    }
    parts.uri = to.parse().map_err(|_| {
        Failure::new(ErrorCode::InvalidRequest, "the request's target is no path that can be passed on")
    })?;
    Ok(parts)
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
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(cookie) = cookie {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

/// A cookie lets no page of another origin, another sandbox's above all, do anything but
/// lead here.
fn check_origin(parts: &Parts) -> Answer<()> {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST.as_str()).unwrap_or_default();
    let is_own = match text(ORIGIN.as_str()) {
        Some(origin) => origin.split_once("://").is_some_and(|(_, name)| name == host),
        None => !changes_state(&parts.method) && !parts.headers.contains_key(UPGRADE),
    };
    // Fetch Metadata (https://www.w3.org/TR/fetch-metadata/), where the browser sends it.
    let comes_from_elsewhere = matches!(text("sec-fetch-site"), Some("same-site" | "cross-site"));
    let is_visit = text("sec-fetch-mode") == Some("navigate") && text("sec-fetch-dest") == Some("document");
    if is_own && (!comes_from_elsewhere || (is_visit && !changes_state(&parts.method))) {
        return Ok(());
    }
    let message = "the request came from another origin than the sandbox's, so its cookie does not count";
    Err(ApiError::new(ErrorCode::OriginRefused, message).param("Origin").into())
}
