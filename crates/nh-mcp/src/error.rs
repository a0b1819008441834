use std::time::Duration;

use rmcp::service::{ClientInitializeError, ServiceError};

/// More than what is shown of it: secrets are looked for before it is cut to that.
const MAX_SAID_CHARS: usize = 8_000;

/// Why a server could not be used. The messages may hold what the server said, at most 8,000
/// characters of it, and what it was told among that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum McpError {
    /// No session was come to.
    #[error("no session with the server: {0}")]
    Unreachable(String),
    /// The session ended while an answer was waited for.
    #[error("the server ended the session before it answered")]
    Closed,
    #[error("the server did not answer within {after_ms} ms")]
    TimedOut { after_ms: u64 },
    /// The server's own error (JSON-RPC 2.0, section 5.1).
    #[error("the server answers with the error {code}: {message}")]
    Refused { code: i32, message: String },
    /// It wants to be told more in the middle of a call, which nobody here could.
    #[error("the server asks for more input in the middle of the call, which a hub has nobody to ask for")]
    AsksForInput,
    /// Not what the protocol says.
    #[error("the server does not keep to the protocol: {0}")]
    Broken(String),
}

impl McpError {
    /// Whether the server may not be there at all.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Closed | Self::TimedOut { .. })
    }

    pub(crate) fn late(after: Duration) -> Self {
        Self::TimedOut { after_ms: u64::try_from(after.as_millis()).unwrap_or(u64::MAX) }
    }

    pub(crate) fn of_start(error: &ClientInitializeError) -> Self {
        match error {
            ClientInitializeError::LegacyFallbackFailed { fallback, .. } => Self::of_start(fallback),
            ClientInitializeError::TransportError { error, .. } => Self::Unreachable(said(&error.error)),
            ClientInitializeError::JsonRpcError(error) => {
                Self::Refused { code: error.code.0, message: said(&error.message) }
            }
            ClientInitializeError::ConnectionClosed(_) => {
                Self::Unreachable("it closed the connection at once".to_owned())
            }
            other => Self::Unreachable(said(other)),
        }
    }

    pub(crate) fn of_request(error: ServiceError) -> Self {
        match error {
            ServiceError::McpError(error) => {
                Self::Refused { code: error.code.0, message: said(&error.message) }
            }
            ServiceError::TransportSend(error) => Self::Unreachable(said(&error.error)),
            ServiceError::TransportClosed | ServiceError::Cancelled { .. } => Self::Closed,
            ServiceError::Timeout { timeout } => Self::late(timeout),
            other => Self::Broken(said(&other)),
        }
    }
}

/// Servers may say as much as they like.
pub(crate) fn said(what: &impl ToString) -> String {
    what.to_string().chars().take(MAX_SAID_CHARS).collect()
}
