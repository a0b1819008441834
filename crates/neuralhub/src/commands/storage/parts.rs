//! A file or a pipe, read in parts of which each is in memory whole.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncReadExt;

use super::objects::hexadecimal;

/// Of all parts but the last. Over a slow line, parts that go at once must each be
/// there before the client gives them up.
pub(super) const PART_BYTES: u64 = 8 << 20;
/// What the hub takes.
const MAX_PARTS: u64 = 10_000;

pub(super) struct Part {
    /// From 1 on.
    pub(super) number: u32,
    pub(super) bytes: Bytes,
    /// The SHA-256 of its bytes, quoted.
    pub(super) etag: String,
    /// Whether nothing comes after it.
    pub(super) is_last: bool,
}

pub(super) struct Parts {
    file: File,
    part_bytes: u64,
    next: u32,
    whole: Sha256,
    pub(super) read_bytes: u64,
}

impl Parts {
    /// `size` is the same each time a file is read, so its parts are too.
    pub(super) async fn open(path: &Path, size: Option<u64>) -> io::Result<Self> {
        let file = if path == Path::new("-") {
            File::from_std(io::stdin().as_fd().try_clone_to_owned()?.into())
        } else {
            File::open(path).await?
        };
        let needed_bytes = size.unwrap_or(0).div_ceil(MAX_PARTS).next_multiple_of(1 << 20);
        let part_bytes = PART_BYTES.max(needed_bytes);
        Ok(Self { file, part_bytes, next: 1, whole: Sha256::new(), read_bytes: 0 })
    }

    /// A part that is not full is the last. What ends with a full one has an empty
    /// one after it.
    pub(super) async fn next(&mut self) -> io::Result<Part> {
        let mut bytes = BytesMut::with_capacity(usize::try_from(self.part_bytes).unwrap_or(usize::MAX));
        let mut digest = Sha256::new();
        let mut left = self.part_bytes;
        while left > 0 {
            let start = bytes.len();
            if (&mut self.file).take(left).read_buf(&mut bytes).await? == 0 {
                break;
            }
            let read = &bytes[start..];
            digest.update(read);
            self.whole.update(read);
            left -= read.len() as u64;
        }
        self.read_bytes += bytes.len() as u64;
        let number = self.next;
        self.next += 1;
        let etag = format!("\"{}\"", hexadecimal(digest));
        Ok(Part { number, bytes: bytes.freeze(), etag, is_last: left > 0 })
    }

    /// The hash of all that was read.
    pub(super) fn sha256(&self) -> String {
        hexadecimal(self.whole.clone())
    }
}

/// Feeds what a file has to a digest; how many bytes that were.
pub(super) async fn digest_file(file: &mut File, digest: &mut Sha256) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut all = 0;
    loop {
        let read = file.read(&mut buffer).await?;
        if read == 0 {
            return Ok(all);
        }
        digest.update(&buffer[..read]);
        all += read as u64;
    }
}

/// Whether a file has these bytes. It is read only if it may.
pub(super) async fn has_bytes(path: &Path, size: u64, sha256: &str) -> io::Result<bool> {
    let mut file = File::open(path).await?;
    if file.metadata().await?.len() != size {
        return Ok(false);
    }
    let mut digest = Sha256::new();
    digest_file(&mut file, &mut digest).await?;
    Ok(hexadecimal(digest) == sha256)
}
