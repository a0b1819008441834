//! `neuralhub workspaces create NAME`.

use clap::{Args, Subcommand};
use nh_store::StoreError;
use nh_store::workspaces::{self, Workspace};
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
        let Action::Create(create) = self.command;
        create.perform().await
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
