//! `neuralhub storage ls`.

use clap::Args;
use nh_types::blob::BlobView;

use super::objects::{all, short};
use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
pub(super) struct Ls {
    /// Only names that begin so; `FOLDER/` shows what is in a folder
    prefix: Option<String>,
    /// All objects, also those in folders
    #[arg(long)]
    recursive: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl Ls {
    /// What is not in folders.
    pub(super) fn all(client: ClientArgs) -> Self {
        Self { prefix: None, recursive: false, client }
    }

    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let prefix = self.prefix.filter(|prefix| prefix != "/").unwrap_or_default();
        let list = all(&client, &prefix, !self.recursive).await?;
        if self.client.output.json {
            return output::json(&list);
        }
        let dash = || "-".to_owned();
        let folders = list.folders.iter().map(|folder| {
            let name = short(folder).to_owned();
            (name.clone(), [dash(), dash(), "folder".to_owned(), name])
        });
        let objects = list.blobs.into_iter().map(|object| {
            let BlobView { pathname, content_type, size, uploaded_at, .. } = object;
            let name = short(&pathname).to_owned();
            (name.clone(), [output::size(size), uploaded_at.to_string(), content_type, name])
        });
        let mut rows: Vec<_> = folders.chain(objects).collect();
        rows.sort_by(|one, other| one.0.cmp(&other.0));
        output::table(["SIZE", "UPLOADED", "TYPE", "NAME"], rows.into_iter().map(|row| row.1), "No objects.")
    }
}
