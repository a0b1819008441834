//! Tools: what agents call, and what `type: "tool"` runs.
//!
//! [`Tool`] is what a tool is, [`Tools`] the one registry of them. Each
//! built-in tool is a file here.

mod calculate;
mod current_time;
mod http_fetch;
mod meter;
mod registry;
mod tool;
mod web_search;

pub use registry::{BadTool, BuiltinSetup, Tools};
pub use tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};
