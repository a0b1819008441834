//! `neuralhub keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nh_server::auth::api_key::ApiKey;
use nh_store::keys;
use nh_types::key::{CreatedKey, KeyLimits, KeyList};
use nh_types::{Clock, KeyId, Scope, ScopeSet, SystemClock, SystemIds};
use serde_json::{Value, json};

use crate::cli::{ClientArgs, Local};
use crate::client::Client;
use crate::exit::Failure;
use crate::{local, output};

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Keys {
    #[command(subcommand)]
    command: Option<KeysCommand>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// List active keys, masked
    List(ClientArgs),
    /// Create a key; it is printed this once
    Create(Create),
    /// Revoke a key
    Revoke(Revoke),
    /// Print a fresh key without storing it, for NEURALHUB_BOOTSTRAP_KEY
    Generate,
}

#[derive(Debug, Args)]
struct Create {
    /// What people call it
    #[arg(long)]
    name: String,
    /// What it may do, a,b,c
    #[arg(long, value_delimiter = ',', required = true)]
    scopes: Vec<Scope>,
    /// Write to the store of this workspace, beside the hub, instead of asking a running hub
    #[arg(long, value_name = "NAME")]
    workspace: Option<String>,
    /// The configuration file, with --workspace [default: ./neuralhub.toml, if it is there]
    #[arg(long, value_name = "FILE", requires = "workspace")]
    config: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Revoke {
    /// The key's number, as `neuralhub keys` lists it
    id: KeyId,
    #[command(flatten)]
    client: ClientArgs,
}

impl Keys {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => list(self.client).await,
            Some(KeysCommand::List(client)) => list(client).await,
            Some(KeysCommand::Create(create)) => create.perform().await,
            Some(KeysCommand::Revoke(revoke)) => {
                Client::new(&revoke.client)?.delete(&format!("/v1/keys/{}", revoke.id)).await?;
                output::note(format!("key {} is revoked", revoke.id));
                Ok(())
            }
            Some(KeysCommand::Generate) => output::line(ApiKey::generate(&SystemIds).expose()),
        }
    }
}

async fn list(arguments: ClientArgs) -> Result<(), Failure> {
    let client = Client::new(&arguments)?;
    if arguments.output.json {
        return output::json(&client.get::<Value>("/v1/keys").await?);
    }
    let list: KeyList = client.get("/v1/keys").await?;
    let rows = list.keys.into_iter().map(|key| {
        let scopes: ScopeSet = key.scopes.into_iter().collect();
        let used = key.last_used_at.map_or_else(|| "never".to_owned(), |at| at.to_string());
        [key.id.to_string(), key.name, key.prefix, scopes.to_text(), used]
    });
    output::table(["ID", "NAME", "PREFIX", "SCOPES", "LAST USED"], rows, "No keys.")
}

impl Create {
    async fn perform(self) -> Result<(), Failure> {
        let created = match &self.workspace {
            Some(workspace) => self.in_store(workspace).await?,
            None => {
                let scopes: Vec<&str> = self.scopes.iter().map(|scope| scope.as_str()).collect();
                let body = json!({"name": self.name, "scopes": scopes});
                Client::new(&self.client)?.post("/v1/keys", &body).await?
            }
        };
        if self.client.output.json {
            return output::json(&created);
        }
        output::line(&created.key)
    }

    /// The operator's way: needs the store, and no key.
    async fn in_store(&self, workspace: &str) -> Result<CreatedKey, Failure> {
        let local = Local { config: self.config.clone(), data_dir: self.client.data_dir.clone() };
        let store = local::open_store(&local).await?;
        let created = self.write(&store, workspace).await;
        store.close().await;
        created
    }

    async fn write(&self, store: &nh_store::Store, workspace: &str) -> Result<CreatedKey, Failure> {
        let workspace = local::workspace(store, workspace).await?;
        let key = ApiKey::generate(&SystemIds);
        let create = keys::Create {
            workspace_id: workspace.id,
            name: self.name.clone(),
            prefix: key.prefix(),
            hash: key.hash(),
            scopes: self.scopes.iter().copied().collect(),
            created_at: SystemClock.now(),
            expires_at: None,
            rate_limit: None,
            limits: KeyLimits::default(),
        };
        let record = store.write(create).await.map_err(anyhow::Error::new)?;
        Ok(CreatedKey {
            key: key.expose().to_owned(),
            id: record.id,
            prefix: record.prefix,
            name: record.name,
            scopes: record.scopes.iter().collect(),
            created_at: record.created_at,
            expires_at: None,
            rate_limit: None,
            budget_usd: record.limits.budget_usd,
            limits: record.limits.runs,
            model_limits: record.limits.models,
        })
    }
}
