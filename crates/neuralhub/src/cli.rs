//! The command line: what can be typed, and where it goes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::exit::Failure;

/// A hub for agents: one binary, one directory.
#[derive(Debug, Parser)]
#[command(name = "neuralhub", version, about, after_help = crate::exit::HELP, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the hub
    Serve(commands::serve::Serve),
    /// Run an agent, a workflow or a tool, and follow it until it is done
    Run(commands::run::Run),
    /// List runs, show, cancel, approve, deny, signal, retry or fork one
    Runs(commands::runs::Runs),
    /// List agents, show, create or delete one
    Agents(commands::agents::Agents),
    /// List schedules, show, create, enable, disable or delete one
    Schedules(commands::schedules::Schedules),
    /// List workflows, show, create, change or delete one
    Workflows(commands::workflows::Workflows),
    /// List webhook deliveries, show or repeat one, make the signing secret
    Webhooks(commands::webhooks::Webhooks),
    /// Remember something, search, list, show, delete, import or export memories
    Memory(commands::memory::Memory),
    /// Put files and folders into the hub's storage, get, list or remove them
    Storage(commands::storage::Storage),
    /// Start sandboxes, run code in them, copy files, list or remove them
    Sandbox(commands::sandbox::Sandbox),
    /// Build what sandboxes begin with, or list it
    Templates(commands::templates::Templates),
    /// List API keys, create or revoke one, generate one without storing it
    Keys(commands::keys::Keys),
    /// Speak the Model Context Protocol on stdin and stdout, for desktop clients
    Mcp(commands::mcp::Mcp),
    /// List the models of the hub
    Models(commands::models::Models),
    /// Ask a model, and print its answer as it comes
    Chat(commands::chat::Chat),
    /// Fetch the local embedding model (91 MB), if it is not there
    Setup(commands::setup::Setup),
    /// Check what the hub and this client need, and say how to mend it
    Doctor(commands::doctor::Doctor),
    /// Check that the store's runs are sound, and mend what can be mended
    Check(commands::check::Check),
    /// Print or check the configuration, or print its reference
    Config(commands::config::ConfigCommand),
    /// Create workspaces, beside a running hub or without one
    Workspaces(commands::workspaces::Workspaces),
    /// Create users, beside a running hub or without one
    Users(commands::users::Users),
}

/// Where the hub's own files are: for commands that open its store.
#[derive(Clone, Debug, Default, Args)]
pub struct Local {
    /// The configuration file [default: ./neuralhub.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the hub keeps its data
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
}

/// How a running hub is reached: for commands that are clients of its API.
#[derive(Clone, Debug, Args)]
pub struct Remote {
    /// Where the hub is
    #[arg(long, value_name = "URL", env = "NEURALHUB_URL", default_value = "http://127.0.0.1:8080")]
    pub url: url::Url,
    /// The API key [default: DATA_DIR/first-key, for a hub on this machine]
    #[arg(long, value_name = "KEY", env = "NEURALHUB_API_KEY", hide_env_values = true)]
    pub key: Option<String>,
}

/// How the answer is printed.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct Output {
    /// Print JSON, for scripts
    #[arg(long)]
    pub json: bool,
}

/// What every client command takes.
#[derive(Clone, Debug, Args)]
pub struct ClientArgs {
    #[command(flatten)]
    pub remote: Remote,
    #[command(flatten)]
    pub output: Output,
    /// Where a hub on this machine keeps its data (for its first key)
    #[arg(long, value_name = "DIR", default_value = "./data")]
    pub data_dir: PathBuf,
}

/// `--bind`, as `serve` and the configuration commands take it.
#[derive(Clone, Debug, Default, Args)]
pub struct Bind {
    /// The address to listen on [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    pub bind: Option<SocketAddr>,
}

impl Cli {
    /// Does what was asked.
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            Command::Serve(command) => command.perform().await,
            Command::Run(command) => command.perform().await,
            Command::Runs(command) => command.perform().await,
            Command::Agents(command) => command.perform().await,
            Command::Schedules(command) => command.perform().await,
            Command::Workflows(command) => command.perform().await,
            Command::Webhooks(command) => command.perform().await,
            Command::Memory(command) => command.perform().await,
            Command::Storage(command) => command.perform().await,
            Command::Sandbox(command) => command.perform().await,
            Command::Templates(command) => command.perform().await,
            Command::Keys(command) => command.perform().await,
            Command::Mcp(command) => command.perform().await,
            Command::Models(command) => command.perform().await,
            Command::Chat(command) => command.perform().await,
            Command::Setup(command) => command.perform().await,
            Command::Doctor(command) => command.perform().await,
            Command::Check(command) => command.perform().await,
            Command::Config(command) => command.perform().await,
            Command::Workspaces(command) => command.perform().await,
            Command::Users(command) => command.perform().await,
        }
    }
}
