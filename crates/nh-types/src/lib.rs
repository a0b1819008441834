//! The nouns on the wire: typed ids, scopes, times, error codes, and the
//! request and answer types of the HTTP API.
//!
//! This crate must never know how anything is done: no tokio, no SQL, no HTTP
//! server or client. Start reading at [`run`] for the main job's shapes, at
//! [`error`] for the one table of public error codes, and at [`scope`] for who
//! may do what.

pub mod agent;
pub mod blob;
pub mod budget;
pub mod clock;
pub mod crash;
pub mod error;
pub mod id;
mod json;
pub mod key;
pub mod mcp;
pub mod memory;
pub mod model;
pub mod page;
mod patch;
pub mod provider;
pub mod run;
pub mod sandbox;
pub mod schedule;
pub mod scope;
pub mod settings;
pub mod span;
pub mod tool;
pub mod usage;
pub mod webhook;
pub mod workflow;

pub use clock::{Clock, Ids, SharedClock, SharedIds, SystemClock, SystemIds, Timestamp};
pub use error::{ApiError, ErrorBody, ErrorCode, ErrorType, Rate};
pub use id::{
    AgentId, KeyId, MemoryId, RunId, SandboxId, ScheduleId, UploadId, UserId, WorkflowId, WorkspaceId,
};
pub use json::{JsonSize, JsonText};
pub use page::{Page, PageRequest};
pub use scope::{Scope, ScopeSet};
