//! What tests of every crate need: a clock that stands still, ids that repeat,
//! and a store on each engine. For tests only; nothing that ships depends on
//! it. Start reading at [`each_engine!`].

mod clock;
mod engines;
mod ids;

pub use clock::FixedClock;
pub use engines::TestStore;
pub use ids::SeededIds;
