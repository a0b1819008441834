//! The agents that runs were lately started with. Kept where one process has the store:
//! every change of an agent goes through this process's one writer, so what
//! is known can be forgotten before a change is answered. A read costs a hop
//! to SQLite's thread and back, a tenth of a short run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_types::{AgentId, WorkspaceId};

use super::AgentRecord;
const MAX_KNOWN: usize = 1000;

pub(crate) struct KnownAgents {
    is_kept: bool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Counts how often all was forgotten.
    generation: u64,
    agents: HashMap<(WorkspaceId, AgentId), Arc<AgentRecord>>,
}

/// What was known when a read began.
pub(crate) struct Seen(u64);

impl KnownAgents {
    pub(crate) fn new(is_kept: bool) -> Self {
        Self { is_kept, known: Mutex::default() }
    }

    pub(crate) fn find(&self, workspace_id: &WorkspaceId, id: &AgentId) -> Result<Arc<AgentRecord>, Seen> {
        let known = self.known();
        let agent = known.agents.get(&(workspace_id.clone(), id.clone()));
        agent.cloned().ok_or(Seen(known.generation))
    }

    /// Keeps what was read, unless an agent was changed meanwhile.
    pub(crate) fn keep(&self, seen: &Seen, agent: &Arc<AgentRecord>) {
        let mut known = self.known();
        if !self.is_kept || known.generation != seen.0 {
            return;
        }
        if known.agents.len() >= MAX_KNOWN {
            known.agents.clear();
        }
        known.agents.insert((agent.workspace_id.clone(), agent.id.clone()), agent.clone());
    }

    pub(crate) fn forget(&self) {
        let mut known = self.known();
        known.generation += 1;
        known.agents.clear();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
