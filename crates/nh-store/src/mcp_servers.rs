//! Servers of the Model Context Protocol that workspaces registered, and what was last seen of
//! each.

use std::sync::Arc;

use nh_types::mcp::{McpSeen, McpServer};
use nh_types::{Page, PageRequest, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::seals::{Put, Remove, RemoveOwned};
use crate::sql::{Row, args, to_json};
use crate::{Store, StoreError, Tx, Write};

/// The table that a server's secrets are sealed for.
pub const TABLE: &str = "mcp_servers";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct McpServerRecord {
    pub workspace_id: WorkspaceId,
    pub definition: McpServer,
    pub seen: McpSeen,
    /// Times in a row that it could not be used.
    pub failures: u32,
    pub checked_at: Option<Timestamp>,
    /// When it is asked again.
    pub next_at: Timestamp,
    /// `key:42` or `session:user_…`: who registered it.
    pub created_by: String,
    pub created_at: Timestamp,
    /// When its definition was changed last.
    pub updated_at: Timestamp,
}

/// What [`record`] reads.
macro_rules! select_servers {
    ($rest:literal) => {
        concat!(
            "select workspace_id, definition, seen, failures, checked_at, next_at, created_by, created_at, \
             updated_at from mcp_servers ",
            $rest
        )
    };
}

fn record(row: &Row) -> Result<McpServerRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(McpServerRecord {
        workspace_id: columns.parse()?,
        definition: columns.json()?,
        seen: columns.json()?,
        failures: columns.number()?,
        checked_at: columns.optional_time()?,
        next_at: columns.time()?,
        created_by: columns.text()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

/// All of a workspace, by name; out of memory where that is as good, but for the times of checks
/// that found nothing new.
pub async fn all(store: &Store, workspace_id: &WorkspaceId) -> Result<Arc<Vec<McpServerRecord>>, StoreError> {
    let known = &store.known().mcp_servers;
    let seen = match known.find(workspace_id, "") {
        Ok(servers) => return Ok(servers),
        Err(seen) => seen,
    };
    let found = store
        .all(select_servers!("where workspace_id = $1 order by name"), args![workspace_id], record)
        .await?;
    let found = Arc::new(found);
    known.keep(&seen, workspace_id, "", &found);
    Ok(found)
}

/// By name.
pub async fn list(
    store: &Store,
    workspace_id: &WorkspaceId,
    page: &PageRequest,
) -> Result<Page<McpServerRecord>, StoreError> {
    let after = page.after.as_deref().unwrap_or_default();
    let found = store
        .all(
            select_servers!("where workspace_id = $1 and name > $2 order by name limit $3"),
            args![workspace_id, after, page.limit.saturating_add(1)],
            record,
        )
        .await?;
    Ok(Page::cut(found, page.limit, |server| server.definition.name.clone()))
}

pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    name: &str,
) -> Result<Option<McpServerRecord>, StoreError> {
    store
        .find(select_servers!("where workspace_id = $1 and name = $2"), args![workspace_id, name], record)
        .await
}

/// Those of all workspaces whose time has come, the longest overdue first.
pub async fn due(
    store: &Store,
    now: Timestamp,
    limit: u32,
) -> Result<Vec<(WorkspaceId, String, Timestamp)>, StoreError> {
    store
        .all(
            "select workspace_id, name, next_at from mcp_servers where next_at <= $1 order by next_at limit $2",
            args![now, limit],
            |row| {
                let mut columns = Columns::of(row);
                Ok((columns.parse()?, columns.text()?, columns.time()?))
            },
        )
        .await
}

/// Registers a server. A taken name is a [`StoreError::Conflict`].
pub struct Create {
    pub server: McpServerRecord,
    pub secrets: Vec<Put>,
    /// Servers that the workspace may have.
    pub most: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Created {
    Done,
    /// The workspace has as many as it may have.
    Full,
}

impl Write for Create {
    type Output = Created;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Created, StoreError> {
        let new = &self.server;
        let count = tx
            .select("select count(*) from mcp_servers where workspace_id = $1", args![&new.workspace_id])
            .await?;
        if count.first().map_or(Ok(0), |row| Columns::of(row).int())? >= i64::from(self.most) {
            return Ok(Created::Full);
        }
        let name = &new.definition.name;
        let made = tx
            .execute(
                "insert into mcp_servers (workspace_id, name, definition, seen, failures, checked_at, next_at, \
                 created_by, created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
                 on conflict do nothing",
                args![
                    &new.workspace_id,
                    name,
                    to_json(&new.definition)?,
                    to_json(&new.seen)?,
                    new.failures,
                    new.checked_at,
                    new.next_at,
                    &new.created_by,
                    new.created_at,
                    new.updated_at
                ],
            )
            .await?;
        if made == 0 {
            return Err(StoreError::Conflict(format!("there is a server `{name}` already")));
        }
        for secret in &self.secrets {
            secret.apply(tx).await?;
        }
        tx.changes_definitions();
        Ok(Created::Done)
    }
}

/// Puts another definition in place of the one that was read. What was seen stays, until it is
/// asked again.
pub struct Change {
    pub workspace_id: WorkspaceId,
    /// As it is to be.
    pub definition: McpServer,
    /// When what was read was last changed: one changed since is a [`StoreError::Conflict`].
    pub from: Timestamp,
    pub updated_at: Timestamp,
    /// New ones.
    pub secrets: Vec<Put>,
    /// The rows of those that are needed no more.
    pub forgotten: Vec<String>,
}

impl Write for Change {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let changed = tx
            .execute(
                "update mcp_servers set definition = $3, updated_at = $4, next_at = $4, failures = 0 \
                 where workspace_id = $1 and name = $2 and updated_at = $5",
                args![
                    &self.workspace_id,
                    &self.definition.name,
                    to_json(&self.definition)?,
                    self.updated_at,
                    self.from
                ],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::Conflict("the server was changed meanwhile".to_owned()));
        }
        for secret in &self.secrets {
            secret.apply(tx).await?;
        }
        for row_id in self.forgotten.iter().cloned() {
            Remove { workspace_id: self.workspace_id.clone(), table: TABLE, row_id }.apply(tx).await?;
        }
        tx.changes_definitions();
        Ok(())
    }
}

/// Takes it on oneself to ask a server that is due: its time is moved to when another may.
#[derive(Clone, Debug)]
pub struct Claim {
    pub workspace_id: WorkspaceId,
    pub name: String,
    /// When it was due.
    pub due_at: Timestamp,
    pub until: Timestamp,
}

impl Write for Claim {
    /// False when somebody else was first.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let claimed = tx
            .execute(
                "update mcp_servers set next_at = $4 where workspace_id = $1 and name = $2 and next_at = $3",
                args![&self.workspace_id, &self.name, self.due_at, self.until],
            )
            .await?;
        Ok(claimed > 0)
    }
}

/// Has a server asked soon: it failed, or said that its tools are others.
#[derive(Clone, Debug)]
pub struct Hurry {
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub now: Timestamp,
    /// Since it was asked last.
    pub least_ms: i64,
}

impl Write for Hurry {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        tx.execute(
            "update mcp_servers \
             set next_at = case when coalesce(checked_at, 0) + $4 > $3 then coalesce(checked_at, 0) + $4 else $3 end \
             where workspace_id = $1 and name = $2 and next_at > $3 and next_at > coalesce(checked_at, 0) + $4",
            args![&self.workspace_id, &self.name, self.now, self.least_ms],
        )
        .await
        .map(drop)
    }
}

/// Keeps what was seen, unless the server was changed or deleted since.
#[derive(Clone, Debug)]
pub struct Saw {
    pub workspace_id: WorkspaceId,
    pub name: String,
    /// [`McpServerRecord::updated_at`] of the one that was asked.
    pub of: Timestamp,
    /// None: as it was.
    pub seen: Option<McpSeen>,
    pub failures: u32,
    pub checked_at: Timestamp,
    pub next_at: Timestamp,
}

impl Write for Saw {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let seen = self.seen.as_ref().map(to_json).transpose()?;
        tx.execute(
            "update mcp_servers set seen = coalesce($4, seen), failures = $5, checked_at = $6, next_at = $7 \
             where workspace_id = $1 and name = $2 and updated_at = $3",
            args![
                &self.workspace_id,
                &self.name,
                self.of,
                seen,
                self.failures,
                self.checked_at,
                self.next_at
            ],
        )
        .await?;
        if self.seen.is_some() {
            tx.changes_definitions();
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Delete {
    pub workspace_id: WorkspaceId,
    pub name: String,
}

impl Write for Delete {
    /// False when the workspace has no such server.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let deleted = tx
            .execute(
                "delete from mcp_servers where workspace_id = $1 and name = $2",
                args![&self.workspace_id, &self.name],
            )
            .await?;
        if deleted > 0 {
            let (workspace_id, owner) = (self.workspace_id.clone(), self.name.clone());
            RemoveOwned { workspace_id, table: TABLE, owner }.apply(tx).await?;
            tx.changes_definitions();
        }
        Ok(deleted > 0)
    }
}
