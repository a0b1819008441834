//! One file per command: what it takes, and what it does.

pub mod agents;
pub mod answers;
pub mod chat;
pub mod check;
pub mod config;
pub mod doctor;
pub mod keys;
pub mod mcp;
pub mod memory;
pub mod memory_lines;
pub mod memory_model;
pub mod models;
pub mod run;
pub mod runs;
pub mod sandbox;
pub mod schedules;
pub mod serve;
pub mod setup;
pub mod storage;
pub mod templates;
pub mod users;
pub mod webhooks;
pub mod workflows;
pub mod workspaces;
