//! Who is calling, and may they. A handler that acts for a workspace takes an
//! [`Auth`] whose marker is the scope it needs; there is no other way to a
//! [`Principal`], so no handler can forget the check. The same scope stands in
//! the operation's `security`, and a test holds the two together.

pub mod api_key;
mod browser;
mod credentials;
pub(crate) mod login;
pub mod password;
mod rate;

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::HeaderName;
use http::header::AUTHORIZATION;
use http::request::Parts;
use nh_store::users::Role;
use nh_types::key::KeyLimits;
use nh_types::{ApiError, ErrorCode, KeyId, Scope, ScopeSet, UserId, WorkspaceId};

pub(crate) use browser::{
    SESSION_IDLE_MS, SESSION_LIFE_MS, SessionToken, check_foreign_origin, check_origin, cookies, is_https,
    session_cookie,
};
pub(crate) use credentials::{CredentialHash, Credentials};
pub(crate) use rate::{RateLimits, ToldRate};

use crate::app::App;
use crate::failure::{Answer, Failure};
use crate::json::changes_state;

/// What the caller proved to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Credential {
    Key {
        id: KeyId,
        hash: [u8; 32],
        /// Requests a minute.
        rate_limit: Option<u32>,
        /// With an expiry, a rate limit or a budget: such a key creates no
        /// keys.
        is_limited: bool,
        limits: KeyLimits,
    },
    Session {
        token_hash: [u8; 32],
        user_id: UserId,
        role: Role,
    },
}

/// A caller whose credential was checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Principal {
    pub(crate) workspace_id: WorkspaceId,
    pub(crate) scopes: ScopeSet,
    pub(crate) credential: Credential,
}

impl Principal {
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes.allows(scope) {
            return Ok(());
        }
        let message = format!("this needs the scope `{scope}`, which the credential does not have");
        Err(ApiError::new(ErrorCode::MissingScope, message).param(scope.as_str()))
    }

    pub(crate) fn key_id(&self) -> Option<KeyId> {
        match &self.credential {
            Credential::Key { id, .. } => Some(*id),
            Credential::Session { .. } => None,
        }
    }

    /// Whether it has an end or a bound that what it makes must not outlast or evade.
    pub(crate) fn is_limited(&self) -> bool {
        matches!(self.credential, Credential::Key { is_limited: true, .. })
    }

    /// What its model calls and its runs are held to.
    pub(crate) fn limits(&self) -> KeyLimits {
        match &self.credential {
            Credential::Key { limits, .. } => limits.clone(),
            Credential::Session { .. } => KeyLimits::default(),
        }
    }

    /// As runs keep it.
    pub(crate) fn created_by(&self) -> String {
        match &self.credential {
            Credential::Key { id, .. } => format!("key:{id}"),
            Credential::Session { user_id, .. } => format!("session:{user_id}"),
        }
    }

    /// Whom an idempotency record belongs to: this very key or session.
    pub(crate) fn owner(&self) -> String {
        match &self.credential {
            Credential::Key { id, .. } => format!("{}/key:{id}", self.workspace_id),
            Credential::Session { token_hash, .. } => {
                use std::fmt::Write;
                let mut owner = format!("{}/session:", self.workspace_id);
                for byte in &token_hash[..16] {
                    // Writing to a String cannot fail.
                    let _ = write!(owner, "{byte:02x}");
                }
                owner
            }
        }
    }
}

/// The scope that an operation needs, as a type.
pub(crate) trait Needs: Send + Sync + 'static {
    /// None: any credential will do.
    const SCOPE: Option<Scope>;
}

macro_rules! needs {
    ($($name:ident),+) => {
        $(pub(crate) struct $name; impl Needs for $name { const SCOPE: Option<Scope> = Some(Scope::$name); })+
    };
}

needs!(
    AgentsRead,
    AgentsWrite,
    ChatWrite,
    KeysRead,
    KeysWrite,
    MemoriesRead,
    MemoriesWrite,
    ModelsRead,
    ResourcesRead,
    ResourcesWrite,
    RunRead,
    RunWrite,
    StorageRead,
    StorageWrite,
    ToolsRead,
    ToolsWrite,
    UsageRead
);

/// Any credential.
pub(crate) struct Anyone;

impl Needs for Anyone {
    const SCOPE: Option<Scope> = None;
}

/// The checked caller of an operation that needs the scope `N`.
pub(crate) struct Auth<N> {
    principal: Arc<Principal>,
    needs: PhantomData<N>,
}

impl<N> Auth<N> {
    pub(crate) fn shared(&self) -> Arc<Principal> {
        self.principal.clone()
    }
}

impl<N> Deref for Auth<N> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

impl<N: Needs> FromRequestParts<Arc<App>> for Auth<N> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        let principal = authenticate(parts, app).await?;
        let of_workspace = app.hub.models.workspace_limits().requests_per_minute;
        app.rate_limits.check(&principal, of_workspace, parts.extensions.get::<ToldRate>())?;
        if let Some(scope) = N::SCOPE {
            principal.require(scope)?;
        }
        Ok(Self { principal, needs: PhantomData })
    }
}

/// The checked caller who sent a key: a browser's session does not count.
pub(crate) struct KeyAuth<N>(Auth<N>);

impl<N> KeyAuth<N> {
    pub(crate) fn shared(&self) -> Arc<Principal> {
        self.0.shared()
    }
}

impl<N: Needs> FromRequestParts<Arc<App>> for KeyAuth<N> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Failure> {
        if bearer(parts)?.is_none() {
            return Err(Failure::new(ErrorCode::MissingCredential, NO_KEY));
        }
        Auth::from_request_parts(parts, app).await.map(Self)
    }
}

/// The checked caller where there is one, for what everybody may see in part.
pub(crate) struct MaybeAuth<N>(Answer<Auth<N>>);

impl<N> MaybeAuth<N> {
    pub(crate) fn required(self) -> Answer<Auth<N>> {
        self.0
    }
}

impl<N: Needs> FromRequestParts<Arc<App>> for MaybeAuth<N> {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Self::Rejection> {
        Ok(Self(Auth::from_request_parts(parts, app).await))
    }
}

const NO_KEY: &str = "no credential came with the request; send `Authorization: Bearer nh_…`";

/// As Anthropic's clients send a key.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A key in a header wins over a cookie, also when it is wrong.
async fn authenticate(parts: &Parts, app: &App) -> Result<Arc<Principal>, Failure> {
    if let Some(token) = bearer(parts)? {
        return app.credentials.key(app, &token).await;
    }
    if let Some(token) = SessionToken::of(app, &parts.headers) {
        let principal = Box::pin(app.credentials.session(app, &token)).await?;
        if changes_state(&parts.method) {
            check_origin(app, parts)?;
        }
        return Ok(principal);
    }
    Err(Failure::new(ErrorCode::MissingCredential, NO_KEY))
}

fn bearer(parts: &Parts) -> Result<Option<api_key::ApiKey>, ApiError> {
    let invalid = |message: String| ApiError::new(ErrorCode::InvalidCredential, message);
    let mut given = parts.headers.get_all(AUTHORIZATION).iter();
    let Some(value) = given.next() else {
        // What a gateway before the hub wants there is none of the hub's keys.
        let mut keys = parts.headers.get_all(API_KEY).iter().filter_map(|value| value.to_str().ok());
        let key = keys.find(|key| key.starts_with(api_key::START));
        return key.map(api_key::ApiKey::parse).transpose().map_err(|error| invalid(error.to_string()));
    };
    if given.next().is_some() {
        return Err(invalid("the request has more than one Authorization header".to_owned()));
    }
    let (scheme, token) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(invalid("the Authorization header must be `Bearer` and an API key".to_owned()));
    }
    api_key::ApiKey::parse(token.trim()).map(Some).map_err(|error| invalid(error.to_string()))
}
