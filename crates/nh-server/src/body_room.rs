//! How much memory the bodies of requests may take at once. One body has its
//! own limit, but a thousand of them, each sent slowly or waiting for a slow
//! provider, would still take all there is.

use std::sync::Arc;

use nh_types::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

const MAX_BYTES_AT_ONCE: usize = 512 * 1024 * 1024;
/// A body up to this is not counted: the number of connections bounds them.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;
/// One permit.
const UNIT_BYTES: usize = 1024;
const RETRY_AFTER_SECONDS: u64 = 1;

/// About what a value and an object take in memory beside their text.
const VALUE_BYTES: usize = 80;
const OBJECT_BYTES: usize = 400;

pub(crate) struct BodyRoom {
    free: Arc<Semaphore>,
    units: u32,
}

/// Memory that one body may take; dropping it makes room for others.
pub(crate) struct Room(#[expect(dead_code, reason = "it only has to be dropped")] OwnedSemaphorePermit);

impl BodyRoom {
    pub(crate) fn new(max_body_bytes: usize) -> Self {
        let units = units(MAX_BYTES_AT_ONCE.max(max_body_bytes));
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Room for so many bytes (none is needed for a few), or 503: who would wait for it would keep what
    /// it has already sent.
    pub(crate) fn take(&self, bytes: usize) -> Result<Option<Room>, ApiError> {
        if bytes <= SMALL_BYTES {
            return Ok(None);
        }
        match self.free.clone().try_acquire_many_owned(units(bytes).min(self.units)) {
            Ok(permit) => Ok(Some(Room(permit))),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                let message = "the hub is at work on as many large bodies as it has room for; try again";
                Err(ApiError::new(ErrorCode::Overloaded, message).retry_after(RETRY_AFTER_SECONDS))
            }
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(u32::MAX >> 3)
}

/// About what a JSON text takes in memory once it is parsed; too much rather
/// than too little.
pub(crate) fn parsed_bytes(text: &[u8]) -> usize {
    let (mut values, mut objects) = (0, 0);
    for byte in text {
        values += usize::from(matches!(byte, b',' | b'['));
        objects += usize::from(*byte == b'{');
    }
    text.len() + values * VALUE_BYTES + objects * OBJECT_BYTES
}
