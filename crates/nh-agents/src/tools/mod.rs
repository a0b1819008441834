//! Tools: what agents call, and what `type: "tool"` runs.
//!
//! [`Tool`] is what a tool is, [`Tools`] the one registry of them. Each
//! built-in tool is a file here.

mod calculate;
mod code;
mod current_time;
mod function_name;
mod http_call;
mod http_fetch;
mod mcp_call;
mod memory_search;
mod memory_store;
mod meter;
pub(crate) mod own;
mod registry;
mod run_code;
mod storage_list;
mod storage_read;
mod storage_write;
mod tool;
mod web_search;

use std::sync::Arc;

use nh_blobs::Blobs;
use nh_compute::Compute;
use nh_memory::Memories;
use nh_models::Models;
use nh_types::agent::AgentDefinition;

pub(crate) use function_name::function_name;
pub(crate) use mcp_call::McpCall;
pub use own::{Workshop, changed, created, imported, secrets_of};
pub use registry::{BadTool, BuiltinSetup, Tools};
pub use tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};

/// Whether a list of names has this tool: by its own, by `server.*`, or by `*`.
pub(crate) fn are_named(names: &[String], tool: &str) -> bool {
    let is_named = |name: &String| {
        let of_server = name.strip_suffix('*').filter(|start| start.ends_with('.'));
        name == AgentDefinition::EVERY_TOOL
            || name == tool
            || of_server.is_some_and(|start| tool.starts_with(start))
    };
    names.iter().any(is_named)
}

pub(crate) const MEMORY_TOOLS: [&str; 2] = ["memory_search", "memory_store"];

/// The tools that remember.
pub fn memory_tools(memories: &Memories, models: &Models) -> [Arc<dyn Tool>; 2] {
    [
        Arc::new(memory_search::MemorySearch::new(memories.clone(), models.clone())),
        Arc::new(memory_store::MemoryStore::new(memories.clone(), models.clone())),
    ]
}

/// The tools that keep files.
pub fn storage_tools(blobs: &Blobs) -> [Arc<dyn Tool>; 3] {
    [
        Arc::new(storage_list::StorageList::new(blobs.clone())),
        Arc::new(storage_read::StorageRead::new(blobs.clone())),
        Arc::new(storage_write::StorageWrite::new(blobs.clone())),
    ]
}

/// The tools that run code.
pub fn code_tools(compute: &Compute, blobs: &Blobs) -> [Arc<dyn Tool>; 2] {
    [
        Arc::new(run_code::RunCode::python(compute.clone(), blobs.clone())),
        Arc::new(run_code::RunCode::node(compute.clone(), blobs.clone())),
    ]
}
