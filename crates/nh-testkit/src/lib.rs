//! What tests of every crate need: a clock that stands still, ids that repeat,
//! a store on each engine or in memory, and a bucket. For tests only; nothing that ships depends on
//! it. Start reading at [`each_engine!`].

// All of this is test code: a failure here is a failure of the test.
#![allow(clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod bucket;
mod clock;
mod engines;
mod ids;
pub mod mcp;
pub mod upstream;

pub use bucket::TestBucket;
pub use clock::FixedClock;
pub use engines::TestStore;
pub use ids::SeededIds;

/// Where the local embedding model's files are, which `scripts/setup test` fetches.
pub fn weights() -> std::path::PathBuf {
    match std::env::var_os("NEURALHUB_MINILM") {
        Some(directory) => directory.into(),
        None => concat!(env!("CARGO_MANIFEST_DIR"), "/../../.models/all-MiniLM-L6-v2").into(),
    }
}

/// How many cases a property test tries: `usual`, and in the same proportion
/// more or fewer when `PROPTEST_CASES` (256 unless set) asks for it.
pub fn cases(usual: u32) -> u32 {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse::<u64>().ok());
    let scaled = u64::from(usual) * wanted.unwrap_or(256) / 256;
    u32::try_from(scaled.max(1)).unwrap_or(u32::MAX)
}
