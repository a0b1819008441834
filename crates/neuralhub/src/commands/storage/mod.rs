//! `neuralhub storage`: files and folders to the hub and back.
//!
//! What is put goes in parts, which the hub keeps, and what is got goes to a
//! file whose name tells of which bytes it is: a command that broke off goes on
//! when it is repeated, and nothing else is remembered anywhere.

mod fetch;
mod get;
mod ls;
mod objects;
mod parts;
mod patience;
mod put;
mod rm;
mod send;
mod tree;

use anyhow::anyhow;
use clap::{Args, Subcommand};

use crate::cli::ClientArgs;
use crate::exit::Failure;
use crate::output::Progress;

/// Files that are under way at once, and parts in memory.
const AT_ONCE: usize = 4;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Storage {
    #[command(subcommand)]
    command: Option<StorageCommand>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
enum StorageCommand {
    /// Put a file or a folder; one that broke off goes on when it is repeated
    Put(put::Put),
    /// Get an object or a folder; one that broke off goes on when it is repeated
    Get(get::Get),
    /// List objects and folders
    Ls(ls::Ls),
    /// Remove objects or folders
    Rm(rm::Rm),
}

impl Storage {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => ls::Ls::all(self.client).perform().await,
            Some(StorageCommand::Put(put)) => put.perform().await,
            Some(StorageCommand::Get(get)) => get.perform().await,
            Some(StorageCommand::Ls(ls)) => ls.perform().await,
            Some(StorageCommand::Rm(rm)) => rm.perform().await,
        }
    }
}

/// Does `work` until it is done or Ctrl-C is pressed, and says how to go on if
/// it was broken off by what may pass.
async fn resumable<T>(
    work: impl Future<Output = Result<T, Failure>>,
    can_stop: bool,
    progress: &Progress,
    how: &str,
) -> Result<T, Failure> {
    let stopped = async {
        // A read of a pipe cannot be broken off, so then Ctrl-C has its usual effect.
        if !can_stop || tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let (failure, is_passing) = tokio::select! {
        done = work => match done {
            Ok(done) => return Ok(done),
            Err(failure) => { let is_passing = patience::is_passing(&failure); (failure, is_passing) }
        },
        () = stopped => (anyhow!("stopped by Ctrl-C").into(), true),
    };
    if is_passing {
        progress.note(how);
    }
    Err(failure)
}
