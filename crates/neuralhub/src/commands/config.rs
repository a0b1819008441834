//! `neuralhub config print|check|reference`.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::cli::{Bind, Local, Output};
use crate::config::{self, Config};
use crate::exit::Failure;
use crate::{local, output};

#[derive(Debug, Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print what is in force: defaults, file, variables and flags, without the secrets
    Print(Read),
    /// Tell every fault of the configuration
    Check(Read),
    /// Print a commented neuralhub.toml with every setting and its default
    Reference,
}

#[derive(Debug, Args)]
struct Read {
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    bind: Bind,
    #[command(flatten)]
    output: Output,
}

impl Read {
    fn config(&self) -> Result<Config, Failure> {
        local::load(&self.local, &self.bind)
    }
}

impl ConfigCommand {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            Action::Print(read) => {
                let text = config::printed(&read.config()?)?;
                if read.output.json {
                    let tree: Value = toml::from_str(&text).map_err(anyhow::Error::new)?;
                    return output::json(&tree);
                }
                output::fragment(&text)
            }
            Action::Check(read) => {
                let config = read.config()?;
                local::providers(&config)?;
                local::bucket(&config)?;
                local::collector(&config)?;
                output::note("the configuration is right");
                Ok(())
            }
            Action::Reference => output::fragment(&config::reference()?),
        }
    }
}
