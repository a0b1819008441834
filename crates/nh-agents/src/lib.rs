//! What runs do: the agent loop, the tools and the checks of what is asked of
//! them. It implements the engine's [`nh_engine::Program`].
//!
//! This crate must never know SQL or how a request came in. Start reading at
//! [`Hub`] (`hub.rs`), then [`agent::decide`] for what an agent does next, and
//! [`tools`] for what it can call.

pub mod agent;
pub mod agents;
mod answers;
pub mod approval;
mod catalogue;
mod conversation;
pub mod definition;
mod fork;
mod hub;
mod limits;
pub mod mcp;
pub mod memory;
mod pin;
mod program;
mod remember;
pub mod schedules;
pub mod search;
pub mod secret_headers;
mod settings;
mod spending;
mod start;
mod target;
pub mod tools;
pub mod view;
pub mod webhooks;
pub mod workflow;
pub mod workflows;

pub use answers::StepDecision;
pub use catalogue::{Callable, Catalogue};
pub use hub::{Hub, HubError, HubSetup, RunCaller, RunRequest};
pub use limits::{check_limits, check_model_limits, check_usd};
pub use settings::AgentsSettings;
pub use start::MAX_WAIT_SECONDS;
pub use target::Target;
