//! All chance of a simulation, from its seed.

use nh_testkit::SeededIds;
use nh_types::Ids;

/// Clones draw from the same sequence.
#[derive(Clone)]
pub(super) struct Dice(SeededIds);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(SeededIds::new(seed))
    }

    /// Less than `end`.
    pub(super) fn below(&self, end: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes) % end.max(1)
    }

    /// From `from` to `to`, both included.
    pub(super) fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub(super) fn happens(&self, in_a_thousand: u64) -> bool {
        self.below(1000) < in_a_thousand
    }

    pub(super) fn pick<'t, T>(&self, of: &'t [T]) -> Option<&'t T> {
        of.get(self.below(of.len() as u64) as usize)
    }
}
