//! Workspaces: who owns all other rows.

use nh_types::agent::AgentDefinition;
use nh_types::{AgentId, Page, PageRequest, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::agents;
use crate::columns::Columns;
use crate::cursor::Cursor;
use crate::runs::{Share, Shares};
use crate::sql::{Row, args};
use crate::{Store, StoreError, Tx, Write};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    pub id: WorkspaceId,
    /// Unique in the store.
    pub name: String,
    pub created_at: Timestamp,
}

fn workspace(row: &Row) -> Result<Workspace, StoreError> {
    let mut columns = Columns::of(row);
    Ok(Workspace { id: columns.parse()?, name: columns.text()?, created_at: columns.time()? })
}

pub async fn find(store: &Store, id: &WorkspaceId) -> Result<Option<Workspace>, StoreError> {
    store.find("select id, name, created_at from workspaces where id = $1", args![id], workspace).await
}

pub async fn find_by_name(store: &Store, name: &str) -> Result<Option<Workspace>, StoreError> {
    store.find("select id, name, created_at from workspaces where name = $1", args![name], workspace).await
}

/// The shares of the queue that are not as all are.
pub async fn shares(store: &Store) -> Result<Shares, StoreError> {
    let found = store
        .all(
            "select id, weight, max_running from workspaces where weight <> 1 or max_running is not null",
            args![],
            |row| {
                let mut columns = Columns::of(row);
                let id = columns.parse()?;
                Ok((id, Share { weight: columns.number()?, max_running: columns.optional_number()? }))
            },
        )
        .await?;
    Ok(Shares(found.into_iter().collect()))
}

/// Gives a workspace another share of the queue.
#[derive(Clone, Debug)]
pub struct SetShare {
    pub id: WorkspaceId,
    pub share: Share,
}

impl Write for SetShare {
    /// False when there is no such workspace.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let Share { weight, max_running } = self.share;
        let changed = tx
            .execute(
                "update workspaces set weight = $2, max_running = $3 where id = $1",
                args![&self.id, weight, max_running],
            )
            .await?;
        Ok(changed > 0)
    }
}

/// All workspaces, newest first: for the operator only.
pub async fn list(store: &Store, page: &PageRequest) -> Result<Page<Workspace>, StoreError> {
    let after = Cursor::after(page.after.as_deref())?;
    let workspaces = store
        .all(
            "select id, name, created_at from workspaces where (created_at, id) < ($1, $2) \
             order by created_at desc, id desc limit $3",
            args![after.at_ms, after.id, page.limit.saturating_add(1)],
            workspace,
        )
        .await?;
    Ok(Page::cut(workspaces, page.limit, |workspace| {
        Cursor::text(workspace.created_at, workspace.id.as_str())
    }))
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Workspace, StoreError> {
        let Workspace { id, name, created_at } = &self.workspace;
        let made = tx
            .execute(
                "insert into workspaces (id, name, created_at) values ($1, $2, $3) on conflict do nothing",
                args![id, name, *created_at],
            )
            .await?;
        if made == 0 {
            return Err(StoreError::Conflict(format!("there is a workspace named `{name}` already")));
        }
        let agent = agents::Create {
            workspace_id: id.clone(),
            id: AgentId::default_agent(),
            definition: self.default_agent.clone(),
            at: *created_at,
        };
        agent.apply(tx).await?;
        Ok(self.workspace.clone())
    }
}
