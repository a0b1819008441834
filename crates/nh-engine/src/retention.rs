//! Finished runs are kept for a stated time, then removed: a batch at a time,
//! so that nobody's write waits long.

use std::sync::Arc;
use std::time::Duration;

use nh_store::runs;

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
        let pause = match core.store.write(runs::RemoveFinished { before, limit: BATCH, after }).await {
            Ok(removed) if removed.count == u64::from(BATCH) => {
                after = removed.last;
                PAUSE
            }
            Ok(_) => {
                after = None;
                EVERY
            }
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
