//! A client of servers that speak the Model Context Protocol, of all its revisions: remote ones
//! over streamable HTTP, through [`nh_http`], and programs of this machine on their standard
//! input and output.
//!
//! This crate must never know who asks, where secrets are kept, or what an agent is. Start
//! reading at [`Session`].

mod error;
mod local;
mod remote;
mod session;
mod tool;

pub use error::McpError;
pub use local::{LocalServer, check_name};
pub use remote::RemoteServer;
pub use session::Session;
pub use tool::{Called, Listed, OfferedTool};
