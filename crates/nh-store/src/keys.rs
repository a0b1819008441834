//! API keys. Only their SHA-256 is kept.

use std::collections::BTreeMap;

use nh_types::key::KeyLimits;
use nh_types::{KeyId, Page, PageRequest, ScopeSet, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::credentials::raise_epoch;
use crate::rows::Rows;
use crate::sql::{Row, args, to_json};
use crate::{Store, StoreError, Tx, Write};

/// What [`record`] reads.
macro_rules! select_keys {
    ($rest:literal) => {
        concat!(
            "select workspace_id, id, name, prefix, hash, scopes, created_at, expires_at, rate_limit, \
             last_used_at, revoked_at, budget_usd, run_limits, model_limits from api_keys ",
            $rest
        )
    };
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyRecord {
    pub workspace_id: WorkspaceId,
    /// Counted per workspace from 1.
    pub id: KeyId,
    pub name: String,
    /// The first 7 characters of the raw key.
    pub prefix: String,
    /// SHA-256 of the raw key.
    pub hash: [u8; 32],
    pub scopes: ScopeSet,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// Requests a minute.
    pub rate_limit: Option<u32>,
    pub last_used_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
    pub limits: KeyLimits,
}

fn record(row: &Row) -> Result<KeyRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(KeyRecord {
        workspace_id: columns.parse()?,
        id: columns.int()?,
        name: columns.text()?,
        prefix: columns.text()?,
        hash: columns.hash()?,
        scopes: columns.scopes()?,
        created_at: columns.time()?,
        expires_at: columns.optional_time()?,
        rate_limit: columns.optional_number()?,
        last_used_at: columns.optional_time()?,
        revoked_at: columns.optional_time()?,
        limits: KeyLimits {
            budget_usd: columns.optional_real()?,
            runs: columns.optional_json()?.unwrap_or_default(),
            models: columns.optional_json()?.unwrap_or_default(),
        },
    })
}

/// Of any workspace, revoked and expired ones too: the caller decides. Takes no
/// workspace, because the key is what tells it.
pub async fn find_by_hash(store: &Store, hash: &[u8; 32]) -> Result<Option<KeyRecord>, StoreError> {
    store.find(select_keys!("where hash = $1"), args![hash], record).await
}

/// A key of the workspace, revoked or not.
pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    id: KeyId,
) -> Result<Option<KeyRecord>, StoreError> {
    store.find(select_keys!("where workspace_id = $1 and id = $2"), args![workspace_id, id], record).await
}

/// Keys that are accepted at `at`, neither revoked nor expired, newest first.
pub async fn list(
    store: &Store,
    workspace_id: &WorkspaceId,
    at: Timestamp,
    page: &PageRequest,
) -> Result<Page<KeyRecord>, StoreError> {
    let before: i64 = match &page.after {
        None => i64::MAX,
        Some(cursor) => cursor.parse().map_err(|_| StoreError::InvalidCursor(cursor.clone()))?,
    };
    let keys = store
        .all(
            select_keys!(
                "where workspace_id = $1 and id < $2 and revoked_at is null \
                 and (expires_at is null or expires_at > $3) order by id desc limit $4"
            ),
            args![workspace_id, before, at, page.limit.saturating_add(1)],
            record,
        )
        .await?;
    Ok(Page::cut(keys, page.limit, |key| key.id.to_string()))
}

#[derive(Clone, Debug)]
pub struct Create {
    pub workspace_id: WorkspaceId,
    pub name: String,
    pub prefix: String,
    pub hash: [u8; 32],
    pub scopes: ScopeSet,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// Requests a minute.
    pub rate_limit: Option<u32>,
    pub limits: KeyLimits,
}

impl Write for Create {
    type Output = KeyRecord;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<KeyRecord, StoreError> {
        let id = next_id(tx, &self.workspace_id).await?;
        let key = self.clone();
        let record = KeyRecord {
            workspace_id: key.workspace_id,
            id,
            name: key.name,
            prefix: key.prefix,
            hash: key.hash,
            scopes: key.scopes,
            created_at: key.created_at,
            expires_at: key.expires_at,
            rate_limit: key.rate_limit,
            last_used_at: None,
            revoked_at: None,
            limits: key.limits,
        };
        insert(tx, &record).await?;
        Ok(record)
    }
}

/// The counter's row is locked until the commit, so no number is given twice.
async fn next_id(tx: &mut Tx, workspace_id: &WorkspaceId) -> Result<KeyId, StoreError> {
    let rows = tx
        .returning(
            "update workspaces set last_key_id = last_key_id + 1 where id = $1 returning last_key_id",
            args![workspace_id],
        )
        .await?;
    match rows.first() {
        Some(row) => Columns::of(row).int(),
        None => Err(StoreError::Missing(format!("there is no workspace `{workspace_id}`"))),
    }
}

async fn insert(tx: &mut Tx, key: &KeyRecord) -> Result<(), StoreError> {
    tx.execute(
        "insert into api_keys (workspace_id, id, name, prefix, hash, scopes, created_at, expires_at, rate_limit, \
         budget_usd, run_limits, model_limits) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        args![
            &key.workspace_id,
            key.id,
            &key.name,
            &key.prefix,
            &key.hash,
            &key.scopes,
            key.created_at,
            key.expires_at,
            key.rate_limit,
            key.limits.budget_usd,
            (!key.limits.runs.is_empty()).then(|| to_json(&key.limits.runs)).transpose()?,
            (!key.limits.models.is_empty()).then(|| to_json(&key.limits.models)).transpose()?,
        ],
    )
    .await
    .map(drop)
}

/// Ends a key for good, and raises the credential epoch with it.
#[derive(Clone, Debug)]
pub struct Revoke {
    pub workspace_id: WorkspaceId,
    pub id: KeyId,
    pub at: Timestamp,
}

impl Write for Revoke {
    /// False when the workspace has no such key that works.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let revoked = tx
            .execute(
                "update api_keys set revoked_at = $1 \
                 where workspace_id = $2 and id = $3 and revoked_at is null",
                args![self.at, &self.workspace_id, self.id],
            )
            .await?;
        if revoked > 0 {
            raise_epoch(tx).await?;
        }
        Ok(revoked > 0)
    }
}

/// Puts the operator's own key into a workspace with scope `*`, once: a hash
/// that was ever revoked stays revoked.
#[derive(Clone, Debug)]
pub struct InstallBootstrap {
    pub workspace_id: WorkspaceId,
    pub hash: [u8; 32],
    pub prefix: String,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    Installed,
    AlreadyThere,
    Revoked,
}

impl Write for InstallBootstrap {
    type Output = Bootstrap;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Bootstrap, StoreError> {
        let rows = tx.select(select_keys!("where hash = $1"), args![&self.hash]).await?;
        match rows.first().map(record).transpose()? {
            Some(KeyRecord { revoked_at: Some(_), .. }) => Ok(Bootstrap::Revoked),
            Some(_) => Ok(Bootstrap::AlreadyThere),
            None => {
                let key = Create {
                    workspace_id: self.workspace_id.clone(),
                    name: "bootstrap".to_owned(),
                    prefix: self.prefix.clone(),
                    hash: self.hash,
                    scopes: ScopeSet::all(),
                    created_at: self.at,
                    expires_at: None,
                    rate_limit: None,
                    limits: KeyLimits::default(),
                };
                key.apply(tx).await?;
                Ok(Bootstrap::Installed)
            }
        }
    }
}

/// When keys were last used; an older time than the stored one changes nothing.
#[derive(Clone, Debug)]
pub struct Touch(pub Vec<(WorkspaceId, KeyId, Timestamp)>);

impl Write for Touch {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        // One row a key: a statement changes each row once only.
        let mut latest: BTreeMap<(&WorkspaceId, KeyId), Timestamp> = BTreeMap::new();
        for (workspace_id, id, at) in &self.0 {
            let time = latest.entry((workspace_id, *id)).or_insert(*at);
            *time = (*time).max(*at);
        }
        let mut rows = Rows::new(3);
        for ((workspace_id, id), at) in latest {
            rows.push(args![workspace_id, id, at]);
        }
        tx.execute_rows(
            "with given (key_workspace, key_id, used_at) as (values ROWS) \
             update api_keys set last_used_at = given.used_at from given \
             where workspace_id = given.key_workspace and id = given.key_id \
             and (last_used_at is null or last_used_at < given.used_at)",
            rows,
        )
        .await
        .map(drop)
    }
}
