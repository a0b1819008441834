//! Agents and their versions.

mod known;

use std::sync::Arc;

use nh_types::agent::AgentDefinition;
use nh_types::{AgentId, Page, PageRequest, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::cursor::Cursor;
use crate::sql::{Row, args, to_json};
use crate::versioned::versioned;
use crate::{Store, StoreError, Tx, Write};

pub(crate) use known::KnownAgents;

versioned! {
    record: AgentRecord,
    id: AgentId,
    definition: AgentDefinition,
    table: "agents",
    versions: "agent_versions",
    column: "agent_id",
    a: "an agent",
    changed: Tx::changes_agents,
}

/// The newest version, out of memory where that is as good.
pub async fn current(
    store: &Store,
    workspace_id: &WorkspaceId,
    id: &AgentId,
) -> Result<Option<Arc<AgentRecord>>, StoreError> {
    let seen = match store.known_agents().find(workspace_id, id) {
        Ok(agent) => return Ok(Some(agent)),
        Err(seen) => seen,
    };
    let found = find(store, workspace_id, id).await?.map(Arc::new);
    if let Some(agent) = &found {
        store.known_agents().keep(&seen, agent);
    }
    Ok(found)
}
