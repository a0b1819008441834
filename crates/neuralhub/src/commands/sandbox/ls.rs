//! `neuralhub sandbox ls`.

use clap::Args;
use nh_types::sandbox::{SandboxFiles, SandboxView};

use super::{file_path, path};
use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(super) struct Ls {
    /// `ID` or `ID:FOLDER`, for the files in a sandbox
    #[arg(value_name = "ID[:FOLDER]")]
    of: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

impl Ls {
    pub(super) fn all(client: ClientArgs) -> Self {
        Self { of: None, client }
    }

    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        match &self.of {
            None => self.sandboxes(&client).await,
            Some(of) => {
                let (id, folder) = of.split_once(':').unwrap_or((of, ""));
                self.files(&client, id, folder.trim_end_matches('/')).await
            }
        }
    }

    async fn sandboxes(&self, client: &Client) -> Result<(), Failure> {
        let list: Vec<SandboxView> = client.get("/v1/resources").await?;
        if self.client.output.json {
            return output::json(&list);
        }
        let rows = list.into_iter().map(|one| {
            let memory = one.usage.and_then(|usage| usage.memory_bytes).map_or("-".to_owned(), output::size);
            [
                one.id.to_string(),
                one.template,
                one.state.to_string(),
                one.isolation.to_string(),
                memory,
                one.expires_at.to_string(),
            ]
        });
        let heading = ["ID", "TEMPLATE", "STATE", "ISOLATION", "MEMORY", "EXPIRES"];
        output::table(heading, rows, "No sandboxes; `neuralhub sandbox create python` starts one.")
    }

    async fn files(&self, client: &Client, id: &str, folder: &str) -> Result<(), Failure> {
        let path = match folder.is_empty() {
            true => format!("{}/files", path(id)),
            false => file_path(id, &format!("{folder}/")),
        };
        let files: SandboxFiles = client.get(&path).await?;
        if self.client.output.json {
            return output::json(&files);
        }
        let rows = files.entries.into_iter().map(|entry| match entry.is_folder {
            true => ["-".to_owned(), format!("{}/", entry.name)],
            false => [output::size(entry.size), entry.name],
        });
        output::table(["SIZE", "NAME"], rows, "No files.")
    }
}
