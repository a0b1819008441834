//! `neuralhub users create`.

use std::io::{BufRead, IsTerminal};

use clap::{Args, Subcommand};
use nh_server::auth::password;
use nh_store::users::{self, Role, User};
use nh_store::workspaces::Workspace;
use nh_store::{Store, StoreError};
use nh_types::{Clock, SystemClock, SystemIds, UserId};
use secrecy::SecretString;
use serde_json::json;

use crate::cli::{Local, Output};
use crate::exit::Failure;
use crate::{local, output};

#[derive(Debug, Args)]
pub struct Users {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a user; the password is asked for, or read from stdin. One who exists is added to
    /// the workspace instead
    Create(Create),
}

#[derive(Debug, Args)]
struct Create {
    /// The e-mail address to sign in with
    #[arg(long)]
    email: String,
    /// The workspace's name or id
    #[arg(long, value_name = "NAME")]
    workspace: String,
    /// owner may do everything; member everything but make and revoke keys
    #[arg(long, default_value = "member", value_parser = ["owner", "member"])]
    role: String,
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    output: Output,
}

impl Users {
    pub async fn perform(self) -> Result<(), Failure> {
        let Action::Create(create) = self.command;
        let store = local::open_store(&create.local).await?;
        let created = create.perform(&store).await;
        store.close().await;
        created
    }
}

impl Create {
    async fn perform(&self, store: &Store) -> Result<(), Failure> {
        let email = users::normal_email(&self.email);
        if !is_email(&email) {
            return Err(Failure::Usage(format!("`{}` is not an e-mail address", self.email)));
        }
        let workspace = local::workspace(store, &self.workspace).await?;
        let role = Role::EVERY.into_iter().find(|role| role.as_str() == self.role).unwrap_or(Role::Member);
        let known = users::find_by_email(store, &email).await.map_err(anyhow::Error::new)?;
        let id = match known {
            Some(user) => self.join(store, user.id, &workspace, role).await?,
            None => self.sign_up(store, &email, &workspace, role).await?,
        };
        if self.output.json {
            let view = json!({"id": id, "email": email, "workspace": workspace.name, "workspace_id": workspace.id, "role": role.as_str()});
            return output::json(&view);
        }
        output::line(id.as_str())
    }

    async fn sign_up(
        &self,
        store: &Store,
        email: &str,
        workspace: &Workspace,
        role: Role,
    ) -> Result<UserId, Failure> {
        let password_hash = password::hash_password(&SystemIds, &ask_password()?)
            .map_err(|error| Failure::Usage(error.to_string()))?;
        let id = UserId::generate(&SystemIds);
        let user =
            User { id: id.clone(), email: email.to_owned(), password_hash, created_at: SystemClock.now() };
        match store.write(users::Create { user, workspace_id: workspace.id.clone(), role }).await {
            Ok(()) => Ok(id),
            Err(StoreError::Conflict(_)) => {
                Err(anyhow::anyhow!("there is a user `{email}` already; try again to add them").into())
            }
            Err(error) => Err(anyhow::Error::new(error).into()),
        }
    }

    /// Who is there already signs in as before, and finds one workspace more.
    async fn join(
        &self,
        store: &Store,
        user_id: UserId,
        workspace: &Workspace,
        role: Role,
    ) -> Result<UserId, Failure> {
        let memberships = users::memberships(store, &user_id).await.map_err(anyhow::Error::new)?;
        if let Some(now) = memberships.iter().find(|one| one.workspace_id == workspace.id) {
            let (name, role) = (&workspace.name, now.role.as_str());
            return Err(anyhow::anyhow!("the user `{}` is in `{name}` already, as {role}", self.email).into());
        }
        let (id, workspace_id) = (user_id.clone(), workspace.id.clone());
        let join = users::AddMembership { user_id, workspace_id, role, at: SystemClock.now() };
        store.write(join).await.map_err(anyhow::Error::new)?;
        output::note("this user exists: added to the workspace, the password stays as it is");
        Ok(id)
    }
}

fn is_email(text: &str) -> bool {
    let parts = text.split_once('@');
    parts.is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'))
        && text.len() <= 254
        && !text.contains(char::is_whitespace)
}

/// Asked for twice on a terminal; else the first line of stdin.
fn ask_password() -> Result<SecretString, Failure> {
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map_err(anyhow::Error::new)?;
        return Ok(SecretString::from(line.trim_end_matches(['\r', '\n'])));
    }
    let first = rpassword::prompt_password("Password: ").map_err(anyhow::Error::new)?;
    let second = rpassword::prompt_password("Again: ").map_err(anyhow::Error::new)?;
    if first != second {
        return Err(Failure::Usage("the two passwords differ".to_owned()));
    }
    Ok(SecretString::from(first))
}
