//! Holds what this process drives against what the store says it owns: passes
//! on the cancels and the signals that came by the store, and gives back what it owns and
//! nobody drives. Such a run is left when the answer to a commit is lost:
//! whoever asked was told of a failure, and yet it was kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nh_store::runs::{self, OwnedRun};
use nh_types::RunId;

use crate::core::Core;

const INTERVAL: Duration = Duration::from_millis(500);
/// While nothing is driven and no other process can ask for a cancel.
const INTERVAL_IDLE: Duration = Duration::from_secs(5);

pub(crate) async fn keep(core: Arc<Core>) {
    let is_alone = !core.store.is_shared();
    let mut undriven = HashMap::new();
    loop {
        let is_idle = is_alone && core.driven.len() == 0 && undriven.is_empty();
        tokio::select! {
            biased;
            () = core.parking.cancelled() => return,
            () = tokio::time::sleep(if is_idle { INTERVAL_IDLE } else { INTERVAL }) => {}
        }
        match runs::owned(&core.store, &core.node).await {
            Ok(owned) => undriven = compare(&core, owned, &undriven).await,
            Err(error) => tracing::error!(%error, "this node's own runs could not be read"),
        }
    }
}

/// A run that is undriven twice in a row is given back: the first time its
/// driver may be about to begin.
async fn compare(core: &Core, owned: Vec<OwnedRun>, before: &HashMap<RunId, i64>) -> HashMap<RunId, i64> {
    let mut undriven = HashMap::new();
    for run in owned {
        if core.driven.holds(run.id, run.epoch) {
            if run.cancel_requested {
                core.driven.cancel(&run.workspace_id, run.id);
            }
            if run.is_signalled {
                core.driven.signal(run.id);
            }
        } else if before.get(&run.id) == Some(&run.epoch) {
            tracing::warn!(run = %run.id, "a run that nobody drives goes back to the queue");
            core.give_back(&run.workspace_id, run.id, run.epoch).await;
        } else {
            undriven.insert(run.id, run.epoch);
        }
    }
    undriven
}
