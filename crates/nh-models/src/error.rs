//! What can go wrong with a model call, and what a client is told of it.

use nh_types::{ApiError, ErrorCode};

/// Why a model call gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No provider serves the model.
    #[error("no configured provider serves the model `{model}`; GET /v1/models lists those that are served")]
    NotFound { model: String },
    /// The hub itself found a fault in the request.
    #[error("{message}")]
    Invalid { message: String, param: String },
    /// The provider found a fault in the request: a 4xx that is the client's.
    #[error("the provider `{provider}` refused the request with status {status}: {message}")]
    Rejected { provider: String, status: u16, message: String, param: Option<String> },
    /// The provider refused the credential that it is asked with, or its account has no credit.
    #[error(
        "the provider `{provider}` refused the credential or account that it was asked with, with status {status}: {message}"
    )]
    Refused { provider: String, status: u16, message: String },
    /// The provider asks for a pause.
    #[error("the provider `{provider}` limits the rate of requests: {message}")]
    RateLimited { provider: String, message: String, retry_after_seconds: Option<u64> },
    /// The provider could not be reached, failed, or answered with something
    /// unreadable.
    #[error("the provider `{provider}` failed: {message}")]
    Failed { provider: String, message: String },
    /// The provider did not answer in time: it may work on, unless it was not sent the request.
    #[error("the provider `{provider}` did not answer in time: {message}")]
    TimedOut { provider: String, message: String, was_sent: bool },
    /// What the call may cost does not fit what it is charged to.
    #[error("{message}")]
    BudgetExceeded { message: String },
    /// The hub's own limits for the caller do not let it be made, or not now.
    #[error("{0}")]
    Limited(ApiError),
    /// Usage cannot be recorded fast enough, so no further call is begun.
    #[error("too many model calls wait to be accounted for; try again shortly")]
    Overloaded,
    /// The store does not say at present which providers the workspace has.
    #[error("the workspace's providers cannot be read at present")]
    ProvidersUnreadable,
    /// The local embedding model cannot be used at present.
    #[error("{0}")]
    Local(ApiError),
}

impl ModelError {
    /// What metrics and traces call it.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Invalid { .. } => "invalid",
            Self::Rejected { .. } => "rejected",
            Self::Refused { .. } => "refused",
            Self::RateLimited { .. } => "rate_limited",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::BudgetExceeded { .. } => "budget_exceeded",
            Self::Limited(_) => "limited",
            Self::Overloaded => "overloaded",
            Self::ProvidersUnreadable => "providers_unreadable",
            Self::Local(_) => "local",
        }
    }

    /// Seconds to wait before it is asked again, where somebody says so.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_seconds, .. } => *retry_after_seconds,
            Self::Limited(error) | Self::Local(error) => error.retry_after_seconds,
            _ => None,
        }
    }

    /// Whether the same request may succeed later, unchanged.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NotFound { .. }
            | Self::Invalid { .. }
            | Self::Rejected { .. }
            | Self::Refused { .. }
            | Self::BudgetExceeded { .. } => false,
            Self::RateLimited { .. }
            | Self::Failed { .. }
            | Self::TimedOut { .. }
            | Self::Overloaded
            | Self::ProvidersUnreadable => true,
            Self::Local(error) | Self::Limited(error) => error.code.is_retryable(),
        }
    }
}

/// Seconds to wait when a provider limits the rate and does not say for how
/// long; the public 429 always carries `Retry-After`.
const DEFAULT_RETRY_AFTER_SECONDS: u64 = 2;

impl From<ModelError> for ApiError {
    fn from(error: ModelError) -> ApiError {
        let message = error.to_string();
        match error {
            ModelError::NotFound { .. } => ApiError::new(ErrorCode::ModelNotFound, message).param("model"),
            ModelError::Invalid { param, .. } => {
                ApiError::new(ErrorCode::InvalidRequest, message).param(param)
            }
            ModelError::Rejected { status, param, .. } => {
                let code = match status {
                    404 => ErrorCode::ModelNotFound,
                    409 => ErrorCode::Conflict,
                    413 => ErrorCode::PayloadTooLarge,
                    415 => ErrorCode::UnsupportedMediaType,
                    422 => ErrorCode::InvalidValue,
                    _ => ErrorCode::InvalidRequest,
                };
                ApiError { param, ..ApiError::new(code, message) }
            }
            ModelError::Refused { .. } => ApiError::new(ErrorCode::UpstreamRefused, message),
            ModelError::RateLimited { retry_after_seconds, .. } => {
                ApiError::new(ErrorCode::RateLimited, message)
                    .retry_after(retry_after_seconds.unwrap_or(DEFAULT_RETRY_AFTER_SECONDS))
            }
            ModelError::Failed { .. } => ApiError::new(ErrorCode::UpstreamError, message),
            ModelError::TimedOut { .. } => ApiError::new(ErrorCode::UpstreamTimeout, message),
            ModelError::BudgetExceeded { .. } => ApiError::new(ErrorCode::BudgetExceeded, message),
            ModelError::ProvidersUnreadable => {
                ApiError::new(ErrorCode::ComponentUnavailable, message).retry_after(1)
            }
            ModelError::Overloaded => ApiError::new(ErrorCode::Overloaded, message).retry_after(1),
            ModelError::Local(error) | ModelError::Limited(error) => error,
        }
    }
}
