//! The one table of public error codes, and the one error that handlers
//! answer with. Each crate's own errors are turned into these in `nh-server`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The broad kinds of error; clients branch on the HTTP status first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorType {
    InvalidRequestError,
    AuthenticationError,
    PermissionError,
    NotFoundError,
    ConflictError,
    RateLimitError,
    InsufficientQuota,
    ServerError,
    UpstreamError,
}

macro_rules! codes {
    ($($variant:ident $text:literal $status:literal $kind:ident $retry:literal $meaning:literal;)+) => {
        /// A public error code. The table in `docs/errors.md` is printed from
        /// this enum.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($variant),+ }

        impl ErrorCode {
            pub const EVERY: &'static [ErrorCode] = &[$(ErrorCode::$variant),+];

            /// The word in `error.code`.
            pub const fn as_str(self) -> &'static str {
                match self { $(ErrorCode::$variant => $text),+ }
            }

            /// The HTTP status.
            pub const fn status(self) -> u16 {
                match self { $(ErrorCode::$variant => $status),+ }
            }

            pub const fn error_type(self) -> ErrorType {
                match self { $(ErrorCode::$variant => ErrorType::$kind),+ }
            }

            /// Whether the same request may succeed later, unchanged.
            pub const fn is_retryable(self) -> bool {
                match self { $(ErrorCode::$variant => $retry),+ }
            }

            pub const fn meaning(self) -> &'static str {
                match self { $(ErrorCode::$variant => $meaning),+ }
            }
        }
    };
}

codes! {
    InvalidJson "invalid_json" 400 InvalidRequestError false "The body is not JSON, or is nested too deeply.";
    InvalidRequest "invalid_request" 400 InvalidRequestError false "Something in the request is missing or has the wrong type; `param` names it.";
    UnknownField "unknown_field" 400 InvalidRequestError false "The body has a field that this operation does not know.";
    MissingCredential "missing_credential" 401 AuthenticationError false "No API key and no session came with the request.";
    InvalidCredential "invalid_credential" 401 AuthenticationError false "The key is mistyped, unknown, revoked or expired, or the session has ended.";
    InvalidLogin "invalid_login" 401 AuthenticationError false "The e-mail or the password is wrong.";
    BudgetExceeded "budget_exceeded" 402 InsufficientQuota false "The budget of the key or run is spent.";
    MissingScope "missing_scope" 403 PermissionError false "The key lacks the scope that `param` names.";
    ModelNotAllowed "model_not_allowed" 403 PermissionError false "The key may not ask this model; `param` names the field.";
    LimitedKey "limited_key" 403 PermissionError false "A key with an expiry, a rate limit or a budget can create no keys and change no providers; with a budget it cannot change what embeds memories.";
    OriginRefused "origin_refused" 403 PermissionError false "A browser request came from another origin, or named another host.";
    NotFound "not_found" 404 NotFoundError false "There is nothing at this path in the caller's workspace.";
    ModelNotFound "model_not_found" 404 NotFoundError false "No configured provider serves this model.";
    MethodNotAllowed "method_not_allowed" 405 InvalidRequestError false "The path exists, but not with this method; see `Allow`.";
    RequestTimeout "request_timeout" 408 InvalidRequestError true "The request's body did not arrive in time.";
    Conflict "conflict" 409 ConflictError false "The request does not fit the present state.";
    BlobExists "blob_exists" 409 ConflictError false "There is an object under this name; `overwrite=true` replaces it.";
    AlreadyExists "already_exists" 409 ConflictError false "The name or id is taken.";
    AlreadyCreated "already_created" 409 ConflictError false "This Idempotency-Key already created something whose secret is shown only once.";
    IdempotencyMismatch "idempotency_mismatch" 409 ConflictError false "This Idempotency-Key came before with another body.";
    IdempotencyInFlight "idempotency_in_flight" 409 ConflictError true "The first request with this Idempotency-Key is still being answered.";
    SandboxStopped "sandbox_stopped" 409 ConflictError false "The sandbox has ended; the message says why.";
    PreconditionFailed "precondition_failed" 412 InvalidRequestError false "What is there is not what `If-Match` or `If-None-Match` asks for.";
    PayloadTooLarge "payload_too_large" 413 InvalidRequestError false "The body is over the limit, which the message says.";
    QuotaExceeded "quota_exceeded" 413 InsufficientQuota false "The workspace's objects would take more than its quota; the message has the figures.";
    UnsupportedMediaType "unsupported_media_type" 415 InvalidRequestError false "The body's Content-Type is not one that this operation takes.";
    RangeNotSatisfiable "range_not_satisfiable" 416 InvalidRequestError false "`Range` begins after the object's last byte.";
    InvalidValue "invalid_value" 422 InvalidRequestError false "A well-formed value is not acceptable; `param` names it.";
    UnknownScope "unknown_scope" 422 InvalidRequestError false "There is no such scope.";
    UnknownTarget "unknown_target" 422 InvalidRequestError false "There is no such agent, tool or workflow in the workspace.";
    InvalidInput "invalid_input" 422 InvalidRequestError false "The input does not fit the target's schema.";
    NotAvailable "not_available" 422 InvalidRequestError false "A documented field or value that this version does not offer yet.";
    RateLimited "rate_limited" 429 RateLimitError true "Too many requests; wait for `Retry-After` seconds.";
    QueueFull "queue_full" 429 RateLimitError true "A queue is full (the workspace's, of runs, or the embedder's); wait for `Retry-After` seconds.";
    Internal "internal_error" 500 ServerError true "The hub failed; the request id finds the cause in its log.";
    UpstreamError "upstream_error" 502 UpstreamError true "A model provider failed or answered with something unreadable.";
    UpstreamRefused "upstream_refused" 502 UpstreamError false "A model provider refused the credential that it was asked with, or its account has no credit left.";
    Overloaded "overloaded" 503 ServerError true "Too much is queued; wait for `Retry-After` seconds.";
    ShuttingDown "shutting_down" 503 ServerError true "The hub is stopping; another node or a restarted one will answer.";
    ComponentUnavailable "component_unavailable" 503 ServerError true "A part that the request needs is missing or down; the message names it.";
    NoSandboxDriver "no_sandbox_driver" 503 ServerError false "This host can isolate no sandboxes; the message says what is missing and how to get it.";
    EmbedderUnavailable "embedder_unavailable" 503 ServerError true "What embeds texts is not there, so memories can be neither stored nor searched by meaning; the message says what to do.";
    UpstreamTimeout "upstream_timeout" 504 UpstreamError true "A model provider did not answer in time.";
}

/// An error as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: ErrorCode,
    /// What was wrong, with the offending value, and what would be right.
    pub message: String,
    /// The field, parameter or scope that it is about.
    pub param: Option<String>,
    /// For 429, 503 and 409 in flight.
    pub retry_after_seconds: Option<u64>,
    /// Of a 429 that a limit of the hub's own gives.
    pub rate: Option<Box<Rate>>,
}

/// Where a caller stands with a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What is counted, as OpenAI's headers have it: `requests` or `tokens`.
    pub of: &'static str,
    /// A minute.
    pub limit: u64,
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset_seconds: u64,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), param: None, retry_after_seconds: None, rate: None }
    }

    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    pub fn rate(mut self, rate: Rate) -> Self {
        self.rate = Some(Box::new(rate));
        self.retry_after(rate.reset_seconds)
    }

    /// The body, without a request id.
    pub fn body(&self, request_id: Option<String>) -> ErrorBody {
        ErrorBody {
            error: ErrorDetail {
                message: self.message.clone(),
                error_type: self.code.error_type(),
                code: self.code.as_str().to_owned(),
                param: self.param.clone(),
                request_id,
            },
        }
    }
}

/// The one body of every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// What was wrong, with the offending value, and what would be right.
    pub message: String,
    #[serde(rename = "type")]
    pub error_type: ErrorType,
    pub code: String,
    /// The field, parameter or scope that it is about.
    pub param: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_their_types_fit_their_statuses() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ErrorCode::EVERY {
            assert!(seen.insert(code.as_str()), "{} stands twice", code.as_str());
            let fits = match code.error_type() {
                ErrorType::AuthenticationError => code.status() == 401,
                ErrorType::PermissionError => code.status() == 403,
                ErrorType::NotFoundError => code.status() == 404,
                ErrorType::ConflictError => code.status() == 409,
                ErrorType::RateLimitError => code.status() == 429,
                ErrorType::InsufficientQuota => matches!(code.status(), 402 | 413),
                ErrorType::ServerError => matches!(code.status(), 500 | 503),
                ErrorType::UpstreamError => matches!(code.status(), 502 | 504),
                ErrorType::InvalidRequestError => {
                    matches!(code.status(), 400 | 405 | 408 | 412 | 413 | 415 | 416 | 422)
                }
            };
            assert!(fits, "{}", code.as_str());
        }
    }
}
