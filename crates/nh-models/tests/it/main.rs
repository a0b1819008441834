//! At the edge: what callers of `Models` see, against the mock upstream and the
//! offline model.
#![allow(clippy::expect_used, clippy::panic)] // a failure here is a failure of the test

mod ahead;
mod anthropic;
mod anthropic_requests;
mod charges;
mod chat;
mod embeddings;
mod faulty;
mod google;
mod harness;
mod kept;
mod messages;
mod models;
mod offline;
mod offline_bombs;
mod offline_properties;
mod prompts;
mod responses;
mod responses_check;
mod responses_otherwise;
mod responses_properties;
mod responses_streams;
mod routing;
mod settings;
mod stream;
mod usage;
