//! nh-http at its edge: a client on one side, sockets of our own on the other.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod guard;
mod limits;
mod redirect;
mod reuse;
mod server;
mod sse;
