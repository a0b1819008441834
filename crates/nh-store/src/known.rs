//! The agents, workflows, tools and servers of tools that runs were lately started with. Kept where one
//! process has the store: every change of one goes through this process's one
//! writer, so what is known can be forgotten before a change is answered. A read
//! costs a change of thread and back, a tenth of a short run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_types::WorkspaceId;

use crate::agents::AgentRecord;
use crate::mcp_servers::McpServerRecord;
use crate::tools::ToolRecord;
use crate::workflows::WorkflowRecord;

/// Of each kind.
const MAX_KNOWN: usize = 1000;

pub(crate) struct Known {
    pub(crate) agents: KnownOf<AgentRecord>,
    pub(crate) workflows: KnownOf<WorkflowRecord>,
    /// All of a workspace, under no id.
    pub(crate) tools: KnownOf<Vec<ToolRecord>>,
    /// The same.
    pub(crate) mcp_servers: KnownOf<Vec<McpServerRecord>>,
}

impl Known {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self {
            agents: KnownOf::new(is_kept),
            workflows: KnownOf::new(is_kept),
            tools: KnownOf::new(is_kept),
            mcp_servers: KnownOf::new(is_kept),
        }
    }

    pub(crate) fn forget(&self) {
        self.agents.forget();
        self.workflows.forget();
        self.tools.forget();
        self.mcp_servers.forget();
    }
}

/// Of one kind.
pub(crate) struct KnownOf<R> {
    is_kept: bool,
    kept: Mutex<Kept<R>>,
}

struct Kept<R> {
    /// Counts how often all was forgotten.
    generation: u64,
    /// By workspace and id.
    records: HashMap<(WorkspaceId, String), Arc<R>>,
}

/// What was known when a read began.
pub(crate) struct Seen(u64);

impl<R> KnownOf<R> {
    fn new(is_kept: bool) -> Self {
        Self { is_kept, kept: Mutex::new(Kept { generation: 0, records: HashMap::new() }) }
    }

    pub(crate) fn find(&self, workspace_id: &WorkspaceId, id: &str) -> Result<Arc<R>, Seen> {
        let kept = self.kept();
        let record = kept.records.get(&(workspace_id.clone(), id.to_owned()));
        record.cloned().ok_or(Seen(kept.generation))
    }

    /// Keeps what was read, unless one was changed meanwhile.
    pub(crate) fn keep(&self, seen: &Seen, workspace_id: &WorkspaceId, id: &str, record: &Arc<R>) {
        let mut kept = self.kept();
        if !self.is_kept || kept.generation != seen.0 {
            return;
        }
        if kept.records.len() >= MAX_KNOWN {
            kept.records.clear();
        }
        kept.records.insert((workspace_id.clone(), id.to_owned()), record.clone());
    }

    fn forget(&self) {
        let mut kept = self.kept();
        kept.generation += 1;
        kept.records.clear();
    }

    fn kept(&self) -> MutexGuard<'_, Kept<R>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
