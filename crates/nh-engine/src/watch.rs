//! Who waits for a run's journal to grow. Wake-ups are in process; a slow
//! look at the store behind them serves runs that another node drives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nh_types::RunId;
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct Watchers {
    runs: Arc<Mutex<HashMap<RunId, watch::Sender<()>>>>,
    /// After so long a waiter looks at the store although nobody woke it.
    backstop: Duration,
}

impl Watchers {
    pub(crate) fn new(backstop: Duration) -> Self {
        Self { runs: Arc::default(), backstop }
    }

    /// Tells everybody who watches `run` that its journal grew.
    pub(crate) fn notify(&self, run: RunId) {
        let watchers = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = watchers.get(&run) {
            sender.send_replace(());
        }
    }

    pub(crate) fn watch(&self, run: RunId) -> Watch {
        let mut watchers = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = watchers.entry(run).or_insert_with(|| watch::channel(()).0);
        Watch { run, changes: Some(sender.subscribe()), watchers: self.clone() }
    }

    fn forget_if_unwatched(&self, run: RunId) {
        let mut watchers = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        if watchers.get(&run).is_some_and(|sender| sender.receiver_count() == 0) {
            watchers.remove(&run);
        }
    }
}

/// A look-out for one run. Make it before reading the store, so that nothing
/// is missed between the two.
pub struct Watch {
    run: RunId,
    changes: Option<watch::Receiver<()>>,
    watchers: Watchers,
}

impl Watch {
    /// Returns when the journal may have grown, or after a while.
    pub async fn changed(&mut self) {
        let Some(changes) = self.changes.as_mut() else { return };
        // An ended sender cannot be: the map keeps it while a receiver lives.
        let _ = tokio::time::timeout(self.watchers.backstop, changes.changed()).await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.changes = None;
        self.watchers.forget_if_unwatched(self.run);
    }
}
