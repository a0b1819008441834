#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests
mod control;
mod fork;
mod heal;
mod progress;
mod resume;
mod script;
mod simulation;
mod values;
mod waits;
