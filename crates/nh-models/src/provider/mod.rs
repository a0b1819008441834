//! One configured provider: its address and key, its models, and the way to
//! ask it something. What differs between the kinds is in one file each.

mod google;
mod health;
mod openai;
mod openrouter;
mod refusal;

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, Request};
use nh_http::{HttpError, Limits, Outbound, Response};
use nh_types::model::ProviderView;
use nh_types::{SharedClock, SharedIds, Timestamp};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use tokio::sync::Semaphore;

use crate::aliases::random;
use crate::catalogue::{Model, Shelf};
use crate::usage::Reported;
use crate::{ModelError, ProviderKind, ResolvedProvider};
use health::Health;

/// A whole chat answer or a batch of embeddings.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// All of a stream.
const MAX_STREAM_BYTES: u64 = 512 * 1024 * 1024;
const MAX_LISTING_BYTES: u64 = 32 * 1024 * 1024;
/// A refusal's body; more of it is not needed to explain it.
const MAX_REFUSAL_BYTES: u64 = 1024 * 1024;

const CONNECT_MS: u64 = 10_000;
/// A plain answer begins when it is complete, and reasoning takes its time.
const FIRST_BYTE_MS: u64 = 600_000;
const BETWEEN_BYTES_MS: u64 = 120_000;
const TOTAL_MS: u64 = 1_800_000;
const LISTING_MS: u64 = 5_000;
/// How long a call waits at most before it is tried again, where the provider asks for nothing;
/// doubled each time.
const RETRY_MS: u64 = 200;
/// A provider that asks for a longer pause is not waited for.
const MAX_PAUSE_MS: u64 = 1_000;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

/// A provider that can be asked.
pub(crate) struct Provider {
    pub(crate) settings: ResolvedProvider,
    http: Outbound,
    clock: SharedClock,
    ids: SharedIds,
    authorization: Option<HeaderValue>,
    /// Where it is: a host and a port.
    server: (Option<String>, Option<u16>),
    shelf: RwLock<Arc<Shelf>>,
    health: Health,
    listing: Mutex<ListingState>,
    /// One look-up at a time; the others wait for it and use what it found.
    one_lookup: Semaphore,
}

/// Why no answer began.
struct Failure {
    error: ModelError,
    /// After at least so long it may be another answer; None: not while a call waits.
    passes_within_ms: Option<u64>,
}

impl Failure {
    fn lasting(error: ModelError) -> Self {
        Self { error, passes_within_ms: None }
    }
}

#[derive(Clone, Debug, Default)]
struct ListingState {
    tried_at: Option<Timestamp>,
    read_at: Option<Timestamp>,
    /// Why the last look-up failed.
    failure: Option<String>,
}

/// Whom a call goes to.
#[derive(Clone, Copy)]
pub(crate) struct To<'a> {
    pub(crate) provider: &'a Provider,
    pub(crate) model: &'a Model,
    /// How often what fails before an answer begins is tried again.
    pub(crate) retries: u32,
}

/// Which of a provider's operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Chat,
    ChatStream,
    Embeddings,
}

impl Provider {
    pub(crate) fn new(
        settings: ResolvedProvider,
        http: Outbound,
        clock: SharedClock,
        ids: SharedIds,
    ) -> Self {
        let authorization = settings.api_key.as_ref().and_then(|key| {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())).ok()?;
            value.set_sensitive(true);
            Some(value)
        });
        let shelf = RwLock::new(Arc::new(Shelf::configured(&settings)));
        let url = url::Url::parse(&settings.base_url).ok();
        let host = url.as_ref().and_then(|url| url.host_str()).map(str::to_owned);
        let server = (host, url.and_then(|url| url.port_or_known_default()));
        Self {
            settings,
            http,
            clock,
            ids,
            authorization,
            server,
            shelf,
            health: Health::default(),
            listing: Mutex::default(),
            one_lookup: Semaphore::new(1),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
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
            self.look_up(max_age_ms).await;
        }
        is_due
    }

    async fn listing(&self) -> Result<Shelf, ModelError> {
        let limits = Limits {
            connect_ms: LISTING_MS,
            first_byte_ms: LISTING_MS,
            between_bytes_ms: LISTING_MS,
            total_ms: LISTING_MS,
            max_body_bytes: MAX_LISTING_BYTES,
            max_redirects: 0,
        };
        let asked = self.send(Method::GET, "models", Bytes::new(), JSON, limits).await;
        let response = asked.map_err(|failure| failure.error)?;
        let body = response.bytes().await.map_err(|error| self.broken(&error))?;
        let unreadable = || ModelError::Failed {
            provider: self.name().to_owned(),
            message: "its answer to GET /models is not a list of models".to_owned(),
        };
        let body: Value = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        Shelf::listed(&self.settings, &body).ok_or_else(unreadable)
    }

    /// Sends a chat or embeddings request and gives the answer's head. Any status but a success is
    /// an error. What may pass is tried again, `retries` times: no byte of an answer is here yet.
    pub(crate) async fn ask(
        &self,
        operation: Operation,
        body: Bytes,
        retries: u32,
    ) -> Result<Response, ModelError> {
        let mut tries = 0;
        loop {
            let failure = match self.ask_once(operation, body.clone()).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            let pause_ms = failure.passes_within_ms.filter(|_| tries < retries);
            let Some(pause_ms) = pause_ms else { return Err(failure.error) };
            tracing::info!(provider = self.name(), error = %failure.error, "a call is tried again");
            // Spread, so that calls that failed together do not come again together.
            let spread_ms = random(&self.ids) % (RETRY_MS << tries);
            tokio::time::sleep(Duration::from_millis(pause_ms + spread_ms)).await;
            tries += 1;
        }
    }

    async fn ask_once(&self, operation: Operation, body: Bytes) -> Result<Response, Failure> {
        let now = || self.clock.now();
        let Some(leave) = self.health.ask(now()) else { return Err(self.resting()) };
        let answer = self.ask_it(operation, body).await;
        match &answer {
            // A provider that refuses is there.
            Err(Failure {
                error: ModelError::Failed { message, .. } | ModelError::TimedOut { message, .. },
                ..
            }) => {
                leave.failed(now(), message.clone());
            }
            _ => leave.succeeded(now()),
        }
        answer
    }

    fn resting(&self) -> Failure {
        let shown = self.health.shown(self.clock.now());
        let last = shown.last_failure.unwrap_or_default();
        let message = format!(
            "it failed {} times in a row, and is left alone for some seconds; the last time: {last}",
            shown.failures_in_a_row
        );
        Failure::lasting(self.failed(message))
    }

    /// As the API shows it.
    pub(crate) fn view(&self) -> ProviderView {
        ProviderView {
            name: self.name().to_owned(),
            kind: self.settings.kind.as_str().to_owned(),
            models: self.shelf().models().len(),
            listing_failure: self.listing_state().failure,
            health: self.health.shown(self.clock.now()),
        }
    }

    async fn ask_it(&self, operation: Operation, body: Bytes) -> Result<Response, Failure> {
        let (path, accept, max_body_bytes) = match operation {
            Operation::Chat => ("chat/completions", JSON, MAX_ANSWER_BYTES),
            Operation::ChatStream => ("chat/completions", EVENT_STREAM, MAX_STREAM_BYTES),
            Operation::Embeddings => ("embeddings", JSON, MAX_ANSWER_BYTES),
        };
        let limits = Limits {
            connect_ms: CONNECT_MS,
            first_byte_ms: FIRST_BYTE_MS,
            between_bytes_ms: BETWEEN_BYTES_MS,
            total_ms: TOTAL_MS,
            max_body_bytes,
            max_redirects: 0,
        };
        self.send(Method::POST, path, body, accept, limits).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        accept: HeaderValue,
        limits: Limits,
    ) -> Result<Response, Failure> {
        let is_post = method == Method::POST;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.settings.base_url))
            .header(ACCEPT, accept)
            .body(body)
            .map_err(|error| {
                Failure::lasting(self.failed(format!("its base_url cannot be used: {error}")))
            })?;
        let headers = request.headers_mut();
        if is_post {
            headers.insert(CONTENT_TYPE, JSON);
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let response = self.http.send(request, limits).await.map_err(|error| {
            let is_passing = matches!(
                error,
                HttpError::Connect { .. } | HttpError::Broken { .. } | HttpError::Resolve { .. }
            );
            Failure { error: self.broken(&error), passes_within_ms: is_passing.then_some(0) }
        })?;
        let status = response.status;
        if status.is_success() {
            return Ok(response);
        }
        let error = self.refused(response).await;
        let passes_within_ms = match &error {
            ModelError::RateLimited { retry_after_seconds, .. } => {
                let pause_ms = retry_after_seconds.unwrap_or(0).saturating_mul(1000);
                (pause_ms <= MAX_PAUSE_MS).then_some(pause_ms)
            }
            ModelError::Failed { .. } if status.is_server_error() => Some(0),
            _ => None,
        };
        Err(Failure { error, passes_within_ms })
    }

    async fn refused(&self, response: Response) -> ModelError {
        let (status, headers) = (response.status, response.headers.clone());
        let body = read_some(response).await;
        refusal::explain(&self.settings, status.as_u16(), &headers, &body)
    }

    /// What an error object within a successful answer means.
    pub(crate) fn error_in_answer(&self, error: &Value) -> ModelError {
        refusal::explain_object(&self.settings, error)
    }

    /// What a failed exchange means.
    pub(crate) fn broken(&self, error: &HttpError) -> ModelError {
        let message = self.settings.scrub(&error.to_string());
        if error.is_timeout() {
            ModelError::TimedOut { provider: self.name().to_owned(), message }
        } else {
            self.failed(message)
        }
    }

    pub(crate) fn failed(&self, message: impl Into<String>) -> ModelError {
        ModelError::Failed { provider: self.name().to_owned(), message: message.into() }
    }

    /// Fits a chat body to the provider's dialect.
    pub(crate) fn fit_chat(&self, body: &mut Map<String, Value>) {
        match self.settings.kind {
            ProviderKind::Google => google::fit_chat(body),
            ProviderKind::Openai if !self.settings.is_at_public_address() => {
                openai::fit_chat_of_imitator(body)
            }
            ProviderKind::Openai | ProviderKind::Openrouter | ProviderKind::Anthropic => {}
        }
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
        Some(reported)
    }
}

/// The beginning of a body, however it ends.
async fn read_some(response: Response) -> Bytes {
    use futures_util::StreamExt;
    let mut body = response.body;
    let mut read = Vec::new();
    while let Some(Ok(piece)) = body.next().await {
        read.extend_from_slice(&piece);
        if read.len() as u64 > MAX_REFUSAL_BYTES {
            break;
        }
    }
    read.into()
}
