//! Workspaces: who owns all other rows.

use nh_types::agent::AgentDefinition;
use nh_types::{Page, PageRequest, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, Tx, Write};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    pub id: WorkspaceId,
    /// Unique in the store.
    pub name: String,
    pub created_at: Timestamp,
}

pub async fn find(_store: &Store, _id: &WorkspaceId) -> Result<Option<Workspace>, StoreError> {
    todo!()
}

pub async fn find_by_name(_store: &Store, _name: &str) -> Result<Option<Workspace>, StoreError> {
    todo!()
}

/// All workspaces, newest first: for the operator only.
pub async fn list(_store: &Store, _page: &PageRequest) -> Result<Page<Workspace>, StoreError> {
    todo!()
}

/// Makes a workspace and its `agent_default`. A taken name is a
/// [`StoreError::Conflict`].
#[derive(Clone, Debug)]
pub struct Create {
    pub workspace: Workspace,
    pub default_agent: AgentDefinition,
}

impl Write for Create {
    type Output = Workspace;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<Workspace, StoreError> {
        todo!()
    }
}
