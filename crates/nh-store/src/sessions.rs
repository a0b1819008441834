//! Browser sessions. Only the SHA-256 of their token is kept.

use nh_types::{Timestamp, UserId, WorkspaceId};

use crate::users::Role;
use crate::{Store, StoreError, Tx, Write};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    pub user_id: UserId,
    pub workspace_id: WorkspaceId,
    /// As it is now, not as it was at login.
    pub role: Role,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub last_seen_at: Timestamp,
}

/// Expired ones too: the caller decides. A session whose user left its
/// workspace is not found.
pub async fn find(_store: &Store, _token_hash: &[u8; 32]) -> Result<Option<SessionRecord>, StoreError> {
    todo!()
}

/// A user who is no member of the workspace is a [`StoreError::Missing`].
#[derive(Clone, Debug)]
pub struct Create {
    pub token_hash: [u8; 32],
    pub user_id: UserId,
    pub workspace_id: WorkspaceId,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

impl Write for Create {
    type Output = SessionRecord;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<SessionRecord, StoreError> {
        todo!()
    }
}

/// Moves a session to another workspace of its user, and raises the credential
/// epoch.
#[derive(Clone, Debug)]
pub struct SetWorkspace {
    pub token_hash: [u8; 32],
    pub workspace_id: WorkspaceId,
}

impl Write for SetWorkspace {
    /// False when there is no such session, or its user is no member there.
    type Output = bool;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<bool, StoreError> {
        todo!()
    }
}

/// When sessions were last used (hash of the token, time); an older time than
/// the stored one changes nothing.
#[derive(Clone, Debug)]
pub struct Touch(pub Vec<([u8; 32], Timestamp)>);

impl Write for Touch {
    type Output = ();

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<(), StoreError> {
        todo!()
    }
}

/// Ends a session, and raises the credential epoch with it.
#[derive(Clone, Debug)]
pub struct Delete {
    pub token_hash: [u8; 32],
}

impl Write for Delete {
    /// False when there is no such session.
    type Output = bool;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<bool, StoreError> {
        todo!()
    }
}

/// Removes sessions that expired before `now`, or were last seen before
/// `idle_since`.
#[derive(Clone, Copy, Debug)]
pub struct Purge {
    pub now: Timestamp,
    pub idle_since: Timestamp,
}

impl Write for Purge {
    /// How many were removed.
    type Output = u64;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<u64, StoreError> {
        todo!()
    }
}
