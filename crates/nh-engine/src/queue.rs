//! Who drives what: slots, the claim of queued and orphaned runs, and on
//! PostgreSQL the lease that says that this node lives.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nh_store::nodes;
use nh_store::runs::{self, RunRecord};
use nh_types::run::RunError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{Instrument, Span};

use crate::core::Core;
use crate::driven::{Driving, Reins};
use crate::driver::Driver;
use crate::engine::EngineError;
use crate::history::History;
use crate::{spans, timers, upkeep};

/// Runs claimed in one transaction.
const CLAIM_BATCH: u32 = 64;

/// How often the queue, or a watched run, is looked at although nobody woke
/// who waits for it. Where only this process writes runs, that is but a backstop.
pub(crate) fn poll_interval(is_shared: bool) -> Duration {
    if is_shared { POLL_SHARED } else { POLL_ALONE }
}

pub(crate) const POLL_SHARED: Duration = Duration::from_millis(600);
const POLL_ALONE: Duration = Duration::from_secs(30);

/// The right to drive one run. Its end wakes the queue.
pub(crate) struct Slot {
    core: Arc<Core>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    /// None when all are taken, or when older runs wait for one.
    pub(crate) fn try_take(core: &Arc<Core>) -> Option<Slot> {
        if core.backlog.load(Ordering::Acquire) {
            return None;
        }
        Self::take(core)
    }

    fn take(core: &Arc<Core>) -> Option<Slot> {
        let permit = core.slots.clone().try_acquire_owned().ok()?;
        Some(Slot { core: core.clone(), permit: Some(permit) })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.permit = None;
        if self.core.backlog.load(Ordering::Acquire) {
            self.core.wake.notify_one();
        }
    }
}

impl Core {
    /// Says that a run waits in the store.
    pub(crate) fn wake_queue(&self) {
        self.backlog.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

pub(crate) async fn start(core: &Arc<Core>) -> Result<(), EngineError> {
    if core.store.is_shared() {
        renew_lease(core).await?;
        core.background.spawn(keep_lease(core.clone()));
    } else {
        // The data directory's lock proves that nobody else runs any.
        core.store.write(runs::ReleaseAll).await?;
    }
    core.background.spawn(upkeep::keep(core.clone()));
    core.tasks.spawn(timers::keep(core.clone()));
    core.tasks.spawn(claim_queued(core.clone()));
    Ok(())
}

/// Drives a run to its end in a task of its own.
pub(crate) fn spawn(
    core: &Arc<Core>,
    slot: Option<Slot>,
    driving: Driving,
    span: Span,
    drive: impl Future<Output = ()> + Send + 'static,
) -> JoinHandle<()> {
    core.tasks.spawn(async move {
        drive.instrument(span).await;
        drop(driving);
        drop(slot);
    })
}

async fn claim_queued(core: Arc<Core>) {
    let poll = poll_interval(core.store.is_shared()) + jitter(&core);
    let mut last_turn = None;
    while !core.stopping.is_cancelled() {
        match claim(&core, &mut last_turn).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                core.backlog.store(true, Ordering::Release);
                tracing::error!(%error, "queued runs could not be claimed");
                // Not at once again: the store is in trouble.
                tokio::select! {
                    biased;
                    () = core.stopping.cancelled() => return,
                    () = tokio::time::sleep(POLL_SHARED) => continue,
                }
            }
        }
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = core.wake.notified() => {}
            () = tokio::time::sleep(poll) => {}
        }
    }
}

/// So that nodes do not look all at once.
fn jitter(core: &Core) -> Duration {
    let mut byte = [0];
    core.ids.fill(&mut byte);
    Duration::from_millis(u64::from(byte[0]))
}

/// Claims as many runs as there are slots, and says whether to look again at
/// once.
async fn claim(core: &Arc<Core>, last_turn: &mut Option<runs::Turn>) -> Result<bool, EngineError> {
    if core.store.is_shared() && !core.lease.allows_claims(Instant::now()) {
        return Ok(false);
    }
    let slots: Vec<Slot> = std::iter::from_fn(|| Slot::take(core)).take(CLAIM_BATCH as usize).collect();
    let limit = u32::try_from(slots.len()).unwrap_or(CLAIM_BATCH);
    if limit == 0 {
        return Ok(false);
    }
    // Before the look: a run queued meanwhile sets it again.
    core.backlog.store(false, Ordering::Release);
    let shares = core.shares.get(core).await?;
    let claim = runs::Claim { node: core.node.clone(), limit, after: last_turn.clone(), shares };
    let runs::Claimed { runs: claimed, last, orphans } = core.store.write(claim).await?;
    *last_turn = last;
    if orphans > 0 {
        metrics::counter!("neuralhub_runs_taken_over_total").increment(orphans);
    }
    // What was claimed while the hub began to stop, such as a run that it has
    // just parked, is the next process's.
    if core.stopping.is_cancelled() {
        for run in claimed {
            core.give_back(&run.workspace_id, run.id, run.epoch).await;
        }
        return Ok(false);
    }
    let full = claimed.len() == limit as usize;
    if full {
        core.backlog.store(true, Ordering::Release);
    }
    for (run, slot) in claimed.into_iter().zip(slots) {
        drive(core, Some(slot), run);
    }
    Ok(full)
}

/// Drives a run that this node has just claimed.
pub(crate) fn drive(core: &Arc<Core>, slot: Option<Slot>, mut run: RunRecord) -> JoinHandle<()> {
    core.queue_room.give_place(&run.workspace_id);
    let driving = core.driven.register(&run);
    let reins = driving.reins();
    // Without a slot it is only ended.
    run.started_at = run.started_at.or(slot.is_some().then(|| core.clock.now()));
    let makes_room = core.shares.makes_room(&run);
    let (core, span) = (core.clone(), spans::drive(&run));
    spawn(&core.clone(), slot, driving, span, async move {
        take_up(core.clone(), run, reins).await;
        if makes_room {
            core.wake_queue();
        }
    })
}

async fn take_up(core: Arc<Core>, mut run: RunRecord, reins: Reins) {
    match core.read_whole(&mut run).await {
        Ok(history) => Driver::new(core, run, history, reins).drive_claimed().await,
        Err(error @ (EngineError::Unreadable(_) | EngineError::UnreadableValue { .. })) => {
            tracing::error!(run = %run.id, %error, "a run cannot go on");
            let last_seq = run.last_seq;
            let driver = Driver::new(core, run, History::default(), reins);
            driver.end_unreadable(last_seq, RunError::new("journal_unreadable", error.to_string())).await;
        }
        Err(error) => {
            tracing::error!(run = %run.id, %error, "a claimed run could not be read yet");
            core.give_back(&run.workspace_id, run.id, run.epoch).await;
        }
    }
}

async fn renew_lease(core: &Core) -> Result<(), EngineError> {
    nodes::renew(&core.store, &core.node, core.lease.length_ms()).await?;
    core.lease.renewed(Instant::now());
    Ok(())
}

/// Ends the lease at once: whatever this node still owned may be taken over.
pub(crate) async fn leave(core: &Core) {
    if !core.store.is_shared() {
        return;
    }
    if let Err(error) = core.store.write(nodes::Leave { node: core.node.clone() }).await {
        tracing::warn!(%error, "this node's lease could not be ended; it runs out by itself");
    }
}

async fn keep_lease(core: Arc<Core>) {
    // Two renewals may fail before the lease ends.
    let renewal = core.lease.length * 3 / 10;
    loop {
        tokio::select! {
            biased;
            () = core.parking.cancelled() => return,
            () = tokio::time::sleep(renewal) => {}
        }
        let renewed = renew_lease(&core).await;
        let outcome = if renewed.is_ok() { "renewed" } else { "failed" };
        metrics::counter!("neuralhub_lease_renewals_total", "outcome" => outcome).increment(1);
        if let Err(error) = renewed {
            tracing::error!(%error, "this node's lease could not be renewed; others will take its runs over");
        }
    }
}
