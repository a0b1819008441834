//! Agents and their versions.

mod known;

use std::sync::Arc;

use nh_types::agent::AgentDefinition;
use nh_types::{AgentId, Page, PageRequest, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::cursor::Cursor;
use crate::sql::{Row, args, to_json};
use crate::{Store, StoreError, Tx, Write};

pub(crate) use known::KnownAgents;

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

fn record(row: &Row) -> Result<AgentRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(AgentRecord {
        id: columns.parse()?,
        workspace_id: columns.parse()?,
        version: columns.number()?,
        definition: columns.json()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

/// The agent's newest version.
pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    id: &AgentId,
) -> Result<Option<AgentRecord>, StoreError> {
    store
        .find(
            "select a.id, a.workspace_id, a.version, v.definition, a.created_at, a.updated_at \
             from agents a join agent_versions v \
             on v.workspace_id = a.workspace_id and v.agent_id = a.id and v.version = a.version \
             where a.workspace_id = $1 and a.id = $2 and a.deleted_at is null",
            args![workspace_id, id],
            record,
        )
        .await
}

/// The same, out of memory where that is as good.
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

/// A version of the agent, of a deleted one too. Its `updated_at` is when that
/// version was made.
pub async fn find_version(
    store: &Store,
    workspace_id: &WorkspaceId,
    id: &AgentId,
    version: u32,
) -> Result<Option<AgentRecord>, StoreError> {
    store
        .find(
            "select a.id, a.workspace_id, v.version, v.definition, a.created_at, v.created_at \
             from agents a join agent_versions v on v.workspace_id = a.workspace_id and v.agent_id = a.id \
             where a.workspace_id = $1 and a.id = $2 and v.version = $3",
            args![workspace_id, id, version],
            record,
        )
        .await
}

/// Newest first.
pub async fn list(
    store: &Store,
    workspace_id: &WorkspaceId,
    page: &PageRequest,
) -> Result<Page<AgentRecord>, StoreError> {
    let after = Cursor::after(page.after.as_deref())?;
    let agents = store
        .all(
            "select a.id, a.workspace_id, a.version, v.definition, a.created_at, a.updated_at \
             from agents a join agent_versions v \
             on v.workspace_id = a.workspace_id and v.agent_id = a.id and v.version = a.version \
             where a.workspace_id = $1 and a.deleted_at is null and (a.created_at, a.id) < ($2, $3) \
             order by a.created_at desc, a.id desc limit $4",
            args![workspace_id, after.at_ms, after.id, page.limit.saturating_add(1)],
            record,
        )
        .await?;
    Ok(Page::cut(agents, page.limit, |agent| Cursor::text(agent.created_at, agent.id.as_str())))
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<AgentRecord, StoreError> {
        tx.changes_agents();
        let definition = to_json(&self.definition)?;
        let made = tx
            .returning(
                "insert into agents (workspace_id, id, version, created_at, updated_at) \
                 values ($1, $2, 1, $3, $3) on conflict (workspace_id, id) do update \
                 set version = agents.version + 1, created_at = excluded.created_at, \
                 updated_at = excluded.updated_at, deleted_at = null \
                 where agents.deleted_at is not null returning version",
                args![&self.workspace_id, &self.id, self.at],
            )
            .await?;
        let Some(row) = made.first() else {
            return Err(StoreError::Conflict(format!("there is an agent `{}` already", self.id)));
        };
        let version = Columns::of(row).number()?;
        insert_version(tx, &self.workspace_id, &self.id, version, definition, self.at).await?;
        Ok(AgentRecord {
            id: self.id.clone(),
            workspace_id: self.workspace_id.clone(),
            version,
            definition: self.definition.clone(),
            created_at: self.at,
            updated_at: self.at,
        })
    }
}

async fn insert_version(
    tx: &mut Tx,
    workspace_id: &WorkspaceId,
    id: &AgentId,
    version: u32,
    definition: String,
    at: Timestamp,
) -> Result<(), StoreError> {
    tx.execute(
        "insert into agent_versions (workspace_id, agent_id, version, definition, created_at) \
         values ($1, $2, $3, $4, $5)",
        args![workspace_id, id, version, definition, at],
    )
    .await
    .map(drop)
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Option<AgentRecord>, StoreError> {
        tx.changes_agents();
        let definition = to_json(&self.definition)?;
        let version = self.from_version.saturating_add(1);
        let changed = tx
            .returning(
                "update agents set version = $1, updated_at = $2 where workspace_id = $3 and id = $4 \
                 and deleted_at is null and version = $5 returning created_at",
                args![version, self.at, &self.workspace_id, &self.id, self.from_version],
            )
            .await?;
        let Some(row) = changed.first() else { return self.not_changed(tx).await };
        let created_at = Columns::of(row).time()?;
        insert_version(tx, &self.workspace_id, &self.id, version, definition, self.at).await?;
        Ok(Some(AgentRecord {
            id: self.id.clone(),
            workspace_id: self.workspace_id.clone(),
            version,
            definition: self.definition.clone(),
            created_at,
            updated_at: self.at,
        }))
    }
}

impl Change {
    /// Tells a missing agent from one that somebody else has changed.
    async fn not_changed(&self, tx: &mut Tx) -> Result<Option<AgentRecord>, StoreError> {
        let rows = tx
            .select(
                "select version from agents where workspace_id = $1 and id = $2 and deleted_at is null",
                args![&self.workspace_id, &self.id],
            )
            .await?;
        match rows.first() {
            None => Ok(None),
            Some(row) => Err(StoreError::Conflict(format!(
                "agent `{}` was changed meanwhile: it is at version {}, not {}; read it and try again",
                self.id,
                Columns::of(row).int()?,
                self.from_version
            ))),
        }
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        tx.changes_agents();
        let deleted = tx
            .execute(
                "update agents set deleted_at = $1 where workspace_id = $2 and id = $3 and deleted_at is null",
                args![self.at, &self.workspace_id, &self.id],
            )
            .await?;
        Ok(deleted > 0)
    }
}
