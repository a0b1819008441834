use std::fmt;
use std::net::IpAddr;

use crate::sse::SseError;

/// Why an exchange failed. Names the host, never the whole URL: a query
/// string may hold a key.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HttpError {
    /// The request cannot be sent at all: the caller's mistake.
    #[error("{0}")]
    InvalidUrl(String),
    /// The guard's answer.
    #[error(
        "`{host}` is at {address}, which is {reason} and not allowed here \
         (the operator can list networks in [http] allow_networks)"
    )]
    Refused { host: String, address: IpAddr, reason: &'static str },
    /// The hub will not call itself, whatever the operator allows.
    #[error("`{host}` is at {address}, which is this hub itself and never allowed")]
    OwnListener { host: String, address: IpAddr },
    #[error("the name `{host}` could not be looked up: {message}")]
    Resolve { host: String, message: String },
    #[error("no connection to `{host}`: {message}")]
    Connect { host: String, message: String },
    #[error("`{host}` took too long: {phase} passed {after_ms} ms")]
    TimedOut { host: String, phase: Phase, after_ms: u64 },
    #[error("the answer of `{host}` is larger than {max_body_bytes} bytes")]
    TooLarge { host: String, max_body_bytes: u64 },
    #[error("`{host}` redirected more than {max_redirects} times")]
    TooManyRedirects { host: String, max_redirects: u32 },
    #[error("the redirect of `{host}` was not followed: {message}")]
    BadRedirect { host: String, message: String },
    /// The connection broke, or what came was not HTTP.
    #[error("the exchange with `{host}` broke off: {message}")]
    Broken { host: String, message: String },
    /// The body is not the event stream that it should be.
    #[error(transparent)]
    Sse(#[from] SseError),
    /// No usable TLS configuration on this machine.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

impl HttpError {
    /// Whether nothing of the request can have reached the server.
    pub fn is_before_sending(&self) -> bool {
        match self {
            Self::InvalidUrl(_)
            | Self::Refused { .. }
            | Self::OwnListener { .. }
            | Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Tls(_) => true,
            Self::TimedOut { phase, .. } => *phase == Phase::Connect,
            Self::TooLarge { .. }
            | Self::TooManyRedirects { .. }
            | Self::BadRedirect { .. }
            | Self::Broken { .. }
            | Self::Sse(_) => false,
        }
    }

    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }
}

/// Which of the [`Limits`](crate::Limits) on time was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connect,
    FirstByte,
    BetweenBytes,
    Total,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::FirstByte => "the wait for an answer",
            Self::BetweenBytes => "a pause within the answer",
            Self::Total => "the whole exchange",
        })
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
