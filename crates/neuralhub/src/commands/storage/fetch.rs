//! One object's bytes, from where they broke off, proved by their hash.

use std::fs::{self, File, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use futures_util::StreamExt;
use http::{StatusCode, header};
use nh_types::blob::BlobView;
use sha2::{Digest, Sha256};

use super::objects::{hexadecimal, path, short};
use super::parts::{digest_file, has_bytes};
use super::patience::pause;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Progress};

/// Digits of the hash in the name of an unfinished file.
const HASH_CHARS: usize = 16;
/// The most that file systems take is 255, and what follows needs some.
const MAX_NAME_BYTES: usize = 200;

pub(super) struct Fetcher {
    pub(super) client: Client,
    pub(super) progress: Progress,
    pub(super) overwrite: bool,
}

impl Fetcher {
    /// Whether anything had to be fetched. The file is there whole, or as it was.
    pub(super) async fn to_file(&self, object: &BlobView, file: &Path) -> Result<bool, Failure> {
        // Where a link leads, so that it stays a link.
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let cannot = || format!("{} cannot be written", file.display());
        match fs::metadata(&file) {
            Ok(there) if there.is_file() => {
                if has_bytes(&file, object.size, &object.sha256).await.with_context(cannot)? {
                    self.progress.more(object.size);
                    return Ok(false);
                }
                if !self.overwrite {
                    let help =
                        format!("{} is there already, and another; --overwrite replaces it", file.display());
                    return Err(Failure::Usage(help));
                }
            }
            Ok(there) if there.is_dir() => {
                return Err(Failure::Usage(format!("{} is a folder", file.display())));
            }
            Ok(_) => {
                let mut pipe = File::options().write(true).open(&file).with_context(cannot)?;
                let write = |bytes: &[u8]| Ok(pipe.write_all(bytes).with_context(cannot)?);
                self.stream(object, write).await?;
                return Ok(true);
            }
            Err(_) => {
                if let Some(folder) = file.parent() {
                    fs::create_dir_all(folder).with_context(cannot)?;
                }
            }
        }
        let part = unfinished(&file, object);
        self.to_part(object, &part).await?;
        fs::rename(&part, &file).and_then(|()| sync_folder(&file)).with_context(cannot)?;
        Ok(true)
    }

    /// What cannot be taken back, such as stdout.
    pub(super) async fn stream(
        &self,
        object: &BlobView,
        write: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        match self.bytes(object, 0, Sha256::new(), write).await? {
            true => Ok(()),
            false => Err(broken(object)),
        }
    }

    /// Fills a file up, from what is in it on.
    async fn to_part(&self, object: &BlobView, part: &Path) -> Result<(), Failure> {
        let cannot = || format!("{} cannot be written", part.display());
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(part);
        let mut file = opened.with_context(cannot)?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let name = part.display();
                return Err(anyhow!("another command writes to {name} now; wait until it has ended").into());
            }
            // Not all file systems have locks.
            Ok(()) | Err(TryLockError::Error(_)) => {}
        }
        let mut digest = Sha256::new();
        let reader = file.try_clone().with_context(cannot)?;
        let mut there =
            digest_file(&mut tokio::fs::File::from_std(reader), &mut digest).await.with_context(cannot)?;
        if there > object.size {
            (there, digest) = restart(&mut file).with_context(cannot)?;
        }
        if there > 0 {
            self.progress.more(there);
            let (kept, name) = (output::size(there), output::printable(short(&object.pathname)));
            self.progress.note(format!("{kept} of {name} came before, and were kept"));
        }
        loop {
            let write = |bytes: &[u8]| Ok(file.write_all(bytes).with_context(cannot)?);
            if self.bytes(object, there, digest, write).await? {
                return Ok(file.sync_all().with_context(cannot)?);
            }
            if there == 0 {
                let _ = fs::remove_file(part);
                return Err(broken(object));
            }
            // What came before was wrong.
            (there, digest) = restart(&mut file).with_context(cannot)?;
        }
    }

    /// Writes the bytes from `at` on, across broken connections; whether all of them
    /// have the object's hash.
    async fn bytes(
        &self,
        object: &BlobView,
        mut at: u64,
        mut digest: Sha256,
        mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        let mut tries = 1;
        while at < object.size {
            let began = at;
            let got = self.piece(object, &mut at, |bytes| {
                digest.update(bytes);
                write(bytes)
            });
            if let Err(failure) = Box::pin(got).await {
                tries = if at > began { 1 } else { tries };
                pause(failure, tries, &self.progress).await?;
                tries += 1;
            }
        }
        Ok(hexadecimal(digest) == object.sha256)
    }

    /// Of one answer, as far as it comes.
    async fn piece(
        &self,
        object: &BlobView,
        at: &mut u64,
        mut write: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let range = format!("bytes={at}-");
        let headers = [(header::RANGE, range.as_str()), (header::IF_RANGE, object.etag.as_str())];
        let headers = if *at > 0 { &headers[..] } else { &[] };
        let mut response = self.client.download(&path(object), headers).await?;
        if response.header(header::ETAG) != Some(&object.etag) {
            let name = output::printable(short(&object.pathname));
            return Err(anyhow!(
                "`{name}` was replaced while it was fetched; the same command gets the new one"
            )
            .into());
        }
        // Something in between may not know ranges.
        let mut known = if response.status == StatusCode::PARTIAL_CONTENT { 0 } else { *at };
        while let Some(bytes) = response.body.next().await {
            let mut bytes = bytes.map_err(anyhow::Error::new)?;
            let skipped = known.min(bytes.len() as u64);
            known -= skipped;
            let bytes = bytes.split_off(usize::try_from(skipped).unwrap_or(usize::MAX));
            if *at + bytes.len() as u64 > object.size {
                return Err(broken(object));
            }
            write(&bytes)?;
            *at += bytes.len() as u64;
            self.progress.more(bytes.len() as u64);
        }
        Ok(())
    }
}

fn broken(object: &BlobView) -> Failure {
    let name = output::printable(short(&object.pathname));
    anyhow!("what came is not `{name}`: its bytes have another SHA-256; run the same command again").into()
}

fn restart(file: &mut File) -> io::Result<(u64, Sha256)> {
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    Ok((0, Sha256::new()))
}

/// The unfinished file beside `file`; its name tells of which bytes it is.
fn unfinished(file: &Path, object: &BlobView) -> PathBuf {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
    let hash = &object.sha256[..object.sha256.len().min(HASH_CHARS)];
    file.with_file_name(format!("{name}.{hash}.part"))
}

/// So that the new name outlives a crash.
fn sync_folder(file: &Path) -> io::Result<()> {
    match file.parent() {
        Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
