//! `Idempotency-Key`: what makes a repeated POST the same POST.

use http::HeaderName;
use http::request::Parts;
use nh_store::Idempotency;
use nh_types::{ApiError, ErrorCode, Timestamp};
use sha2::{Digest, Sha256};

use crate::auth::Principal;

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const MAX_CHARS: usize = 255;

/// A request's key, and a digest of what it asks for.
pub(crate) struct Once {
    key: String,
    body_hash: [u8; 32],
}

impl Once {
    pub(crate) fn of(parts: &Parts, body: &[u8]) -> Result<Option<Self>, ApiError> {
        let mut given = parts.headers.get_all(HEADER).iter();
        let Some(value) = given.next() else { return Ok(None) };
        let key = value.to_str().ok().map(str::trim).filter(|key| (1..=MAX_CHARS).contains(&key.len()));
        let Some(key) = key.filter(|_| given.next().is_none()) else {
            let message =
                format!("Idempotency-Key must be one header of 1 to {MAX_CHARS} printable characters");
            return Err(ApiError::new(ErrorCode::InvalidRequest, message).param("Idempotency-Key"));
        };
        let mut digest = Sha256::new();
        for part in [parts.method.as_str().as_bytes(), parts.uri.path().as_bytes(), body] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Ok(Some(Self { key: key.to_owned(), body_hash: digest.finalize().into() }))
    }

    /// The record that belongs to this caller alone.
    pub(crate) fn record(self, principal: &Principal, at: Timestamp) -> Idempotency {
        Idempotency { owner: principal.owner(), key: self.key, body_hash: self.body_hash, at }
    }
}

pub(crate) fn mismatch() -> ApiError {
    let message = "this Idempotency-Key came before with another body; use a new key for a new request";
    ApiError::new(ErrorCode::IdempotencyMismatch, message).param("Idempotency-Key")
}

pub(crate) fn in_flight() -> ApiError {
    let message = "the first request with this Idempotency-Key is still being answered; ask again shortly";
    ApiError::new(ErrorCode::IdempotencyInFlight, message).param("Idempotency-Key").retry_after(1)
}
