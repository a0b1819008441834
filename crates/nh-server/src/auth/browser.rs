//! Browser sessions: the cookie, and the `Origin` that must come with it.

use http::header::{COOKIE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use nh_types::{ApiError, ErrorCode, Ids};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::api_key::ALPHABET;
use crate::app::App;

/// 30 days.
pub(crate) const SESSION_LIFE_MS: i64 = 30 * 24 * 60 * 60 * 1000;
/// 7 days without a request.
pub(crate) const SESSION_IDLE_MS: i64 = 7 * 24 * 60 * 60 * 1000;
const TOKEN_CHARS: usize = 43;

/// The secret in the cookie: 43 random base62 characters, 256 bits.
pub(crate) struct SessionToken(SecretString);

impl SessionToken {
    pub(crate) fn generate(ids: &dyn Ids) -> Self {
        Self(ids.text(ALPHABET, TOKEN_CHARS).into())
    }

    pub(crate) fn of(app: &App, headers: &HeaderMap) -> Option<Self> {
        let name = cookie_name(app);
        let mut pairs = cookies(headers).filter_map(|pair| pair.split_once('='));
        let (_, token) = pairs.find(|(key, _)| *key == name)?;
        let formed = token.len() == TOKEN_CHARS && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
        formed.then(|| Self(token.into()))
    }

    /// SHA-256: all that the store keeps of it.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.expose_secret()).into()
    }
}

/// Each pair that a browser sent. One that is no text spoils no other.
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes);
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    pairs.filter_map(|pair| str::from_utf8(pair).ok()).map(str::trim)
}

pub(crate) fn is_https(app: &App) -> bool {
    app.settings.public_url.as_ref().is_some_and(|url| url.scheme() == "https")
}

/// Behind https the `__Host-` prefix binds the cookie to this very host.
fn cookie_name(app: &App) -> &'static str {
    if is_https(app) { "__Host-nh_session" } else { "nh_session" }
}

/// The `Set-Cookie` that starts a session or, without a token, ends it.
pub(crate) fn session_cookie(app: &App, token: Option<&SessionToken>) -> Option<HeaderValue> {
    let (value, age) = match token {
        Some(token) => (token.0.expose_secret(), SESSION_LIFE_MS / 1000),
        None => ("", 0),
    };
    let secure = if is_https(app) { "; Secure" } else { "" };
    let name = cookie_name(app);
    let text = format!("{name}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Lax{secure}");
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// Where there is an `Origin`, it has to be the hub's own while only this machine reaches the
/// hub: another page's script may have got hold of a key, or of a name that leads here.
pub(crate) fn check_foreign_origin(app: &App, parts: &Parts) -> Result<(), ApiError> {
    match parts.headers.contains_key(ORIGIN) && app.settings.bind.ip().is_loopback() {
        true => check_origin(app, parts),
        false => Ok(()),
    }
}

/// A browser request that changes state must come from the hub's own pages.
pub(crate) fn check_origin(app: &App, parts: &Parts) -> Result<(), ApiError> {
    let mut given = parts.headers.get_all(ORIGIN).iter();
    let origin = given.next().and_then(|value| value.to_str().ok()).filter(|_| given.next().is_none());
    let refused = |message: String| Err(ApiError::new(ErrorCode::OriginRefused, message).param("Origin"));
    let Some(origin) = origin else {
        return refused(
            "a request of a browser session that changes something needs an Origin header".to_owned(),
        );
    };
    let own = app.settings.public_url.as_ref().map(|url| url.origin().ascii_serialization());
    if own.as_deref() == Some(origin) {
        return Ok(());
    }
    if app.settings.bind.ip().is_loopback() {
        let host = parts.headers.get(HOST).and_then(|value| value.to_str().ok());
        if host.is_some() && origin.strip_prefix("http://") == host {
            return Ok(());
        }
    }
    let expected =
        own.unwrap_or_else(|| "set [server] public_url to say where the hub's pages are".to_owned());
    let origin: String = origin.chars().take(200).collect();
    refused(format!("the request came from the origin `{origin}`, not from the hub's own pages ({expected})"))
}
