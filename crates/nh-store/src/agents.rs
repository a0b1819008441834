//! Agents and their versions.

use nh_types::agent::AgentDefinition;
use nh_types::{AgentId, Page, PageRequest, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, Tx, Write};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AgentRecord {
    pub id: AgentId,
    pub workspace_id: WorkspaceId,
    /// Counted per agent from 1.
    pub version: u32,
    pub definition: AgentDefinition,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The agent's newest version.
pub async fn find(
    _store: &Store,
    _workspace_id: &WorkspaceId,
    _id: &AgentId,
) -> Result<Option<AgentRecord>, StoreError> {
    todo!()
}

/// A version of the agent, of a deleted one too. Its `updated_at` is when that
/// version was made.
pub async fn find_version(
    _store: &Store,
    _workspace_id: &WorkspaceId,
    _id: &AgentId,
    _version: u32,
) -> Result<Option<AgentRecord>, StoreError> {
    todo!()
}

/// Newest first.
pub async fn list(
    _store: &Store,
    _workspace_id: &WorkspaceId,
    _page: &PageRequest,
) -> Result<Page<AgentRecord>, StoreError> {
    todo!()
}

/// A taken id is a [`StoreError::Conflict`]. A deleted agent's id is free
/// again, and its versions go on counting.
#[derive(Clone, Debug)]
pub struct Create {
    pub workspace_id: WorkspaceId,
    pub id: AgentId,
    pub definition: AgentDefinition,
    pub at: Timestamp,
}

impl Write for Create {
    type Output = AgentRecord;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<AgentRecord, StoreError> {
        todo!()
    }
}

/// Makes a new version.
#[derive(Clone, Debug)]
pub struct Change {
    pub workspace_id: WorkspaceId,
    pub id: AgentId,
    pub definition: AgentDefinition,
    /// The version that `definition` was derived from; another one by now is a
    /// [`StoreError::Conflict`], so that no change is lost.
    pub from_version: u32,
    pub at: Timestamp,
}

impl Write for Change {
    /// None when the workspace has no such agent.
    type Output = Option<AgentRecord>;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<Option<AgentRecord>, StoreError> {
        todo!()
    }
}

/// Hides an agent; its versions stay for the runs that began with them.
#[derive(Clone, Debug)]
pub struct Delete {
    pub workspace_id: WorkspaceId,
    pub id: AgentId,
    pub at: Timestamp,
}

impl Write for Delete {
    /// False when the workspace has no such agent.
    type Output = bool;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<bool, StoreError> {
        todo!()
    }
}
