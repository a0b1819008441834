//! What is done beside requests: the driver is opened, the pool kept full, the rows held,
//! sandboxes metered, and those ended whose runs have.

use std::collections::HashSet;
use std::time::Duration;

use nh_store::StoreError;
use nh_store::sandboxes::{Hold, Stop, of_ended_runs};
use nh_types::SandboxId;
use nh_types::sandbox::StopReason;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::compute::{Compute, Here};
use crate::live::End;

/// For so long a sandbox is its process's, without another word.
pub(crate) const HOLD_MS: i64 = 30_000;
const HOLD_EVERY: Duration = Duration::from_secs(5);
/// Looks for runs that ended, while there are sandboxes of runs.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What a hub that is killed does not get into the ledger.
const METER_EVERY: Duration = Duration::from_secs(5 * 60);
/// For so long it can be read how a sandbox ended.
const REMEMBER_MS: i64 = 60 * 60 * 1000;

/// Until the hub stops; [`Compute::close`] ends what runs then.
pub async fn keep(compute: Compute, stopping: CancellationToken) {
    let starting = compute.clone();
    // Not given up half-way: what it begins it ends too.
    compute.inner.tasks.spawn(async move {
        starting.open_driver().await;
        starting.keep_pool().await;
    });
    let work = async {
        tokio::join!(keep_rows(&compute), end_with_runs(&compute), keep_metered(&compute));
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = work => {}
    }
}

async fn keep_rows(compute: &Compute) {
    // After a break every process's rows may look lost: each first gets the time to hold its own.
    let mut unbroken_since = Instant::now();
    loop {
        let may_tell_lost = unbroken_since.elapsed() >= Duration::from_millis(HOLD_MS as u64);
        if let Err(error) = compute.hold(may_tell_lost).await {
            unbroken_since = Instant::now();
            tracing::warn!(%error, "the sandboxes of this process could not be held; it is tried again");
        }
        tokio::time::sleep(HOLD_EVERY).await;
    }
}

async fn end_with_runs(compute: &Compute) {
    loop {
        match compute.end_with_runs().await {
            Ok(true) => tokio::time::sleep(LOOK_EVERY).await,
            Ok(false) => compute.inner.of_run_made.notified().await,
            Err(error) => {
                tracing::warn!(%error, "it could not be read which runs have ended; it is tried again");
                tokio::time::sleep(HOLD_EVERY).await;
            }
        }
    }
}

async fn keep_metered(compute: &Compute) {
    loop {
        tokio::time::sleep(METER_EVERY).await;
        for live in compute.running() {
            compute.meter_live(&live).await;
        }
    }
}

impl Compute {
    async fn hold(&self, may_tell_lost: bool) -> Result<(), StoreError> {
        let inner = &self.inner;
        let before: Vec<SandboxId> = {
            let here = self.here();
            let running = here.iter().filter(|(_, here)| matches!(here, Here::Running(_)));
            running.map(|(id, _)| id.clone()).collect()
        };
        let at = inner.clock.now();
        let ended_before = at.plus_millis(-REMEMBER_MS);
        let hold = Hold { node: inner.node.clone(), hold_ms: HOLD_MS, at, ended_before, may_tell_lost };
        let held: HashSet<SandboxId> = inner.store.write(hold).await?.into_iter().collect();
        let lost: Vec<Here> = {
            let here = self.here();
            before.iter().filter(|id| !held.contains(*id)).filter_map(|id| here.get(id).cloned()).collect()
        };
        for here in lost {
            if let Here::Running(live) = here {
                live.ask(End::Stopped(StopReason::HubLost));
            }
        }
        let orphans: Vec<SandboxId> = {
            let here = self.here();
            held.into_iter().filter(|id| !here.contains_key(id)).collect()
        };
        for id in orphans {
            inner.store.write(Stop { id, reason: StopReason::Ended, at }).await?;
        }
        Ok(())
    }

    /// Whether there are sandboxes of runs.
    async fn end_with_runs(&self) -> Result<bool, StoreError> {
        let of_runs = self
            .here()
            .values()
            .any(|here| matches!(here, Here::Running(live) if live.record.run_id.is_some()));
        if !of_runs {
            return Ok(false);
        }
        for id in of_ended_runs(&self.inner.store, &self.inner.node).await? {
            if let Some(Here::Running(live)) = self.here().get(&id) {
                live.ask(End::Stopped(StopReason::RunEnded));
            }
        }
        Ok(true)
    }
}
