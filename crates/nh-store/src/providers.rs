//! Providers of models that workspaces registered.

use nh_types::provider::OwnProvider;
use nh_types::{Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::seals::{Put, RemoveOwned};
use crate::sql::{Row, args, to_json};
use crate::{Store, StoreError, Tx, Write};

/// The table that a provider's key is sealed for.
pub const TABLE: &str = "providers";

#[derive(Clone, Debug, PartialEq)]
pub struct ProviderRecord {
    pub workspace_id: WorkspaceId,
    pub definition: OwnProvider,
    /// `key:42` or `session:user_…`: who registered it.
    pub created_by: String,
    pub created_at: Timestamp,
    /// When its definition was changed last.
    pub updated_at: Timestamp,
}

fn record(row: &Row) -> Result<ProviderRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(ProviderRecord {
        workspace_id: columns.parse()?,
        definition: columns.json()?,
        created_by: columns.text()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

/// All of a workspace, by name.
pub async fn all(store: &Store, workspace_id: &WorkspaceId) -> Result<Vec<ProviderRecord>, StoreError> {
    store
        .all(
            "select workspace_id, definition, created_by, created_at, updated_at from providers \
             where workspace_id = $1 order by name",
            args![workspace_id],
            record,
        )
        .await
}

/// Registers a provider. A taken name is a [`StoreError::Conflict`].
pub struct Create {
    pub provider: ProviderRecord,
    pub key: Option<Put>,
    /// Providers that the workspace may have.
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
        let new = &self.provider;
        let count = tx
            .select("select count(*) from providers where workspace_id = $1", args![&new.workspace_id])
            .await?;
        if count.first().map_or(Ok(0), |row| Columns::of(row).int())? >= i64::from(self.most) {
            return Ok(Created::Full);
        }
        let name = &new.definition.name;
        let made = tx
            .execute(
                "insert into providers (workspace_id, name, definition, created_by, created_at, updated_at) \
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
            return Err(StoreError::Conflict(format!("there is a provider `{name}` already")));
        }
        if let Some(key) = &self.key {
            key.apply(tx).await?;
        }
        Ok(Created::Done)
    }
}

/// What becomes of a provider's key.
pub enum KeyChange {
    Stays,
    /// There is none, or another: what was there is removed.
    Becomes(Option<Put>),
}

/// Puts another definition in place of the one that was read.
pub struct Change {
    pub workspace_id: WorkspaceId,
    /// As it is to be.
    pub definition: OwnProvider,
    /// When what was read was last changed: one changed since is a [`StoreError::Conflict`].
    pub from: Timestamp,
    pub updated_at: Timestamp,
    pub key: KeyChange,
}

impl Write for Change {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let name = &self.definition.name;
        let changed = tx
            .execute(
                "update providers set definition = $3, updated_at = $4 \
                 where workspace_id = $1 and name = $2 and updated_at = $5",
                args![&self.workspace_id, name, to_json(&self.definition)?, self.updated_at, self.from],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::Conflict("the provider was changed meanwhile".to_owned()));
        }
        if let KeyChange::Becomes(key) = &self.key {
            forget_key(&self.workspace_id, name).apply(tx).await?;
            if let Some(key) = key {
                key.apply(tx).await?;
            }
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
    /// False when the workspace has no such provider.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let deleted = tx
            .execute(
                "delete from providers where workspace_id = $1 and name = $2",
                args![&self.workspace_id, &self.name],
            )
            .await?;
        if deleted > 0 {
            forget_key(&self.workspace_id, &self.name).apply(tx).await?;
        }
        Ok(deleted > 0)
    }
}

fn forget_key(workspace_id: &WorkspaceId, name: &str) -> RemoveOwned {
    RemoveOwned { workspace_id: workspace_id.clone(), table: TABLE, owner: name.to_owned() }
}
