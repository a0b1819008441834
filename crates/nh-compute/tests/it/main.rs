//! Guests, as the hub speaks with them.
#![allow(clippy::expect_used, clippy::panic)] // a test may fail so

mod gvisor;
mod hostile;
mod real;
mod templates;
