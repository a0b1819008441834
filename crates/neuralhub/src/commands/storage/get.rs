//! `neuralhub storage get`.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use nh_types::blob::BlobView;
use serde::Serialize;

use super::fetch::Fetcher;
use super::objects::{all, find, folder_prefix, nothing_named, short};
use super::tree::place;
use super::{AT_ONCE, resumable};
use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Progress, Unit};

const GO_ON: &str = "What came is kept in a file that ends with .part: the same command goes on from there.";

#[derive(Debug, Args)]
pub(super) struct Get {
    /// The object, or `FOLDER/` with all that is in it
    name: String,
    /// Where it goes; `-` is stdout [default: its own name, in this folder]
    #[arg(value_name = "FILE|FOLDER|-")]
    target: Option<PathBuf>,
    /// Replace files that are there and are others
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Done {
    fetched: u64,
    /// There already, with the same bytes.
    unchanged: u64,
    /// Of what was fetched.
    bytes: u64,
}

impl Done {
    fn of(object: &BlobView, is_fetched: bool) -> Self {
        let bytes = if is_fetched { object.size } else { 0 };
        Self { fetched: is_fetched.into(), unchanged: (!is_fetched).into(), bytes }
    }
}

impl Get {
    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        if self.name.ends_with('/') {
            return self.folder(client).await;
        }
        match find(&client, &self.name).await? {
            Some(object) => self.object(client, object).await,
            None => Err(self.unknown(&client).await),
        }
    }

    async fn unknown(&self, client: &Client) -> Failure {
        let name = &self.name;
        match all(client, &folder_prefix(name), true).await {
            Ok(list) if !list.blobs.is_empty() || !list.folders.is_empty() => {
                Failure::Usage(format!("`{name}` is a folder; `{name}/` gets all that is in it"))
            }
            Ok(_) => nothing_named(name),
            Err(failure) => failure,
        }
    }

    fn fetcher(&self, client: Client, total_bytes: u64) -> Fetcher {
        let progress = Progress::start(Unit::Bytes, Some(total_bytes));
        Fetcher { client, progress, overwrite: self.overwrite }
    }

    async fn object(&self, client: Client, object: BlobView) -> Result<(), Failure> {
        let fetcher = self.fetcher(client, object.size);
        fetcher.progress.say(output::short(&self.name, 40));
        let name = short(&object.pathname).rsplit('/').next().unwrap_or_default();
        let file = match &self.target {
            Some(target) if target == Path::new("-") => {
                if io::stdout().is_terminal() {
                    fetcher.progress.hide();
                }
                return fetcher.stream(&object, output::bytes).await;
            }
            Some(target) if is_folder(target) => place(target, name)?,
            Some(target) => target.clone(),
            None => place(Path::new(""), name)?,
        };
        let is_fetched = resumable(fetcher.to_file(&object, &file), true, &fetcher.progress, GO_ON).await?;
        drop(fetcher);
        if self.client.output.json {
            return output::json(&Done::of(&object, is_fetched));
        }
        let (file, size) = (file.display(), output::size(object.size));
        output::note(match is_fetched {
            true => format!("{file} is written ({size})"),
            false => format!("{file} is unchanged ({size})"),
        });
        Ok(())
    }

    async fn folder(&self, client: Client) -> Result<(), Failure> {
        let prefix = folder_prefix(&self.name);
        let own_name = prefix.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let target = match &self.target {
            Some(target) if target == Path::new("-") => {
                return Err(Failure::Usage("a folder cannot go to stdout; name a folder for it".to_owned()));
            }
            Some(target) => target.clone(),
            None if own_name.is_empty() => {
                return Err(Failure::Usage("name the folder to which all is to go".to_owned()));
            }
            None => place(Path::new(""), own_name)?,
        };
        let list = all(&client, &prefix, false).await?;
        if list.blobs.is_empty() {
            return Err(nothing_named(&self.name));
        }
        let (folders, objects) = placed(list.blobs, &prefix, &target)?;
        for folder in folders {
            let made = fs::create_dir_all(&folder);
            made.with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        }
        let (count, total_bytes) = (objects.len(), objects.iter().map(|(object, _)| object.size).sum());
        let fetcher = self.fetcher(client, total_bytes);
        let work = stream::iter(&objects)
            .map(async |(object, file): &(BlobView, PathBuf)| {
                Ok(Done::of(object, fetcher.to_file(object, file).await?))
            })
            .buffer_unordered(AT_ONCE)
            .try_fold(Done::default(), |mut done: Done, one: Done| {
                done.fetched += one.fetched;
                done.unchanged += one.unchanged;
                done.bytes += one.bytes;
                fetcher.progress.say(format!("{} of {count} files", done.fetched + done.unchanged));
                std::future::ready(Ok::<_, Failure>(done))
            });
        let done = resumable(work, true, &fetcher.progress, GO_ON).await?;
        drop(fetcher);
        if self.client.output.json {
            return output::json(&done);
        }
        output::line(format!("fetched       {} ({})", done.fetched, output::size(done.bytes)))?;
        output::line(format!("unchanged     {}", done.unchanged))
    }
}

/// Objects with their files, and folders that are there by themselves.
type Placed = (Vec<PathBuf>, Vec<(BlobView, PathBuf)>);

fn placed(list: Vec<BlobView>, prefix: &str, target: &Path) -> Result<Placed, Failure> {
    let (mut folders, mut objects) = (vec![target.to_owned()], Vec::new());
    for object in list {
        let given = &object.pathname;
        let Some(inner) = short(given).strip_prefix(prefix).or_else(|| given.strip_prefix(prefix)) else {
            continue;
        };
        match inner {
            "" => {}
            folder if folder.ends_with('/') => folders.push(place(target, folder)?),
            file => {
                let file = place(target, file)?;
                objects.push((object, file));
            }
        }
    }
    Ok((folders, objects))
}

fn is_folder(target: &Path) -> bool {
    target.is_dir() || target.as_os_str().as_encoded_bytes().ends_with(b"/")
}
