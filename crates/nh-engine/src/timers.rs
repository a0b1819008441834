//! When runs that nobody drives are due: a delay or a timer is over, and they
//! are ready; or their deadline has come, and they end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nh_store::runs;
use nh_types::Timestamp;
use tokio::sync::Notify;

use crate::engine::{Core, EngineError};
use crate::queue;

/// When the next run is due, as far as this process knows.
#[derive(Default)]
pub(crate) struct Timers {
    next: Mutex<Option<Timestamp>>,
    sooner: Notify,
}

impl Timers {
    /// Says that a run is due then.
    pub(crate) fn set(&self, at: Option<Timestamp>) {
        if self.learn(at) {
            self.sooner.notify_one();
        }
    }

    /// Whether `at` is sooner than what was known.
    fn learn(&self, at: Option<Timestamp>) -> bool {
        let mut next = self.next();
        let is_sooner = at.is_some_and(|at| next.is_none_or(|known| at < known));
        if is_sooner {
            *next = at;
        }
        is_sooner
    }

    fn next(&self) -> MutexGuard<'_, Option<Timestamp>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) async fn keep(core: Arc<Core>) {
    let poll = queue::poll_interval(core.store.engine());
    while !core.stopping.is_cancelled() {
        // What is set from here on may be missing in what the store tells.
        core.timers.next().take();
        match look(&core).await {
            Ok(next) => {
                core.timers.learn(next);
            }
            Err(error) => tracing::error!(%error, "the runs that are due could not be looked up"),
        }
        let next = *core.timers.next();
        let wait_ms = next.map(|at| at.millis_since(core.clock.now()).max(0).unsigned_abs());
        tokio::select! {
            () = core.stopping.cancelled() => return,
            () = core.timers.sooner.notified() => {}
            () = tokio::time::sleep(wait_ms.map_or(poll, Duration::from_millis).min(poll)) => {}
        }
    }
}

/// Wakes what is due, and tells when more will be.
async fn look(core: &Arc<Core>) -> Result<Option<Timestamp>, EngineError> {
    let now = core.clock.now();
    let next = runs::next_wake(&core.store).await?;
    if next.is_none_or(|at| at > now) {
        return Ok(next);
    }
    let woken = core.store.write(runs::WakeDue { node: core.node.clone(), now }).await?;
    if woken.ready > 0 {
        core.wake_queue();
    }
    // They only have to be ended: that needs no slot.
    for run in woken.overdue {
        queue::drive(core, None, run);
    }
    Ok(woken.next)
}
