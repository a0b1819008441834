//! Browser sessions. Only the SHA-256 of their token is kept.

use std::collections::BTreeMap;

use nh_types::{Timestamp, UserId, WorkspaceId};

use crate::columns::Columns;
use crate::credentials::raise_epoch;
use crate::rows::Rows;
use crate::sql::{Row, args};
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

fn record(row: &Row) -> Result<SessionRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(SessionRecord {
        token_hash: columns.hash()?,
        user_id: columns.parse()?,
        workspace_id: columns.parse()?,
        role: columns.parse()?,
        created_at: columns.time()?,
        expires_at: columns.time()?,
        last_seen_at: columns.time()?,
    })
}

/// Expired ones too: the caller decides. A session whose user left its
/// workspace is not found.
pub async fn find(store: &Store, token_hash: &[u8; 32]) -> Result<Option<SessionRecord>, StoreError> {
    store
        .find(
            "select s.token_hash, s.user_id, s.workspace_id, m.role, s.created_at, s.expires_at, s.last_seen_at \
             from sessions s join memberships m on m.user_id = s.user_id and m.workspace_id = s.workspace_id \
             where s.token_hash = $1",
            args![token_hash],
            record,
        )
        .await
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<SessionRecord, StoreError> {
        let made = tx
            .returning(
                "insert into sessions (token_hash, user_id, workspace_id, created_at, expires_at, last_seen_at) \
                 select $1, user_id, workspace_id, $4, $5, $4 from memberships \
                 where user_id = $2 and workspace_id = $3 \
                 returning (select m.role from memberships m where m.user_id = sessions.user_id \
                 and m.workspace_id = sessions.workspace_id)",
                args![&self.token_hash, &self.user_id, &self.workspace_id, self.created_at, self.expires_at],
            )
            .await?;
        let Some(row) = made.first() else {
            return Err(StoreError::Missing(format!(
                "user `{}` is not a member of workspace `{}`",
                self.user_id, self.workspace_id
            )));
        };
        Ok(SessionRecord {
            token_hash: self.token_hash,
            user_id: self.user_id.clone(),
            workspace_id: self.workspace_id.clone(),
            role: Columns::of(row).parse()?,
            created_at: self.created_at,
            expires_at: self.expires_at,
            last_seen_at: self.created_at,
        })
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let moved = tx
            .execute(
                "update sessions set workspace_id = $1 where token_hash = $2 and exists (select 1 \
                 from memberships m where m.user_id = sessions.user_id and m.workspace_id = $1)",
                args![&self.workspace_id, &self.token_hash],
            )
            .await?;
        if moved > 0 {
            raise_epoch(tx).await?;
        }
        Ok(moved > 0)
    }
}

/// When sessions were last used (hash of the token, time); an older time than
/// the stored one changes nothing.
#[derive(Clone, Debug)]
pub struct Touch(pub Vec<([u8; 32], Timestamp)>);

impl Write for Touch {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        // One row a session: a statement changes each row once only.
        let mut latest: BTreeMap<&[u8; 32], Timestamp> = BTreeMap::new();
        for (token_hash, at) in &self.0 {
            let time = latest.entry(token_hash).or_insert(*at);
            *time = (*time).max(*at);
        }
        let mut rows = Rows::new(2);
        for (token_hash, at) in latest {
            rows.push(args![token_hash, at]);
        }
        tx.execute_rows(
            "with given (token, seen_at) as (values ROWS) \
             update sessions set last_seen_at = given.seen_at from given \
             where token_hash = given.token and last_seen_at < given.seen_at",
            rows,
        )
        .await
        .map(drop)
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let ended = tx.execute("delete from sessions where token_hash = $1", args![&self.token_hash]).await?;
        if ended > 0 {
            raise_epoch(tx).await?;
        }
        Ok(ended > 0)
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        tx.execute(
            "delete from sessions where expires_at <= $1 or last_seen_at < $2",
            args![self.now, self.idle_since],
        )
        .await
    }
}
