//! Tools that workspaces registered.

use std::sync::Arc;

use nh_types::tool::OwnTool;
use nh_types::{Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::seals::{Put, Remove, RemoveOwned};
use crate::sql::{Row, args, to_json};
use crate::{Store, StoreError, Tx, Write};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolRecord {
    pub workspace_id: WorkspaceId,
    pub definition: OwnTool,
    /// `key:42` or `session:user_…`: who made it.
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

fn record(row: &Row) -> Result<ToolRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(ToolRecord {
        workspace_id: columns.parse()?,
        definition: columns.json()?,
        created_by: columns.text()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

/// All of a workspace, by name; out of memory where that is as good.
pub async fn all(store: &Store, workspace_id: &WorkspaceId) -> Result<Arc<Vec<ToolRecord>>, StoreError> {
    let known = &store.known().tools;
    let seen = match known.find(workspace_id, "") {
        Ok(tools) => return Ok(tools),
        Err(seen) => seen,
    };
    let found = store
        .all(
            "select workspace_id, definition, created_by, created_at, updated_at from tools \
             where workspace_id = $1 order by name",
            args![workspace_id],
            record,
        )
        .await?;
    let found = Arc::new(found);
    known.keep(&seen, workspace_id, "", &found);
    Ok(found)
}

pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    name: &str,
) -> Result<Option<ToolRecord>, StoreError> {
    store
        .find(
            "select workspace_id, definition, created_by, created_at, updated_at from tools \
             where workspace_id = $1 and name = $2",
            args![workspace_id, name],
            record,
        )
        .await
}

/// The table that a tool's secrets are sealed for. Each has a row of its own.
pub const TABLE: &str = "tools";

/// Registers a tool. A taken name is a [`StoreError::Conflict`].
pub struct Create {
    pub tool: ToolRecord,
    pub secrets: Vec<Put>,
    /// Tools that the workspace may have.
    pub most: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Created {
    Done(Box<ToolRecord>),
    /// The workspace has as many as it may have.
    Full,
}

impl Write for Create {
    type Output = Created;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Created, StoreError> {
        if count(tx, &self.tool.workspace_id).await? >= i64::from(self.most) {
            return Ok(Created::Full);
        }
        insert(tx, &self.tool, &self.secrets).await?;
        tx.changes_definitions();
        Ok(Created::Done(Box::new(self.tool.clone())))
    }
}

/// Registers several tools, or none. A taken name is a [`StoreError::Conflict`] that names it.
pub struct Import {
    pub tools: Vec<(ToolRecord, Vec<Put>)>,
    /// Tools that the workspace may have.
    pub most: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Imported {
    Done,
    /// The workspace may have only so many more.
    Full {
        room: u32,
    },
}

impl Write for Import {
    type Output = Imported;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Imported, StoreError> {
        let Some((first, _)) = self.tools.first() else { return Ok(Imported::Done) };
        let room = i64::from(self.most) - count(tx, &first.workspace_id).await?;
        if self.tools.len() as i64 > room {
            return Ok(Imported::Full { room: u32::try_from(room).unwrap_or_default() });
        }
        for (tool, secrets) in &self.tools {
            insert(tx, tool, secrets).await?;
        }
        tx.changes_definitions();
        Ok(Imported::Done)
    }
}

async fn count(tx: &mut Tx, workspace_id: &WorkspaceId) -> Result<i64, StoreError> {
    let count = tx.select("select count(*) from tools where workspace_id = $1", args![workspace_id]).await?;
    count.first().map_or(Ok(0), |row| Columns::of(row).int())
}

async fn insert(tx: &mut Tx, new: &ToolRecord, secrets: &[Put]) -> Result<(), StoreError> {
    let name = new.definition.name();
    let made = tx
        .execute(
            "insert into tools (workspace_id, name, definition, created_by, created_at, updated_at) \
             values ($1, $2, $3, $4, $5, $6) on conflict do nothing",
            args![
                &new.workspace_id,
                name,
                to_json(&new.definition)?,
                &new.created_by,
                new.created_at,
                new.updated_at
            ],
        )
        .await?;
    if made == 0 {
        return Err(StoreError::Conflict(format!("there is a tool `{name}` already")));
    }
    for secret in secrets {
        secret.apply(tx).await?;
    }
    Ok(())
}

/// Puts another definition in place of the one that was read.
pub struct Change {
    /// As it is to be.
    pub tool: ToolRecord,
    /// When what was read was last changed: one changed since is a
    /// [`StoreError::Conflict`].
    pub from: Timestamp,
    /// New ones.
    pub secrets: Vec<Put>,
    /// The rows of those that are needed no more.
    pub forgotten: Vec<String>,
}

impl Write for Change {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let new = &self.tool;
        let changed = tx
            .execute(
                "update tools set definition = $3, updated_at = $4 \
                 where workspace_id = $1 and name = $2 and updated_at = $5",
                args![
                    &new.workspace_id,
                    new.definition.name(),
                    to_json(&new.definition)?,
                    new.updated_at,
                    self.from
                ],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::Conflict("the tool was changed meanwhile".to_owned()));
        }
        for secret in &self.secrets {
            secret.apply(tx).await?;
        }
        for row_id in self.forgotten.iter().cloned() {
            let workspace_id = new.workspace_id.clone();
            Remove { workspace_id, table: TABLE, row_id }.apply(tx).await?;
        }
        tx.changes_definitions();
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Delete {
    pub workspace_id: WorkspaceId,
    pub name: String,
}

impl Write for Delete {
    /// False when the workspace has no such tool.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let deleted = tx
            .execute(
                "delete from tools where workspace_id = $1 and name = $2",
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
