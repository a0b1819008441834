//! People who sign in, and the workspaces they belong to.

use nh_types::{Timestamp, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::{Store, StoreError, Tx, Write};

/// What a user may do in a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Owner,
    Member,
}

impl Role {
    pub const EVERY: [Role; 2] = [Role::Owner, Role::Member];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Member => "member",
        }
    }
}

#[derive(Clone, Debug)]
pub struct User {
    pub id: UserId,
    /// Lower-cased: see [`normal_email`].
    pub email: String,
    /// A PHC string (argon2id).
    pub password_hash: String,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    pub workspace_id: WorkspaceId,
    pub workspace_name: String,
    pub role: Role,
}

/// The form under which an e-mail address is kept and looked up: without the
/// space around it, in lower case.
pub fn normal_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Looks the address up in its normal form.
pub async fn find_by_email(_store: &Store, _email: &str) -> Result<Option<User>, StoreError> {
    todo!()
}

pub async fn find(_store: &Store, _id: &UserId) -> Result<Option<User>, StoreError> {
    todo!()
}

/// Of one user, by the workspaces' names.
pub async fn memberships(_store: &Store, _user_id: &UserId) -> Result<Vec<Membership>, StoreError> {
    todo!()
}

/// Makes a user, a member of one workspace. A taken e-mail address is a
/// [`StoreError::Conflict`], an unknown workspace a [`StoreError::Missing`].
#[derive(Clone, Debug)]
pub struct Create {
    pub user: User,
    pub workspace_id: WorkspaceId,
    pub role: Role,
}

impl Write for Create {
    type Output = ();

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<(), StoreError> {
        todo!()
    }
}

/// Adds a user to a workspace, or changes the role there.
#[derive(Clone, Debug)]
pub struct AddMembership {
    pub user_id: UserId,
    pub workspace_id: WorkspaceId,
    pub role: Role,
    pub at: Timestamp,
}

impl Write for AddMembership {
    type Output = ();

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<(), StoreError> {
        todo!()
    }
}
