//! `neuralhub sandbox shell`.

use std::io::{self, BufRead, IsTerminal};

use anyhow::Context;
use clap::Args;

use super::exec::{Language, code_of, run};
use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

/// Each line is one piece of code, so a program that asks for more sees an empty
/// standard input.
#[derive(Debug, Args)]
pub(super) struct Shell {
    /// The sandbox
    id: String,
    /// What the lines are
    #[arg(long, short, default_value = "bash")]
    language: Language,
    #[command(flatten)]
    client: ClientArgs,
}

impl Shell {
    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let is_terminal = io::stdin().is_terminal();
        if is_terminal {
            output::note("each line runs in the sandbox, and what it sets stays; `exit` or Ctrl-D leaves");
        }
        let mut last = 0;
        loop {
            if is_terminal {
                output::fragment(&format!("{}> ", self.language.as_str()))?;
            }
            let mut line = String::new();
            let read = io::stdin().lock().read_line(&mut line).context("stdin cannot be read")?;
            if read == 0 || line.trim() == "exit" {
                break;
            }
            if line.trim().is_empty() {
                continue;
            }
            last = run(&client, &self.id, code_of(self.language, line), None).await?;
        }
        if is_terminal {
            output::line("")?;
        }
        match last {
            0 => Ok(()),
            code => Err(Failure::Ended(code)),
        }
    }
}
