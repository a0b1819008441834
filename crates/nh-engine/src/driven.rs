//! The runs that this process drives, each under the epoch of its claim: an
//! older claim's driver that is late to leave does not take a newer one's
//! place.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_store::runs::RunRecord;
use nh_types::{RunId, WorkspaceId};
use tokio_util::sync::CancellationToken;

struct Entry {
    workspace_id: WorkspaceId,
    epoch: i64,
    cancel: CancellationToken,
}

#[derive(Clone, Default)]
pub(crate) struct Driven(Arc<Mutex<HashMap<RunId, Entry>>>);

/// One run being driven; its end is the entry's, also when its task panics.
pub(crate) struct Driving {
    driven: Driven,
    run_id: RunId,
    epoch: i64,
    cancel: CancellationToken,
}

impl Driven {
    pub(crate) fn register(&self, run: &RunRecord) -> Driving {
        let cancel = CancellationToken::new();
        let entry =
            Entry { workspace_id: run.workspace_id.clone(), epoch: run.epoch, cancel: cancel.clone() };
        self.entries().insert(run.id, entry);
        metrics::gauge!("neuralhub_runs_running").increment(1);
        Driving { driven: self.clone(), run_id: run.id, epoch: run.epoch, cancel }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries().len()
    }

    pub(crate) fn holds(&self, run_id: RunId, epoch: i64) -> bool {
        self.entries().get(&run_id).is_some_and(|entry| entry.epoch == epoch)
    }

    /// Whether the workspace's run is driven here; if so it is told to stop.
    pub(crate) fn cancel(&self, workspace_id: &WorkspaceId, run_id: RunId) -> bool {
        let entries = self.entries();
        let entry = entries.get(&run_id).filter(|entry| entry.workspace_id == *workspace_id);
        if let Some(entry) = entry {
            entry.cancel.cancel();
        }
        entry.is_some()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<RunId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driving {
    pub(crate) fn cancel_token(&self) -> CancellationToken {
        self.cancel.clone()
    }
}

impl Drop for Driving {
    fn drop(&mut self) {
        let mut entries = self.driven.entries();
        if entries.get(&self.run_id).is_some_and(|entry| entry.epoch == self.epoch) {
            entries.remove(&self.run_id);
        }
        metrics::gauge!("neuralhub_runs_running").decrement(1);
    }
}
