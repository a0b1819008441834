use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::{Files, sync_directories};
use crate::places::{Written, blocking};

/// Written at once: enough that asking a thread for it costs little.
const CHUNK_BYTES: usize = 512 * 1024;

/// A place that is being filled. While one chunk is written the next may come; no
/// thread waits for it. One that is dropped before [`Writing::finish`] is emptied.
pub(crate) struct Writing {
    directory: PathBuf,
    path: PathBuf,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    under_way: JoinHandle<io::Result<Begun>>,
    is_finished: bool,
    /// Seen by the thread that makes the file: it may come after the drop.
    is_given_up: Arc<AtomicBool>,
}

/// What was written so far.
struct Begun {
    file: File,
    digest: Sha256,
    size: u64,
}

impl Writing {
    pub(crate) fn begin(files: &Files, place: &str) -> Self {
        let (directory, path) = (files.directory_of(place), files.path_of(place));
        let is_given_up = Arc::new(AtomicBool::new(false));
        let (in_directory, new, too_late) = (directory.clone(), path.clone(), is_given_up.clone());
        let under_way = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&in_directory)?;
            let file = File::create_new(&new)?;
            if too_late.load(Ordering::SeqCst) {
                std::fs::remove_file(&new)?;
            }
            Ok(Begun { file, digest: Sha256::new(), size: 0 })
        });
        Self {
            directory,
            path,
            waiting: Vec::new(),
            waiting_bytes: 0,
            under_way,
            is_finished: false,
            is_given_up,
        }
    }

    /// Waits while the disk is behind.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> io::Result<()> {
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        if self.waiting_bytes >= CHUNK_BYTES { self.write_waiting().await } else { Ok(()) }
    }

    async fn write_waiting(&mut self) -> io::Result<()> {
        let mut begun = self.written().await?;
        let chunks = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        self.under_way = tokio::task::spawn_blocking(move || {
            for bytes in chunks {
                begun.file.write_all(&bytes)?;
                begun.digest.update(&bytes);
                begun.size += bytes.len() as u64;
            }
            Ok(begun)
        });
        Ok(())
    }

    /// What was asked for is written.
    async fn written(&mut self) -> io::Result<Begun> {
        (&mut self.under_way).await.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// It lasts when this answers.
    pub(crate) async fn finish(mut self) -> io::Result<Written> {
        self.write_waiting().await?;
        let Begun { file, digest, size } = self.written().await?;
        let directory = self.directory.clone();
        blocking(move || {
            file.sync_all()?;
            sync_directories(&directory)
        })
        .await?;
        self.is_finished = true;
        Ok(Written { size, sha256: digest.finalize().into() })
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.is_finished {
            self.is_given_up.store(true, Ordering::SeqCst);
            // What cannot be removed now is swept later.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
