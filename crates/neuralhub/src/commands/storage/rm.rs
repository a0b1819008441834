//! `neuralhub storage rm`.

use anyhow::{Context, anyhow};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use nh_types::ErrorCode;
use nh_types::blob::BlobView;
use serde_json::json;

use super::AT_ONCE;
use super::objects::{all, find, folder_prefix, is_refused, nothing_named, path, short};
use super::patience::patiently;
use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Progress, Unit};

#[derive(Debug, Args)]
pub(super) struct Rm {
    /// Objects; with --recursive folders
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// Remove folders with all that is in them
    #[arg(long)]
    recursive: bool,
    /// Do not ask on a terminal
    #[arg(long, requires = "recursive")]
    yes: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl Rm {
    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        // All are looked up before any is removed.
        let mut objects = Vec::new();
        for name in &self.names {
            objects.extend(self.named(&client, name).await?);
        }
        objects.sort_by(|one, other| one.pathname.cmp(&other.pathname));
        objects.dedup_by(|one, other| one.pathname == other.pathname);
        let bytes = objects.iter().map(|object| object.size).sum();
        if self.recursive && !self.yes {
            let (count, size) = (objects.len(), output::size(bytes));
            let shown = output::short(&self.names.join(", "), 100);
            let question = format!("Remove {count} objects ({size}) in {shown}?");
            if !output::is_confirmed(&question).context("the answer cannot be read")? {
                return Err(anyhow!("nothing was removed").into());
            }
        }
        let progress = Progress::start(Unit::Bytes, Some(bytes));
        let removed = stream::iter(&objects)
            .map(|object| remove(&client, &progress, object))
            .buffer_unordered(AT_ONCE)
            .try_fold(0, |count: u64, _| {
                progress.say(format!("{} of {} objects", count + 1, objects.len()));
                std::future::ready(Ok(count + 1))
            });
        let removed = removed.await?;
        drop(progress);
        if self.client.output.json {
            return output::json(&json!({"removed": removed}));
        }
        output::note(match &objects[..] {
            [one] => format!("{} is removed", output::printable(short(&one.pathname))),
            _ => format!("{removed} objects are removed"),
        });
        Ok(())
    }

    async fn named(&self, client: &Client, name: &str) -> Result<Vec<BlobView>, Failure> {
        if self.recursive {
            let found = all(client, &folder_prefix(name), false).await?.blobs;
            return if found.is_empty() { Err(nothing_named(name)) } else { Ok(found) };
        }
        if name.ends_with('/') {
            let help = format!("`{name}` is a folder; --recursive removes it with all that is in it");
            return Err(Failure::Usage(help));
        }
        Ok(vec![find(client, name).await?.ok_or_else(|| nothing_named(name))?])
    }
}

/// What somebody else removed meanwhile is gone as well.
async fn remove(client: &Client, progress: &Progress, object: &BlobView) -> Result<(), Failure> {
    let path = path(object);
    let removed = patiently(progress, || client.delete(&path)).await;
    progress.more(object.size);
    match removed {
        Err(failure) if !is_refused(&failure, ErrorCode::NotFound) => Err(failure),
        _ => Ok(()),
    }
}
