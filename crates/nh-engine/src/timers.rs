//! When runs that nobody drives are due: a delay or a timer is over, and they
//! are ready; or their deadline has come, and they end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nh_store::runs;
use nh_types::Timestamp;
use tokio::sync::Notify;

use crate::core::Core;
use crate::engine::EngineError;
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

    /// Has the store looked at once more.
    pub(crate) fn look_again(&self) {
        self.sooner.notify_one();
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
    let poll = queue::poll_interval(core.store.is_shared());
    while !core.stopping.is_cancelled() {
        // What is set from here on may be missing in what the store tells.
        core.timers.next().take();
        let looked = look(&core).await;
        let found = match looked {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "the runs that are due could not be looked up");
                Found { next: None, is_stuck: true }
            }
        };
        core.timers.learn(found.next);
        let next = *core.timers.next();
        let wait_ms = next.map(|at| at.millis_since(core.clock.now()).max(0).unsigned_abs());
        let mut wait = wait_ms.map_or(poll, Duration::from_millis).min(poll);
        if found.is_stuck {
            // Not at once again: the store is in trouble, or another node holds
            // what is due.
            wait = wait.max(queue::POLL_SHARED);
        }
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = core.timers.sooner.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// What came of a look.
struct Found {
    next: Option<Timestamp>,
    /// Something was due, and could not be moved.
    is_stuck: bool,
}

/// Wakes what is due, ends what is overdue, and tells when more will be.
async fn look(core: &Arc<Core>) -> Result<Found, EngineError> {
    let now = core.clock.now();
    let next = runs::next_wake(&core.store).await?;
    if next.is_none_or(|at| at > now) {
        return Ok(Found { next, is_stuck: false });
    }
    let woken = core.store.write(runs::WakeDue { node: core.node.clone(), now }).await?;
    let is_stuck = woken.ready == 0 && woken.overdue.is_empty();
    if woken.ready > 0 {
        core.wake_queue();
    }
    // They only have to be ended: that needs no slot. The next look waits for
    // it, so that there are never more of them at once.
    let ending: Vec<_> = woken.overdue.into_iter().map(|run| queue::drive(core, None, run)).collect();
    futures_util::future::join_all(ending).await;
    Ok(Found { next: woken.next, is_stuck })
}
