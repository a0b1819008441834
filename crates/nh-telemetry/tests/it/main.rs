//! Spans as a collector gets them, and what becomes of them when it is not well.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // a test may fail so

mod collector;
mod export;
mod places;
mod settings;
