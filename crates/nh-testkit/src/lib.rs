//! What tests of every crate need: a clock that stands still, ids that repeat,
//! and a store on each engine. For tests only; nothing that ships depends on
//! it. Start reading at [`each_engine!`].

// All of this is test code: a failure here is a failure of the test.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod clock;
mod engines;
mod ids;
pub mod upstream;

pub use clock::FixedClock;
pub use engines::TestStore;
pub use ids::SeededIds;
