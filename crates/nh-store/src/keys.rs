//! API keys. Only their SHA-256 is kept.

use nh_types::{KeyId, Page, PageRequest, ScopeSet, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, Tx, Write};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Of any workspace, revoked and expired ones too: the caller decides. Takes no
/// workspace, because the key is what tells it.
pub async fn find_by_hash(_store: &Store, _hash: &[u8; 32]) -> Result<Option<KeyRecord>, StoreError> {
    todo!()
}

/// A key of the workspace, revoked or not.
pub async fn find(
    _store: &Store,
    _workspace_id: &WorkspaceId,
    _id: KeyId,
) -> Result<Option<KeyRecord>, StoreError> {
    todo!()
}

/// Keys that are not revoked, newest first.
pub async fn list(
    _store: &Store,
    _workspace_id: &WorkspaceId,
    _page: &PageRequest,
) -> Result<Page<KeyRecord>, StoreError> {
    todo!()
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
}

impl Write for Create {
    type Output = KeyRecord;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<KeyRecord, StoreError> {
        todo!()
    }
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

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<bool, StoreError> {
        todo!()
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

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<Bootstrap, StoreError> {
        todo!()
    }
}

/// When keys were last used; an older time than the stored one changes nothing.
#[derive(Clone, Debug)]
pub struct Touch(pub Vec<(WorkspaceId, KeyId, Timestamp)>);

impl Write for Touch {
    type Output = ();

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<(), StoreError> {
        todo!()
    }
}
