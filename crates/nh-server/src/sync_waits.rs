//! Which runs a request of this process is waiting for: the first answer to an
//! Idempotency-Key is then still in flight.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use nh_types::RunId;

#[derive(Clone, Default)]
pub(crate) struct SyncWaits(Arc<Mutex<HashSet<RunId>>>);

/// One wait; dropped with its request.
pub(crate) struct SyncWait {
    run_id: RunId,
    waits: SyncWaits,
}

impl SyncWaits {
    /// None when another request waits for this run.
    pub(crate) fn begin(&self, run_id: RunId) -> Option<SyncWait> {
        let is_first = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(run_id);
        is_first.then(|| SyncWait { run_id, waits: self.clone() })
    }
}

impl Drop for SyncWait {
    fn drop(&mut self) {
        self.waits.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run_id);
    }
}
