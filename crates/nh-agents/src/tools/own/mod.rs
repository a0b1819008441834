//! Tools that workspaces register: what may be one, and how it is made.

mod check;
pub(crate) mod http;
mod openapi;

use std::sync::Arc;

use nh_compute::Compute;
use nh_http::Outbound;
use nh_store::Store;
use nh_store::seals::Sealer;
use nh_types::tool::OwnTool;

use super::code::Code;
use super::http_call::HttpCall;
use super::mcp_call::McpCall;
use super::tool::Tool;
use crate::mcp::McpServers;

pub(super) use check::http_secrets;
pub use check::{changed, created, imported, secrets_of};

/// What registered tools work with.
#[derive(Clone)]
pub struct Workshop {
    pub compute: Compute,
    /// Guarded: the URLs come from users.
    pub http: Outbound,
    /// Where their secrets are, sealed.
    pub store: Store,
    pub sealer: Arc<Sealer>,
    pub mcp: McpServers,
}

impl Workshop {
    pub(super) fn make(&self, definition: &OwnTool) -> Result<Arc<dyn Tool>, String> {
        Ok(match definition {
            OwnTool::Code(tool) => Arc::new(Code::new(tool, &self.compute)?),
            OwnTool::Http(tool) => Arc::new(HttpCall::new(tool, self)?),
            OwnTool::Mcp(tool) => Arc::new(McpCall::new(tool.clone(), None, &self.mcp)),
        })
    }
}
