//! `neuralhub storage put`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use nh_types::Timestamp;
use nh_types::blob::{Access, BlobView};
use serde::Serialize;

use super::objects::{all, find, folder_prefix, short};
use super::send::{Sender, Wanted, cannot_read, exists};
use super::tree::{self, LocalFile};
use super::{AT_ONCE, resumable};
use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Progress, Unit};

const GO_ON: &str =
    "What came is kept for 24 hours: the same command goes on from there, and sends only the rest.";

#[derive(Debug, Args)]
pub(super) struct Put {
    /// The file, or a folder with all that is in it; `-` is stdin
    #[arg(value_name = "FILE|FOLDER|-")]
    path: PathBuf,
    /// What it is called there; `FOLDER/` is a folder for a file [default: its own name]
    name: Option<String>,
    /// Replace what is there and is another
    #[arg(long)]
    overwrite: bool,
    /// Who may read it without a key: `private`: nobody, `public`: everybody who knows the URL
    #[arg(long, value_name = "WHO", default_value = "private")]
    access: Access,
    /// What it is, such as text/csv [default: by its name or its bytes]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// When it is removed, such as 2030-01-31T12:00:00Z [default: never]
    #[arg(long, value_name = "TIME", value_parser = Timestamp::parse)]
    expires_at: Option<Timestamp>,
    #[command(flatten)]
    client: ClientArgs,
}

/// What became of a folder.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Done {
    put: u64,
    /// There already, with the same bytes.
    unchanged: u64,
    /// Of what was put.
    bytes: u64,
}

impl Put {
    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        if self.path == Path::new("-") {
            let Some(name) = self.name.clone().filter(|name| !name.ends_with('/')) else {
                let help = "what comes from stdin needs a name: neuralhub storage put - NAME";
                return Err(Failure::Usage(help.to_owned()));
            };
            let file = LocalFile { path: self.path.clone(), name, size: None };
            return self.file(client, file).await;
        }
        let metadata = std::fs::metadata(&self.path).map_err(|error| cannot_read(&self.path, &error))?;
        if metadata.is_dir() {
            return self.folder(client).await;
        }
        let name = match &self.name {
            Some(name) if !name.ends_with('/') => name.clone(),
            Some(folder) => format!("{}{}", folder_prefix(folder), tree::own_name(&self.path)?),
            None => tree::own_name(&self.path)?,
        };
        let size = metadata.is_file().then_some(metadata.len());
        self.file(client, LocalFile { path: self.path.clone(), name, size }).await
    }

    fn sender(&self, client: Client, total_bytes: Option<u64>) -> Sender {
        let wanted = Wanted {
            overwrite: self.overwrite,
            access: self.access,
            content_type: self.content_type.clone(),
            expires_at: self.expires_at,
        };
        Sender::new(client, wanted, Progress::start(Unit::Bytes, total_bytes))
    }

    async fn file(&self, client: Client, file: LocalFile) -> Result<(), Failure> {
        tree::checked(&file.name, &file.path)?;
        let is_file = file.size.is_some();
        // A hub that is not there is told at once, and what would be refused is not sent.
        let there = find(&client, &file.name).await?;
        if there.is_some() && !self.overwrite {
            return Err(exists(&file.name));
        }
        let sender = self.sender(client, file.size);
        sender.progress.say(output::short(&file.name, 40));
        let put = async {
            match there {
                Some(there) if is_file && sender.is_there(&file, &there).await? => Ok((there, true)),
                _ => Ok((sender.put(&file).await?, false)),
            }
        };
        let (object, is_unchanged) = resumable(put, is_file, &sender.progress, GO_ON).await?;
        drop(sender);
        if self.client.output.json {
            return output::json(&object);
        }
        let (name, size) = (output::printable(&file.name), output::size(object.size));
        output::note(match is_unchanged {
            true => format!("{name} is unchanged ({size})"),
            false => format!("{name} is stored ({size})"),
        });
        output::line(&object.url)
    }

    /// What is there with the same bytes is left, so that a folder that broke off
    /// goes on, and one that changed a little takes little.
    async fn folder(&self, client: Client) -> Result<(), Failure> {
        let prefix = match &self.name {
            Some(name) => folder_prefix(name),
            None => folder_prefix(&tree::own_name(&self.path)?),
        };
        let files = tree::files(&self.path, &prefix)?;
        let there = all(&client, &prefix, false).await?.blobs;
        let there: HashMap<String, BlobView> =
            there.into_iter().map(|object| (short(&object.pathname).to_owned(), object)).collect();
        let (count, total_bytes) = (files.len(), files.iter().filter_map(|file| file.size).sum());
        let sender = self.sender(client, Some(total_bytes));
        let work = stream::iter(&files)
            .map(async |file: &LocalFile| match there.get(&file.name) {
                Some(there) if sender.is_there(file, there).await? => Ok(None),
                _ => sender.put(file).await.map(|object| Some(object.size)),
            })
            .buffer_unordered(AT_ONCE)
            .try_fold(Done::default(), |mut done: Done, put_bytes: Option<u64>| {
                done.put += u64::from(put_bytes.is_some());
                done.unchanged += u64::from(put_bytes.is_none());
                done.bytes += put_bytes.unwrap_or(0);
                sender.progress.say(format!("{} of {count} files", done.put + done.unchanged));
                std::future::ready(Ok::<_, Failure>(done))
            });
        let done = resumable(work, true, &sender.progress, GO_ON).await?;
        drop(sender);
        if self.client.output.json {
            return output::json(&done);
        }
        output::line(format!("put           {} ({})", done.put, output::size(done.bytes)))?;
        output::line(format!("unchanged     {}", done.unchanged))
    }
}
