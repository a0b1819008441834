//! One file per group of routes. A handler checks who is calling, calls one
//! function, and shapes the answer.

pub(crate) mod agents;
pub(crate) mod answers;
pub(crate) mod auth;
pub(crate) mod chat;
pub(crate) mod docs;
pub(crate) mod health;
mod kept;
pub(crate) mod keys;
pub(crate) mod llms;
pub(crate) mod mcp;
pub(crate) mod mcp_servers;
pub(crate) mod memory;
pub(crate) mod memory_lines;
pub(crate) mod messages;
pub(crate) mod metrics;
pub(crate) mod models;
pub(crate) mod providers;
pub(crate) mod resources;
pub(crate) mod responses;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod storage;
pub(crate) mod tools;
pub(crate) mod usage;
pub(crate) mod values;
pub(crate) mod webhooks;
pub(crate) mod workflows;
