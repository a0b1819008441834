//! People who sign in, and the workspaces they belong to.

use std::str::FromStr;

use nh_types::run::UnknownWord;
use nh_types::{Timestamp, UserId, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::credentials::raise_epoch;
use crate::sql::{Row, args};
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

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::EVERY.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownWord {
            given: text.chars().take(80).collect(),
            expected: "owner, member".to_owned(),
        })
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

fn user(row: &Row) -> Result<User, StoreError> {
    let mut columns = Columns::of(row);
    Ok(User {
        id: columns.parse()?,
        email: columns.text()?,
        password_hash: columns.text()?,
        created_at: columns.time()?,
    })
}

/// Looks the address up in its normal form.
pub async fn find_by_email(store: &Store, email: &str) -> Result<Option<User>, StoreError> {
    store
        .find(
            "select id, email, password_hash, created_at from users where email = $1",
            args![normal_email(email)],
            user,
        )
        .await
}

pub async fn find(store: &Store, id: &UserId) -> Result<Option<User>, StoreError> {
    store.find("select id, email, password_hash, created_at from users where id = $1", args![id], user).await
}

/// Of one user, by the workspaces' names.
pub async fn memberships(store: &Store, user_id: &UserId) -> Result<Vec<Membership>, StoreError> {
    store
        .all(
            "select m.workspace_id, w.name, m.role from memberships m join workspaces w on w.id = m.workspace_id \
             where m.user_id = $1 order by w.name",
            args![user_id],
            |row| {
                let mut columns = Columns::of(row);
                Ok(Membership {
                    workspace_id: columns.parse()?,
                    workspace_name: columns.text()?,
                    role: columns.parse()?,
                })
            },
        )
        .await
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let User { id, email, password_hash, created_at } = &self.user;
        let email = normal_email(email);
        let made = tx
            .execute(
                "insert into users (id, email, password_hash, created_at) values ($1, $2, $3, $4) \
                 on conflict do nothing",
                args![id, &email, password_hash, *created_at],
            )
            .await?;
        if made == 0 {
            return Err(StoreError::Conflict(format!("there is a user `{email}` already")));
        }
        join(tx, id, &self.workspace_id, self.role, *created_at).await
    }
}

async fn join(
    tx: &mut Tx,
    user_id: &UserId,
    workspace_id: &WorkspaceId,
    role: Role,
    at: Timestamp,
) -> Result<(), StoreError> {
    let joined = tx
        .execute(
            "insert into memberships (user_id, workspace_id, role, created_at) \
             select u.id, w.id, $3, $4 from users u, workspaces w where u.id = $1 and w.id = $2 \
             on conflict (user_id, workspace_id) do update set role = excluded.role",
            args![user_id, workspace_id, role.as_str(), at],
        )
        .await?;
    match joined {
        0 => {
            Err(StoreError::Missing(format!("there is no user `{user_id}` or no workspace `{workspace_id}`")))
        }
        _ => Ok(()),
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

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        join(tx, &self.user_id, &self.workspace_id, self.role, self.at).await?;
        // A changed role must not outlive in a cache.
        raise_epoch(tx).await
    }
}
