//! How a handler fails: what the client is told, and what only the log says.

use std::error::Error;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use nh_types::{ApiError, ErrorCode};

/// An [`ApiError`] with the inner error behind it, if there is one. The edge
/// turns it into the body, with the request's id, and logs a 5xx once.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: ApiError,
    pub(crate) cause: Option<Box<dyn Error + Send + Sync>>,
}

/// Travels from a handler to the edge in the response's extensions.
#[derive(Clone)]
pub(crate) struct Failed(pub(crate) Arc<Failure>);

pub(crate) type Answer<T> = Result<T, Failure>;

impl Failure {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ApiError::new(code, message).into()
    }

    /// A 500 whose cause only the log tells.
    pub(crate) fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let message = "the hub failed to answer; its log has the cause under this request id";
        Self { error: ApiError::new(ErrorCode::Internal, message), cause: Some(cause.into()) }
    }

    pub(crate) fn not_found(what: &str, id: &str) -> Self {
        let id: String = id.chars().take(128).collect();
        Self::new(ErrorCode::NotFound, format!("there is no {what} `{id}` in this workspace"))
    }

    /// The cause and what caused it, on one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = String::new();
        let mut next: Option<&dyn Error> = self.cause.as_deref().map(|cause| cause as _);
        while let Some(error) = next {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&error.to_string());
            next = error.source();
        }
        text
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self { error, cause: None }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        response.extensions_mut().insert(Failed(Arc::new(self)));
        response
    }
}
