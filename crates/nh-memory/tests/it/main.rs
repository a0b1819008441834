//! Memory on each store: run them through `scripts/with-postgres`.

// Clippy knows only functions marked as tests; all of this is test code.
#![allow(clippy::expect_used, clippy::panic)]

mod ann;
mod fixtures;
mod index;
mod local;
mod models;
