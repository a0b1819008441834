//! Asking a provider something, and asking again where that may help.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, Request};
use nh_http::{HttpError, Limits, Response};
use nh_types::JsonSize;
use serde_json::Value;

use super::anthropic::BETA;
use super::dialect::Written;
use super::health::Leave;
use super::{Provider, refusal};
use crate::aliases::random;
use crate::catalogue::{ListingBounds, Model, Shelf};
use crate::chat::MAX_VALUES;
use crate::{ModelError, Timeouts};

/// A whole chat answer or a batch of embeddings.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// All of a stream.
const MAX_STREAM_BYTES: u64 = 512 * 1024 * 1024;
const MAX_LISTING_BYTES: u64 = 32 * 1024 * 1024;
/// Of providers that workspaces registered.
const MAX_OWN_ANSWER_BYTES: u64 = 16 * 1024 * 1024;
const MAX_OWN_STREAM_BYTES: u64 = 64 * 1024 * 1024;
const MAX_OWN_LISTING_BYTES: u64 = 4 * 1024 * 1024;
const LISTED: ListingBounds = ListingBounds { models: 10_000, description_chars: 2_000 };
const OWN_LISTED: ListingBounds = ListingBounds { models: 1_000, description_chars: 200 };
/// A refusal's body; more of it is not needed to explain it.
const MAX_REFUSAL_BYTES: u64 = 1024 * 1024;

const TOTAL_MS: u64 = 1_800_000;
const LISTING_MS: u64 = 5_000;
/// How long a call waits at most before it is tried again, where the provider asks for nothing;
/// doubled each time.
const RETRY_MS: u64 = 200;
/// A provider that asks for a longer pause is not waited for.
const MAX_PAUSE_MS: u64 = 1_000;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const EVENT_STREAM: HeaderValue = HeaderValue::from_static("text/event-stream");

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

/// The head of an answer.
pub(crate) struct Asked {
    pub(crate) response: Response,
    /// For the end of it.
    pub(crate) leave: Leave,
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

impl Provider {
    /// Sends a chat or embeddings request and gives the answer's head. Any status but a success is
    /// an error. What may pass is tried again, `retries` times: no byte of an answer is here yet.
    pub(crate) async fn ask(
        &self,
        operation: Operation,
        request: Written,
        retries: u32,
    ) -> Result<Asked, ModelError> {
        let mut tries = 0;
        loop {
            let failure = match self.ask_once(operation, request.clone()).await {
                Ok(asked) => return Ok(asked),
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

    async fn ask_once(&self, operation: Operation, request: Written) -> Result<Asked, Failure> {
        let Some(mut leave) = self.health.ask(self.clock.now()) else { return Err(self.resting()) };
        match self.ask_it(operation, request).await {
            Ok(response) => {
                leave.answered();
                Ok(Asked { response, leave })
            }
            Err(failure) => {
                self.ended(leave, Some(&failure.error));
                Err(failure)
            }
        }
    }

    /// What the end of a call says of the provider. One that refuses is there.
    pub(crate) fn ended(&self, leave: Leave, error: Option<&ModelError>) {
        let now = self.clock.now();
        match error {
            Some(ModelError::Failed { message, .. } | ModelError::TimedOut { message, .. }) => {
                leave.failed(now, message.clone());
            }
            _ => leave.succeeded(now),
        }
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

    pub(super) async fn listing(&self) -> Result<Shelf, ModelError> {
        let (max_body_bytes, bounds) = match self.own {
            None => (MAX_LISTING_BYTES, LISTED),
            Some(_) => (MAX_OWN_LISTING_BYTES, OWN_LISTED),
        };
        let limits = Limits {
            connect_ms: LISTING_MS,
            first_byte_ms: LISTING_MS,
            between_bytes_ms: LISTING_MS,
            total_ms: LISTING_MS,
            max_body_bytes,
            max_redirects: 0,
        };
        let request = Written { path: self.listing_path().to_owned(), body: Bytes::new(), beta: None };
        let asked = self.send(Method::GET, request, JSON, limits).await;
        let response = asked.map_err(|failure| failure.error)?;
        let body = response.bytes().await.map_err(|error| self.broken(&error))?;
        let unreadable = || ModelError::Failed {
            provider: self.name().to_owned(),
            message: "its answer to GET /models is not a list of models".to_owned(),
        };
        if !(JsonSize { values: MAX_VALUES, depth: usize::MAX }).holds(&body) {
            return Err(self.failed(format!("its answer to GET /models has more than {MAX_VALUES} values")));
        }
        let body: Value = serde_json::from_slice(&body).map_err(|_| unreadable())?;
        Shelf::listed(&self.settings, &body, bounds).ok_or_else(unreadable)
    }

    async fn ask_it(&self, operation: Operation, request: Written) -> Result<Response, Failure> {
        let (answer, stream) = match self.own {
            None => (MAX_ANSWER_BYTES, MAX_STREAM_BYTES),
            Some(_) => (MAX_OWN_ANSWER_BYTES, MAX_OWN_STREAM_BYTES),
        };
        let (accept, max_body_bytes) = match operation {
            Operation::ChatStream => (EVENT_STREAM, stream),
            Operation::Chat | Operation::Embeddings => (JSON, answer),
        };
        let Timeouts { connect_ms, first_byte_ms, pause_ms } = self.settings.timeouts;
        let limits = Limits {
            connect_ms,
            first_byte_ms,
            between_bytes_ms: pause_ms,
            total_ms: TOTAL_MS.max(first_byte_ms + pause_ms),
            max_body_bytes,
            max_redirects: 0,
        };
        self.send(Method::POST, request, accept, limits).await
    }

    /// The answer's head; any status but a success is an error.
    async fn send(
        &self,
        method: Method,
        asked: Written,
        accept: HeaderValue,
        limits: Limits,
    ) -> Result<Response, Failure> {
        let Written { path, body, beta } = asked;
        let has_body = method == Method::POST;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}/{path}", self.settings.base_url))
            .header(ACCEPT, accept)
            .body(body)
            .map_err(|error| {
                Failure::lasting(self.failed(format!("its base_url cannot be used: {error}")))
            })?;
        let headers = request.headers_mut();
        if has_body {
            headers.insert(CONTENT_TYPE, JSON);
        }
        headers.extend(beta.map(|beta| (HeaderName::from_static(BETA), beta)));
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        // Some pack what they send all the same.
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let response = self.http.send(request, limits).await.map(Response::unpacked).map_err(|error| {
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
        let error = Box::pin(self.refused(response)).await;
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
}

/// The beginning of a body, however it ends.
async fn read_some(response: Response) -> Bytes {
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
