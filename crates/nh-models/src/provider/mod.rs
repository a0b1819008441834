//! One configured provider: its address and key, its models, and the way to
//! ask it something. What differs between the kinds is in one file each.

mod anthropic;
mod asking;
mod dialect;
mod google;
mod health;
mod openai;
mod openrouter;
mod refusal;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use nh_http::{HttpError, Outbound};
use nh_store::providers::ProviderRecord;
use nh_types::provider::{ProviderSource, ProviderView};
use nh_types::{SharedClock, SharedIds, Timestamp};
use secrecy::ExposeSecret;
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::catalogue::{Model, Shelf};
use crate::usage::Reported;
use crate::{ModelError, ProviderKind, ResolvedProvider};
pub(crate) use anthropic::{BETA, BLOCK, Kept, MAX_BETA_BYTES, OWN, OWN_FIELDS, PAUSE, Place};
pub(crate) use anthropic::{THINKING_FORMAT, weave};
pub(crate) use asking::{Asked, Operation, To};
pub(crate) use dialect::Events;
use health::Health;
pub(crate) use health::Leave;

/// A provider that can be asked.
pub(crate) struct Provider {
    pub(crate) settings: ResolvedProvider,
    /// Of one that a workspace registered.
    own: Option<ProviderRecord>,
    http: Outbound,
    clock: SharedClock,
    ids: SharedIds,
    /// Of each request: the key, and what else the protocol wants.
    headers: HeaderMap,
    /// Where it is: a host and a port.
    server: (Option<String>, Option<u16>),
    shelf: RwLock<Arc<Shelf>>,
    health: Arc<Health>,
    listing: Mutex<ListingState>,
    /// One look-up at a time; the others wait for it and use what it found.
    one_lookup: Semaphore,
}

#[derive(Clone, Debug, Default)]
struct ListingState {
    tried_at: Option<Timestamp>,
    read_at: Option<Timestamp>,
    /// Why the last look-up failed.
    failure: Option<String>,
}

impl Provider {
    pub(crate) fn new(
        settings: ResolvedProvider,
        own: Option<ProviderRecord>,
        http: Outbound,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Self {
        let headers = headers(&settings);
        let shelf = RwLock::new(Arc::new(Shelf::configured(&settings)));
        let url = url::Url::parse(&settings.base_url).ok();
        let host = url.as_ref().and_then(|url| url.host_str()).map(str::to_owned);
        let server = (host, url.and_then(|url| url.port_or_known_default()));
        Self {
            settings,
            own,
            http,
            clock,
            ids,
            headers,
            server,
            shelf,
            health: Arc::default(),
            listing: Mutex::default(),
            one_lookup: Semaphore::new(1),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// What a workspace registered; None of one in the configuration.
    pub(crate) fn own(&self) -> Option<&ProviderRecord> {
        self.own.as_ref()
    }

    pub(crate) fn server(&self) -> (Option<&str>, Option<u16>) {
        (self.server.0.as_deref(), self.server.1)
    }

    pub(crate) fn shelf(&self) -> Arc<Shelf> {
        self.shelf.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A model by its own id, or by `<provider name>/<its own id>`.
    pub(crate) fn find(&self, id: &str) -> Option<Arc<Model>> {
        let shelf = self.shelf();
        let own = self.without_name(id);
        shelf.find(id).or_else(|| shelf.find(own?)).or_else(|| {
            let base = self.variant_of(own.unwrap_or(id))?;
            let listed = shelf.find(base)?;
            Some(Arc::new(Model { upstream_id: own.unwrap_or(id).to_owned(), ..(*listed).clone() }))
        })
    }

    /// The rest of `<provider name>/<rest>`.
    pub(crate) fn without_name<'a>(&self, id: &'a str) -> Option<&'a str> {
        id.strip_prefix(self.name())?.strip_prefix('/').filter(|rest| !rest.is_empty())
    }

    fn variant_of<'a>(&self, id: &'a str) -> Option<&'a str> {
        match self.settings.kind {
            ProviderKind::Openrouter => openrouter::variant_of(id),
            ProviderKind::Openai | ProviderKind::Google | ProviderKind::Anthropic => None,
        }
    }

    /// Whether it has said which models it serves.
    pub(crate) fn is_listed(&self) -> bool {
        self.listing_state().read_at.is_some()
    }

    /// Why the provider's models are not known, if they are not.
    pub(crate) fn unlisted_because(&self) -> Option<String> {
        let state = self.listing_state();
        match state.read_at {
            Some(_) => None,
            None => Some(state.failure.unwrap_or_else(|| "it was not asked yet".to_owned())),
        }
    }

    fn listing_state(&self) -> ListingState {
        self.listing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for the models unless that was tried within `max_age_ms`. A failure
    /// keeps what was known.
    pub(crate) async fn look_up(&self, max_age_ms: i64) {
        let is_recent = || {
            let tried = self.listing_state().tried_at;
            tried.is_some_and(|at| (0..max_age_ms).contains(&self.clock.now().millis_since(at)))
        };
        if is_recent() {
            return;
        }
        let Ok(_turn) = self.one_lookup.acquire().await else { return };
        if is_recent() {
            return;
        }
        let found = self.listing().await;
        let now = self.clock.now();
        let mut state = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        state.tried_at = Some(now);
        match found {
            Ok(shelf) => {
                *self.shelf.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shelf);
                state.read_at = Some(now);
                state.failure = None;
            }
            Err(error) => {
                tracing::warn!(provider = self.name(), %error, "the provider's models could not be listed");
                state.failure = Some(error.to_string());
            }
        }
    }

    /// Renews a listing that has grown old, so that its prices stay true. One
    /// caller does it and waits; the others go on with what is known. Whether
    /// it was done.
    pub(crate) async fn look_up_again(&self, max_age_ms: i64) -> bool {
        let is_old = |at: Timestamp| self.clock.now().millis_since(at) >= max_age_ms;
        let state = self.listing_state();
        let is_due = state.read_at.is_some() && state.tried_at.is_some_and(is_old);
        if is_due && self.one_lookup.available_permits() > 0 {
            // Boxed: every call comes by here, and hardly any has to look.
            Box::pin(self.look_up(max_age_ms)).await;
        }
        is_due
    }

    /// As the API shows it.
    pub(crate) fn view(&self) -> ProviderView {
        let own = self.own.as_ref();
        let definition = own.map(|own| &own.definition);
        ProviderView {
            name: self.name().to_owned(),
            kind: self.settings.kind,
            source: own.map_or(ProviderSource::Configuration, |_| ProviderSource::Workspace),
            known_models: self.shelf().models().len(),
            listing_failure: self.listing_state().failure,
            health: self.health.shown(self.clock.now()),
            base_url: definition.map(|own| own.base_url.clone()),
            has_api_key: definition.map(|own| own.has_api_key),
            models: definition.map(|own| own.models.clone()),
            created_at: own.map(|own| own.created_at),
            updated_at: own.map(|own| own.updated_at),
        }
    }

    /// What an error object within a successful answer means.
    pub(crate) fn error_in_answer(&self, error: &Value) -> ModelError {
        refusal::explain_object(&self.settings, error)
    }

    /// What a failed exchange means.
    pub(crate) fn broken(&self, error: &HttpError) -> ModelError {
        let message = self.settings.scrub(&error.to_string());
        if error.is_timeout() {
            let was_sent = !error.is_before_sending();
            ModelError::TimedOut { provider: self.name().to_owned(), message, was_sent }
        } else {
            self.failed(message)
        }
    }

    pub(crate) fn failed(&self, message: impl Into<String>) -> ModelError {
        let message = self.settings.scrub(&message.into());
        ModelError::Failed { provider: self.name().to_owned(), message }
    }

    /// The field that bounds an answer's tokens: OpenAI's own models that reason
    /// take only the newer one, and many imitators know only the older.
    pub(crate) fn answer_limit(&self) -> &'static str {
        match self.settings.kind {
            ProviderKind::Openai if self.settings.is_at_public_address() => "max_completion_tokens",
            _ => "max_tokens",
        }
    }

    /// Whether a turn with tool calls may end with `stop`, which is then
    /// mended to `tool_calls`. OpenAI itself says `stop` on purpose when one
    /// function was forced.
    pub(crate) fn mends_tool_turns(&self) -> bool {
        !(self.settings.kind == ProviderKind::Openai && self.settings.is_at_public_address())
    }

    /// The provider's count, its cost only where that is in US dollars.
    pub(crate) fn reported(&self, usage: &Value) -> Option<Reported> {
        let mut reported = Reported::read(usage)?;
        if self.settings.kind != ProviderKind::Openrouter {
            reported.usage.cost_usd = None;
        }
        if self.settings.kind == ProviderKind::Anthropic {
            reported.surcharge_tokens = anthropic::cache_surcharge(usage);
        }
        Some(reported)
    }
}

fn headers(settings: &ResolvedProvider) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(key) = &settings.api_key {
        let (name, scheme) = match settings.kind {
            ProviderKind::Anthropic => (anthropic::KEY_HEADER, ""),
            ProviderKind::Google => (google::KEY_HEADER, ""),
            ProviderKind::Openai | ProviderKind::Openrouter => (AUTHORIZATION, "Bearer "),
        };
        // The configuration's check lets no key through that fits into no header.
        if let Ok(mut value) = HeaderValue::from_str(&format!("{scheme}{}", key.expose_secret())) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    if settings.kind == ProviderKind::Anthropic {
        headers.extend([anthropic::VERSION]);
    }
    headers
}
