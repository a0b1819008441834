#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests
mod decide;
mod tools;
mod window;
