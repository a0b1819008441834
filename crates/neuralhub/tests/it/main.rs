//! The binary from outside, and what holds for the whole workspace.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // a test may fail so

mod binary;
mod bucket;
mod collector;
mod complaints;
mod configuration;
mod crash;
mod documents;
mod early_answers;
mod edges;
mod endpoint;
mod http;
mod hub;
mod kills;
mod mcp_servers;
mod memory;
mod memory_kills;
mod metrics;
mod public_origin;
mod sandboxes;
mod storage;
mod storage_kills;
mod takeover;
mod traces;
