//! The node's lease, as this process knows it. The row and its clock are the
//! database's.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When the lease was last renewed, and until when nothing is claimed.
pub(crate) struct Lease {
    pub(crate) length: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    renewed_at: Option<Instant>,
    claims_from: Option<Instant>,
}

impl Lease {
    pub(crate) fn new(lease_ms: u32) -> Self {
        Self { length: Duration::from_millis(lease_ms.into()), state: Mutex::default() }
    }

    pub(crate) fn length_ms(&self) -> i64 {
        i64::try_from(self.length.as_millis()).unwrap_or(i64::MAX)
    }

    /// After a gap every node's lease may have run out at once, and the first
    /// one back would take the others' runs from under them: so it waits until
    /// they had the time to renew theirs.
    pub(crate) fn renewed(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.renewed_at.is_some_and(|at| now.duration_since(at) >= self.length) {
            state.claims_from = Some(now + self.length);
        }
        state.renewed_at = Some(now);
    }

    /// Until it runs out; nothing once it has.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let age = state.renewed_at.map(|at| now.duration_since(at));
        age.map_or(Duration::ZERO, |age| self.length.saturating_sub(age))
    }

    /// Whether this node may claim runs now.
    pub(crate) fn allows_claims(&self, now: Instant) -> bool {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_live = state.renewed_at.is_some_and(|at| now.duration_since(at) < self.length);
        is_live && state.claims_from.is_none_or(|from| now >= from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_claims_only_under_a_live_lease_and_waits_after_a_gap() {
        let (lease, start) = (Lease::new(1000), Instant::now());
        let after = |ms| start + Duration::from_millis(ms);
        assert!(!lease.allows_claims(start), "never renewed");
        lease.renewed(start);
        assert!(lease.allows_claims(after(999)));
        assert_eq!(lease.left(after(999)), Duration::from_millis(1));
        assert!(!lease.allows_claims(after(1000)), "it has run out");
        assert_eq!(lease.left(after(1500)), Duration::ZERO);
        lease.renewed(after(5000));
        assert!(!lease.allows_claims(after(5100)), "the others may not be back yet");
        lease.renewed(after(5500));
        lease.renewed(after(6000));
        assert!(lease.allows_claims(after(6000)));
    }
}
