//! Finished runs are kept for a stated time, then removed: a batch at a time,
//! so that nobody's write waits long.

use std::sync::Arc;
use std::time::Duration;

use nh_store::{StoreError, runs};
use nh_types::{RunId, Timestamp};

use crate::core::Core;

const EVERY: Duration = Duration::from_secs(600);
const BATCH: u32 = 100;
/// Between batches: what else is to be written goes first.
const PAUSE: Duration = Duration::from_millis(20);
const DAY_MS: i64 = 24 * 3600 * 1000;

pub(crate) async fn keep(core: Arc<Core>, days: u32) {
    let mut after = None;
    loop {
        let before = core.clock.now().plus_millis(-i64::from(days) * DAY_MS);
        let pause = match remove(&core, before, &mut after).await {
            Ok(true) => PAUSE,
            Ok(false) => EVERY,
            Err(error) => {
                tracing::error!(%error, "old runs could not be removed; it is tried again");
                EVERY
            }
        };
        tokio::select! {
            biased;
            () = core.stopping.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Removes a batch of runs that ended before; or, when there are none left, a
/// batch of the large values that they had. Whether there may be more.
async fn remove(core: &Core, before: Timestamp, after: &mut Option<RunId>) -> Result<bool, StoreError> {
    let old = runs::RemoveFinished { before, limit: BATCH, after: after.take() };
    let removed = core.store.write(old).await?;
    if removed.count == u64::from(BATCH) {
        *after = removed.last;
        return Ok(true);
    }
    core.values.remove_orphans(before).await
}
