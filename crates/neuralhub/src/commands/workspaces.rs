//! `neuralhub workspaces`.

use clap::{Args, Subcommand};
use nh_store::runs::Share;
use nh_store::workspaces::{self, Workspace};
use nh_store::{Store, StoreError};
use nh_types::agent::AgentDefinition;
use nh_types::{Clock, SystemClock, SystemIds, WorkspaceId};
use serde_json::json;

use crate::cli::{Local, Output};
use crate::exit::Failure;
use crate::{local, output};

const MAX_NAME_CHARS: usize = 128;

#[derive(Debug, Args)]
pub struct Workspaces {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a workspace
    Create(Create),
    /// Say how much of the queue a workspace has
    Share(ShareOf),
}

#[derive(Debug, Args)]
struct ShareOf {
    /// The workspace's name
    name: String,
    /// Runs in each of its turns, 1 to 1000
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    weight: u32,
    /// Runs under way at once [default: as many as the hub drives]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    max_running: Option<u32>,
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Args)]
struct Create {
    /// Its name, 1 to 128 characters
    name: String,
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    output: Output,
}

impl Workspaces {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            Action::Create(create) => create.perform().await,
            Action::Share(share) => share.perform().await,
        }
    }
}

impl ShareOf {
    async fn perform(self) -> Result<(), Failure> {
        let store = local::open_store(&self.local).await?;
        let set = self.write(&store).await;
        store.close().await;
        let workspace = set?;
        let Self { weight, max_running, .. } = self;
        if self.output.json {
            return output::json(&json!({"id": workspace.id, "weight": weight, "max_running": max_running}));
        }
        let most =
            max_running.map_or_else(|| "as many as the hub drives".to_owned(), |most| most.to_string());
        output::note(format!("{} has {weight} in each turn, and {most} under way", workspace.name));
        Ok(())
    }

    async fn write(&self, store: &Store) -> Result<Workspace, Failure> {
        let workspace = local::workspace(store, &self.name).await?;
        let share = Share { weight: self.weight, max_running: self.max_running };
        let set = workspaces::SetShare { id: workspace.id.clone(), share };
        store.write(set).await.map_err(anyhow::Error::new)?;
        Ok(workspace)
    }
}

impl Create {
    async fn perform(self) -> Result<(), Failure> {
        let name = self.name.trim().to_owned();
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS {
            return Err(Failure::Usage(format!("a workspace's name has 1 to {MAX_NAME_CHARS} characters")));
        }
        let store = local::open_store(&self.local).await?;
        let workspace =
            Workspace { id: WorkspaceId::generate(&SystemIds), name, created_at: SystemClock.now() };
        let create = workspaces::Create {
            workspace: workspace.clone(),
            default_agent: AgentDefinition::default_agent(),
        };
        let created = store.write(create).await;
        store.close().await;
        match created {
            Ok(_) => {}
            Err(StoreError::Conflict(_)) => {
                return Err(anyhow::anyhow!("there is a workspace `{}` already", workspace.name).into());
            }
            Err(error) => return Err(anyhow::Error::new(error).into()),
        }
        if self.output.json {
            return output::json(
                &json!({"id": workspace.id, "name": workspace.name, "created_at": workspace.created_at}),
            );
        }
        output::line(workspace.id.as_str())
    }
}
