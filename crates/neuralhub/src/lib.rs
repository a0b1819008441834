//! The binary: `neuralhub serve`, and a command-line client of its API.
//!
//! This crate wires the others together and knows how to be typed at; it must
//! never know SQL, a route, or how anything is done. Start reading at
//! [`cli`] for what can be typed, at [`hub`] for how a hub is put together
//! and stopped, and at [`config`] for what can be set.

pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod exit;
pub mod hub;
mod local;
mod lock;
mod log;
pub mod output;
