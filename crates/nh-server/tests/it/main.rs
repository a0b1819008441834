//! The server at its edge: each test is one or a few requests to a whole hub
//! on a store of its own, with a fixed clock and seeded ids.

// Helpers outside `#[test]` functions may stop a test too.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

mod agent_memory;
mod agent_runs;
mod agent_sandboxes;
mod agent_storage;
mod agents;
mod app;
mod budgets;
mod chat;
mod code_tools;
mod credentials;
mod edge;
mod events;
mod first_start;
mod forks;
mod fuzz;
mod http_tools;
mod keys;
mod limits;
mod mcp;
mod mcp_calls;
mod mcp_discovery;
mod mcp_hostile;
mod mcp_servers;
mod memory;
mod memory_models;
mod messages;
mod metering;
mod providers;
mod receiver;
mod reference;
mod response_cache;
mod responses;
mod runs;
mod sandbox_origins;
mod sandboxes;
mod schedules;
mod serve;
mod sessions;
mod storage;
mod storage_links;
mod storage_lists;
mod storage_uploads;
mod storage_vercel;
mod threads;
mod tools;
mod upstream;
mod usage;
mod values;
mod waits;
mod walk;
mod webhook_rights;
mod webhooks;
mod workflows;
