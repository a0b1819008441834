//! `neuralhub sandbox rm`.

use clap::Args;
use serde_json::json;

use super::path;
use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(super) struct Rm {
    /// The sandboxes
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

impl Rm {
    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        for id in &self.ids {
            client.delete(&path(id)).await?;
            if !self.client.output.json {
                output::note(format!("{id} is gone"));
            }
        }
        match self.client.output.json {
            true => output::json(&json!({"removed": self.ids})),
            false => Ok(()),
        }
    }
}
