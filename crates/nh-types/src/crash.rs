//! Crash points: places where the crash test stops the process dead. They are
//! there only in builds with the feature `crash-points`, which nothing but
//! tests turns on; elsewhere [`point`] is empty.
//!
//! `NEURALHUB_CRASH_LOG` names a file that gets one line for each point passed;
//! `NEURALHUB_CRASH_AT=N` aborts the process at the N-th.

/// Passes the point `name`, or dies there.
#[cfg(feature = "crash-points")]
pub fn point(name: impl FnOnce() -> String) {
    use std::io::Write as _;
    use std::sync::atomic::{AtomicU64, Ordering};

    static PASSED: AtomicU64 = AtomicU64::new(0);

    let Ok(path) = std::env::var("NEURALHUB_CRASH_LOG") else { return };
    let at = std::env::var("NEURALHUB_CRASH_AT").ok().and_then(|at| at.parse::<u64>().ok());
    let number = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
    if let Ok(mut log) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
        // One write: lines of two threads must not mix.
        let _ = log.write_all(format!("{}\n", name()).as_bytes());
    }
    if at == Some(number) {
        std::process::abort();
    }
}

#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn point(_name: impl FnOnce() -> String) {}
