//! What runs do: the agent loop, the tools and the checks of what is asked of
//! them. It implements the engine's [`nh_engine::Program`].
//!
//! This crate must never know SQL or how a request came in. Start reading at
//! [`Hub`] (`hub.rs`), then [`agent::decide`] for what an agent does next, and
//! [`tools`] for what it can call.

pub mod agent;
pub mod agents;
pub mod definition;
mod fork;
mod hub;
mod program;
pub mod search;
mod settings;
mod start;
pub mod tools;
pub mod view;

pub use hub::{Hub, HubError, RunCaller, RunRequest};
pub use settings::AgentsSettings;
pub use start::MAX_WAIT_SECONDS;
