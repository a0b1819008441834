//! The runs that this process drives, each under the epoch of its claim: an
//! older claim's driver that is late to leave does not take a newer one's
//! place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_store::runs::RunRecord;
use nh_types::{RunId, WorkspaceId};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

struct Entry {
    workspace_id: WorkspaceId,
    parent: Option<RunId>,
    epoch: i64,
    reins: Reins,
}

/// What reaches a run's driver from outside.
#[derive(Clone, Default)]
pub(crate) struct Reins {
    pub(crate) cancel: CancellationToken,
    /// Signals wait in the store.
    pub(crate) signalled: Arc<Notify>,
}

#[derive(Clone, Default)]
pub(crate) struct Driven(Arc<Mutex<BTreeMap<RunId, Entry>>>);

/// One run being driven; its end is the entry's, also when its task panics.
pub(crate) struct Driving {
    driven: Driven,
    run_id: RunId,
    epoch: i64,
    reins: Reins,
}

impl Driven {
    pub(crate) fn register(&self, run: &RunRecord) -> Driving {
        let reins = Reins::default();
        let entry = Entry {
            workspace_id: run.workspace_id.clone(),
            parent: run.parent.as_ref().map(|parent| parent.run_id),
            epoch: run.epoch,
            reins: reins.clone(),
        };
        self.entries().insert(run.id, entry);
        metrics::gauge!("neuralhub_runs_running").increment(1);
        Driving { driven: self.clone(), run_id: run.id, epoch: run.epoch, reins }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries().len()
    }

    pub(crate) fn holds(&self, run_id: RunId, epoch: i64) -> bool {
        self.entries().get(&run_id).is_some_and(|entry| entry.epoch == epoch)
    }

    /// Tells the workspace's run to stop, if it is driven here; whether nobody
    /// did so before.
    pub(crate) fn cancel(&self, workspace_id: &WorkspaceId, run_id: RunId) -> Option<bool> {
        let entries = self.entries();
        let entry = entries.get(&run_id).filter(|entry| entry.workspace_id == *workspace_id)?;
        let is_first = !entry.reins.cancel.is_cancelled();
        entry.reins.cancel.cancel();
        Some(is_first)
    }

    /// Tells the runs driven here that `parent` waits for to stop.
    pub(crate) fn cancel_children(&self, parent: RunId) {
        let entries = self.entries();
        let children = entries.values().filter(|entry| entry.parent == Some(parent));
        children.for_each(|entry| entry.reins.cancel.cancel());
    }

    /// Whether the run is driven here; if so its driver looks for signals.
    pub(crate) fn signal(&self, run_id: RunId) -> bool {
        let entries = self.entries();
        let entry = entries.get(&run_id);
        if let Some(entry) = entry {
            entry.reins.signalled.notify_one();
        }
        entry.is_some()
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<RunId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Driving {
    pub(crate) fn reins(&self) -> Reins {
        self.reins.clone()
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
