use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use nh_types::{Clock, Timestamp};

/// A clock that moves only when told to. Clones show the same time.
#[derive(Clone, Debug)]
pub struct FixedClock(Arc<AtomicI64>);

impl FixedClock {
    pub fn at(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.as_millis())))
    }

    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }

    pub fn advance_ms(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Default for FixedClock {
    /// 2026-02-06T12:00:00Z, the time in the API reference's examples.
    fn default() -> Self {
        Self::at(Timestamp::from_millis(1_770_379_200_000))
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_move_together() {
        let clock = FixedClock::default();
        let clone = clock.clone();
        assert_eq!(clock.now().to_string(), "2026-02-06T12:00:00.000Z");
        clone.advance_ms(1500);
        assert_eq!(clock.now().to_string(), "2026-02-06T12:00:01.500Z");
    }
}
