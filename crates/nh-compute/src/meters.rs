//! What is counted of sandboxes, for Prometheus. None begins often enough for its look-up
//! to count.

use std::time::Duration;

use metrics::{counter, gauge, histogram};

use crate::live::End;

/// Where a sandbox came from that somebody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Pool,
    Snapshot,
    Nothing,
}

pub(crate) fn running(count: usize) {
    gauge!("neuralhub_sandboxes_running").set(count as f64);
}

pub(crate) fn started(from: From, time: Duration) {
    let from = match from {
        From::Pool => "pool",
        From::Snapshot => "snapshot",
        From::Nothing => "nothing",
    };
    histogram!("neuralhub_sandbox_start_seconds", "from" => from).record(time.as_secs_f64());
}

pub(crate) fn not_started() {
    counter!("neuralhub_sandbox_starts_failed_total").increment(1);
}

pub(crate) fn ended(end: End) {
    let reason = match end {
        End::Deleted => "deleted",
        End::Stopped(reason) => reason.as_str(),
    };
    counter!("neuralhub_sandboxes_ended_total", "reason" => reason).increment(1);
}
