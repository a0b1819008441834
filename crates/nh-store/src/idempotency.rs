//! Idempotency records: what a POST with an `Idempotency-Key` answered first.

use nh_types::Timestamp;

use crate::{StoreError, Tx, Write};

/// How long a record counts: 24 h.
pub const LIFE_MS: i64 = 24 * 60 * 60 * 1000;

/// The `Idempotency-Key` of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The calling key or session, such as `ws_…/key:42`.
    pub owner: String,
    pub key: String,
    /// Of the method, path and body.
    pub body_hash: [u8; 32],
    pub at: Timestamp,
}

/// How a write with an idempotency key ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Once<T> {
    /// It was made now.
    First(T),
    /// It was made before; this is what it answered then.
    Replay(T),
    /// The key came before with another body; nothing was written.
    Mismatch,
}

/// Removes the records that no longer count.
#[derive(Clone, Copy, Debug)]
pub struct Purge {
    pub now: Timestamp,
}

impl Write for Purge {
    /// How many were removed.
    type Output = u64;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<u64, StoreError> {
        todo!()
    }
}
