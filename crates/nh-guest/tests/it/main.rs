//! The real program on pipes, as the hub talks to it.
#![allow(clippy::expect_used, clippy::panic)] // a test may fail so

mod commands;
mod files;
mod frames;
mod host;
mod interpreters;
mod ports;
