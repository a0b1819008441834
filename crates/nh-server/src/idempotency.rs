//! `Idempotency-Key`: what makes a repeated POST the same POST.

use http::request::Parts;
use http::{HeaderMap, HeaderName};
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
        let of = [parts.method.as_str().as_bytes(), parts.uri.path().as_bytes(), body];
        Ok(key(&parts.headers)?.map(|key| Self::new(key, &of)))
    }

    /// Of an upload: by the request's target, and the hash of what came.
    pub(crate) fn of_upload(key: String, target: &str, sha256: &[u8; 32]) -> Self {
        Self::new(key, &[target.as_bytes(), sha256])
    }

    fn new(key: String, of: &[&[u8]]) -> Self {
        let mut digest = Sha256::new();
        for part in of {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Self { key, body_hash: digest.finalize().into() }
    }

    /// The record that belongs to this caller alone.
    pub(crate) fn record(self, principal: &Principal, at: Timestamp) -> Idempotency {
        Idempotency { owner: principal.owner(), key: self.key, body_hash: self.body_hash, at }
    }
}

/// The key that the request has.
pub(crate) fn key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut given = headers.get_all(HEADER).iter();
    let Some(value) = given.next() else { return Ok(None) };
    let key = value.to_str().ok().map(str::trim).filter(|key| (1..=MAX_CHARS).contains(&key.len()));
    match key.filter(|_| given.next().is_none()) {
        Some(key) => Ok(Some(key.to_owned())),
        None => {
            let message =
                format!("Idempotency-Key must be one header of 1 to {MAX_CHARS} printable characters");
            Err(ApiError::new(ErrorCode::InvalidRequest, message).param("Idempotency-Key"))
        }
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
