//! `neuralhub sandbox cp`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use futures_util::StreamExt;

use super::{file_path, inside};
use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Progress, Unit};

#[derive(Debug, Args)]
pub(super) struct Cp {
    /// A file, here or `ID:PATH` in a sandbox
    from: String,
    /// Where it goes, the other way round
    to: String,
    #[command(flatten)]
    client: ClientArgs,
}

impl Cp {
    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        match (inside(&self.from), inside(&self.to)) {
            (None, Some((id, path))) => put(&client, Path::new(&self.from), id, path).await,
            (Some((id, path)), None) => get(&client, id, path, PathBuf::from(&self.to)).await,
            (None, None) | (Some(_), Some(_)) => Err(Failure::Usage(
                "one of both is in a sandbox: `sandbox cp FILE sbx-…:PATH` or `sandbox cp sbx-…:PATH FILE`"
                    .to_owned(),
            )),
        }
    }
}

/// To a folder it goes under its own name.
fn named(path: &str, name: Option<&str>) -> Result<String, Failure> {
    match (path.is_empty() || path.ends_with('/'), name) {
        (false, _) => Ok(path.to_owned()),
        (true, Some(name)) => Ok(format!("{path}{name}")),
        (true, None) => Err(Failure::Usage("name the file that is to be copied".to_owned())),
    }
}

async fn put(client: &Client, from: &Path, id: &str, path: &str) -> Result<(), Failure> {
    let path = named(path, from.file_name().and_then(|name| name.to_str()))?;
    let bytes = fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
    let size = output::size(bytes.len() as u64);
    client.put(&file_path(id, &path), bytes.into()).await?;
    output::note(format!("{id}:{path} is written ({size})"));
    Ok(())
}

async fn get(client: &Client, id: &str, path: &str, to: PathBuf) -> Result<(), Failure> {
    let name = path.rsplit('/').next().filter(|name| !name.is_empty() && *name != ".." && *name != ".");
    let name = name.ok_or_else(|| Failure::Usage("name the file that is to be copied".to_owned()))?;
    let file = if to.is_dir() { to.join(name) } else { to };
    let progress = Progress::start(Unit::Bytes, None);
    let mut response = client.download(&file_path(id, path), &[]).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = response.body.next().await {
        let piece = piece.map_err(anyhow::Error::new)?;
        progress.more(piece.len() as u64);
        bytes.extend_from_slice(&piece);
    }
    drop(progress);
    fs::write(&file, &bytes).with_context(|| format!("{} cannot be written", file.display()))?;
    output::note(format!("{} is written ({})", file.display(), output::size(bytes.len() as u64)));
    Ok(())
}
