//! Which Idempotency-Keys a request of this process is waiting under: the
//! first answer to such a key is then still in flight.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_store::Idempotency;

/// The owner of a key, and the key.
type Place = (String, String);

#[derive(Clone, Default)]
pub(crate) struct SyncWaits(Arc<Mutex<HashSet<Place>>>);

/// One wait; it ends with its request.
pub(crate) struct SyncWait {
    place: Place,
    waits: SyncWaits,
}

impl SyncWaits {
    /// None when another request waits under this key.
    pub(crate) fn begin(&self, once: &Idempotency) -> Option<SyncWait> {
        let place = (once.owner.clone(), once.key.clone());
        let is_first = self.places().insert(place.clone());
        is_first.then(|| SyncWait { place, waits: self.clone() })
    }

    fn places(&self) -> MutexGuard<'_, HashSet<Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SyncWait {
    fn drop(&mut self) {
        self.waits.places().remove(&self.place);
    }
}
