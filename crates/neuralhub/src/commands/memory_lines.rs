//! `neuralhub memory import` and `export`: many memories, one a line, of which
//! only a few are here at a time.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use http::Method;
use nh_types::memory::{ImportFault, ImportedMemories};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::memory::Which;
use crate::cli::ClientArgs;
use crate::client::{Body, Client};
use crate::exit::Failure;
use crate::output::{self, Progress, Unit};

/// In one request. A mebibyte of long contents may take the local model a minute or two.
const MAX_LINES_AT_ONCE: u64 = 200;
const MAX_BYTES_AT_ONCE: usize = 1024 * 1024;

/// The hub takes no longer one, so none is kept here.
const MAX_LINE_BYTES: usize = 512 * 1024;

/// Of one request, while the hub says that it could do it later.
const MAX_TRIES: u32 = 8;
/// The longest pause between two tries by itself, and one that the hub may ask for.
const MAX_PAUSE_SECONDS: u64 = 15;
const MAX_ASKED_PAUSE_SECONDS: u64 = 120;

/// Faults that are kept, and those that a person is shown.
const MAX_FAULTS: usize = 100;
const MAX_FAULTS_SHOWN: usize = 20;

#[derive(Debug, Args)]
pub struct Import {
    /// A JSON object on each line: what `export` wrote, or content, metadata, namespace and
    /// expires_at; `-` is stdin
    file: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The file, which stays as it was until all is written; `-` is stdout [default: -]
    file: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    client: ClientArgs,
}

fn is_pipe(file: &Path) -> bool {
    file == Path::new("-")
}

impl Import {
    pub async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let (mut lines, total_bytes) = Lines::open(&self.file).await?;
        let progress = Progress::start(Unit::Bytes, total_bytes);
        let mut importing = Importing { client, progress, last_line: 0, done: ImportedMemories::default() };
        let ended = tokio::select! {
            ended = importing.all(&mut lines) => ended,
            () = stopped(&self.file) => Err(anyhow!("stopped by Ctrl-C").into()),
        };
        let Importing { progress, last_line, done, .. } = importing;
        drop(progress);
        if let Err(failure) = ended {
            if last_line > 0 {
                output::note(format!(
                    "\nThe import broke off. What stands on the lines up to {last_line} is stored; the same command \
                     goes on from there, and finds it again instead of adding it twice."
                ));
            }
            return Err(failure);
        }
        if self.client.output.json {
            output::json(&done)?
        } else {
            tell(&done)?
        }
        match done.failed {
            0 => Ok(()),
            failed => Err(anyhow!(
                "{failed} of {last_line} lines were not imported; mend them, and import the file again: what is \
                 there is not added twice"
            )
            .into()),
        }
    }
}

/// A read of a pipe cannot be broken off, so then Ctrl-C has its usual effect.
async fn stopped(file: &Path) {
    if is_pipe(file) || tokio::signal::ctrl_c().await.is_err() {
        std::future::pending().await
    }
}

fn tell(done: &ImportedMemories) -> Result<(), Failure> {
    let ImportedMemories { created, existing, failed, errors } = done;
    output::line(format!("created       {created}"))?;
    output::line(format!("existing      {existing}"))?;
    output::line(format!("failed        {failed}"))?;
    for fault in errors.iter().take(MAX_FAULTS_SHOWN) {
        output::note(format!("line {}: {}", fault.line, output::printable(&fault.message)));
    }
    match failed.saturating_sub(MAX_FAULTS_SHOWN as u64) {
        0 => {}
        more => output::note(format!("and {more} lines more")),
    }
    Ok(())
}

/// An import under way.
struct Importing {
    client: Client,
    progress: Progress,
    /// What stands up to here is stored.
    last_line: u64,
    done: ImportedMemories,
}

impl Importing {
    async fn all(&mut self, lines: &mut Lines) -> Result<(), Failure> {
        while let Some(batch) = lines.next().await? {
            let answer = self.send(Bytes::from(batch.bytes)).await?;
            self.done.created += answer.created;
            self.done.existing += answer.existing;
            self.done.failed += answer.failed + batch.too_long.len() as u64;
            let faults = answer.errors.into_iter().map(|fault| {
                let line = self.last_line + fault.line;
                ImportFault { line, ..fault }
            });
            let mut faults: Vec<ImportFault> = faults.chain(batch.too_long).collect();
            faults.sort_by_key(|fault| fault.line);
            let room = MAX_FAULTS.saturating_sub(self.done.errors.len());
            self.done.errors.extend(faults.into_iter().take(room));
            self.last_line += batch.lines;
            self.progress.more(batch.read_bytes);
            self.progress.say(format!("{} memories", self.done.created + self.done.existing));
        }
        Ok(())
    }

    /// What was stored before a request failed is found there by the next try.
    async fn send(&self, bytes: Bytes) -> Result<ImportedMemories, Failure> {
        let mut tries = 1;
        loop {
            let body = Body { content_type: "application/x-ndjson".into(), bytes: bytes.clone() };
            let failure = match self.client.upload(Method::POST, "/v1/memory/import", body).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            let Some(seconds) = pause_seconds(&failure, tries) else { return Err(failure) };
            self.progress.note(format!("{failure}; trying again in {seconds} s"));
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            tries += 1;
        }
    }
}

/// How long to wait before the next try; None if there is to be none.
fn pause_seconds(failure: &Failure, tries: u32) -> Option<u64> {
    let Failure::Refused { status: 429 | 503, retry_after_seconds, .. } = failure else { return None };
    let asked = retry_after_seconds.unwrap_or(0);
    let own = MAX_PAUSE_SECONDS.min(1 << tries.min(6) >> 1);
    (tries < MAX_TRIES && asked <= MAX_ASKED_PAUSE_SECONDS).then_some(own.max(asked))
}

/// The lines of a file, as many at a time as go into a request.
struct Lines {
    reader: BufReader<tokio::fs::File>,
    line: u64,
}

struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    /// An empty line stands for each of them.
    too_long: Vec<ImportFault>,
    read_bytes: u64,
}

impl Lines {
    /// With the number of bytes, if that is known.
    async fn open(file: &Path) -> Result<(Self, Option<u64>), Failure> {
        let opened = if is_pipe(file) {
            let stdin = io::stdin().as_fd().try_clone_to_owned().context("stdin cannot be read")?;
            tokio::fs::File::from_std(stdin.into())
        } else {
            let opened = tokio::fs::File::open(file).await;
            opened.map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))?
        };
        let metadata = opened.metadata().await.ok().filter(|metadata| metadata.is_file());
        Ok((Self { reader: BufReader::new(opened), line: 0 }, metadata.map(|metadata| metadata.len())))
    }

    async fn next(&mut self) -> Result<Option<Batch>, Failure> {
        let mut batch = Batch { bytes: Vec::new(), lines: 0, too_long: Vec::new(), read_bytes: 0 };
        while batch.lines < MAX_LINES_AT_ONCE && batch.bytes.len() <= MAX_BYTES_AT_ONCE - MAX_LINE_BYTES {
            if !self.line(&mut batch).await.context("the lines cannot be read on")? {
                break;
            }
        }
        Ok((batch.lines > 0).then_some(batch))
    }

    /// Adds the next line, whole and with its end; false when there is none.
    async fn line(&mut self, batch: &mut Batch) -> io::Result<bool> {
        let start = batch.bytes.len();
        let mut line_bytes = 0;
        loop {
            let piece = self.reader.fill_buf().await?;
            let end = piece.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(piece.len(), |end| end + 1);
            line_bytes += used;
            if line_bytes <= MAX_LINE_BYTES {
                batch.bytes.extend_from_slice(&piece[..used]);
            }
            self.reader.consume(used);
            if end.is_some() || used == 0 {
                break;
            }
        }
        if line_bytes == 0 {
            return Ok(false);
        }
        self.line += 1;
        batch.lines += 1;
        batch.read_bytes += line_bytes as u64;
        if line_bytes > MAX_LINE_BYTES {
            batch.bytes.truncate(start);
            let message = format!("the line has {line_bytes} bytes; at most {MAX_LINE_BYTES} fit");
            batch.too_long.push(ImportFault { line: self.line, message });
        }
        if batch.bytes.last() != Some(&b'\n') || batch.bytes.len() == start {
            batch.bytes.push(b'\n');
        }
        Ok(true)
    }
}

/// What `export` wrote.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Exported {
    memories: u64,
    bytes: u64,
}

impl Export {
    pub async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let body = client.download(&self.which.path("/v1/memory/export", None)?, &[]).await?.body;
        let progress = Progress::start(Unit::Bytes, None);
        let Some(file) = self.file.filter(|file| !is_pipe(file)) else {
            if io::stdout().is_terminal() {
                progress.hide();
            }
            copy(body, &progress, output::bytes).await?;
            return Ok(());
        };
        let exported = to_file(body, &progress, &file).await?;
        drop(progress);
        if self.client.output.json {
            return output::json(&exported);
        }
        output::note(format!("{} memories are in {}", exported.memories, file.display()));
        Ok(())
    }
}

/// A file is there whole, or as it was. What is no file, such as a pipe or a
/// device, is written to as it is.
async fn to_file(body: nh_http::Body, progress: &Progress, file: &Path) -> Result<Exported, Failure> {
    // Where a link leads, so that it stays a link.
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    if std::fs::metadata(&file).is_ok_and(|metadata| !metadata.is_file()) {
        return write_to(&file, body, progress).await;
    }
    let mut part = file.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    match write_to(&part, body, progress).await {
        Ok(exported) => {
            let renamed = std::fs::rename(&part, &file);
            renamed.with_context(|| format!("{} cannot be written", file.display()))?;
            Ok(exported)
        }
        Err(failure) => {
            let _ = std::fs::remove_file(&part);
            Err(failure)
        }
    }
}

async fn write_to(file: &Path, body: nh_http::Body, progress: &Progress) -> Result<Exported, Failure> {
    let failed = |error: io::Error| anyhow!("{} cannot be written: {error}", file.display());
    let mut opened = std::fs::File::create(file).map_err(failed)?;
    let write = |bytes: &[u8]| opened.write_all(bytes).map_err(|error| failed(error).into());
    let exported = copy(body, progress, write).await?;
    if opened.metadata().is_ok_and(|metadata| metadata.is_file()) {
        opened.sync_all().map_err(failed)?;
    }
    Ok(exported)
}

async fn copy(
    mut body: nh_http::Body,
    progress: &Progress,
    mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Exported, Failure> {
    let mut exported = Exported::default();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| {
            let memories = exported.memories;
            anyhow::Error::new(error)
                .context(format!("the export broke off after {memories} memories; try again"))
        })?;
        write(&piece)?;
        exported.memories += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
        exported.bytes += piece.len() as u64;
        progress.more(piece.len() as u64);
        progress.say(format!("{} memories", exported.memories));
    }
    Ok(exported)
}
