//! Everything that is kept: workspaces, keys, users, sessions, agents, runs
//! with their journals, usage and sealed secrets, on SQLite or PostgreSQL.
//!
//! This is the only crate that knows SQL. It must never know HTTP, models or
//! how a run is carried out. Isolation lives in its signatures: every function
//! that touches a workspace's rows takes the [`nh_types::WorkspaceId`].
//!
//! Start reading at [`Store`] for how it is opened and read, at [`Write`] for
//! how it is written (one writer, group commit), and at [`runs`] for the main
//! job's rows. What differs between the two engines is in `dialect.rs`.

mod columns;
mod connect;
mod cursor;
mod dialect;
mod error;
mod known;
#[cfg(feature = "memory")]
pub mod memory;
mod migrations;
mod rows;
mod settings;
mod sql;
mod sqlite;
mod store;
mod versioned;
mod write;
mod writer;

pub mod agents;
pub mod answers;
pub mod blobs;
pub mod credentials;
pub mod idempotency;
pub mod keys;
pub mod ledger;
pub mod mcp_servers;
pub mod memories;
pub mod nodes;
pub mod providers;
pub mod runs;
pub mod sandboxes;
pub mod schedules;
pub mod schemas;
pub mod seals;
pub mod sessions;
pub mod tools;
pub mod usage;
pub mod users;
pub mod webhooks;
pub mod workflows;
pub mod workspaces;

pub use dialect::EngineKind;
pub use error::{DatabaseError, StoreError};
pub use idempotency::{Idempotency, Once};
pub use settings::StoreSettings;
pub use store::Store;
pub use write::{Tx, Write};
