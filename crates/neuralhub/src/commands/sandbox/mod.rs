//! `neuralhub sandbox`: sandboxes of a running hub.

mod cp;
mod create;
mod exec;
mod ls;
mod rm;
mod shell;

use clap::{Args, Subcommand};

use crate::cli::ClientArgs;
use crate::client::segment;
use crate::exit::Failure;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Sandbox {
    #[command(subcommand)]
    command: Option<SandboxCommand>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
enum SandboxCommand {
    /// Start a sandbox, and print its id
    Create(create::Create),
    /// Run code or a command in a sandbox
    Exec(exec::Exec),
    /// Copy a file into a sandbox or out of it
    Cp(cp::Cp),
    /// List the sandboxes, or the files in one
    Ls(ls::Ls),
    /// End sandboxes; nothing of them is left
    Rm(rm::Rm),
    /// Type lines that run in a sandbox, one after the other
    Shell(shell::Shell),
}

impl Sandbox {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => ls::Ls::all(self.client).perform().await,
            Some(SandboxCommand::Create(create)) => create.perform().await,
            Some(SandboxCommand::Exec(exec)) => exec.perform().await,
            Some(SandboxCommand::Cp(cp)) => cp.perform().await,
            Some(SandboxCommand::Ls(ls)) => ls.perform().await,
            Some(SandboxCommand::Rm(rm)) => rm.perform().await,
            Some(SandboxCommand::Shell(shell)) => shell.perform().await,
        }
    }
}

/// Of the API, of one sandbox.
fn path(id: &str) -> String {
    format!("/v1/resources/{}", segment(id))
}

fn file_path(id: &str, file: &str) -> String {
    let parts: Vec<String> = file.split('/').map(segment).collect();
    format!("{}/files/{}", path(id), parts.join("/"))
}

/// `sbx-…:path`. None: it names a file of this machine.
fn inside(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(id, _)| id.starts_with("sbx-"))
}
