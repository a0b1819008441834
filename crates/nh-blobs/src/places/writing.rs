use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Places, make_directory, sync_directory};

/// Pieces of a body that wait for the disk.
const MAX_WAITING: usize = 8;

/// A place that is being filled, on a thread of its own. One that is dropped
/// before [`Writing::finish`] is emptied.
pub(crate) struct Writing {
    pieces: mpsc::Sender<Piece>,
    thread: JoinHandle<io::Result<Option<Written>>>,
}

enum Piece {
    More(Bytes),
    /// There is no more.
    End,
}

/// What was written, and lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) size: u64,
    pub(crate) sha256: [u8; 32],
}

impl Writing {
    pub(crate) fn begin(places: &Places, place: &str) -> Self {
        let (pieces, waiting) = mpsc::channel(MAX_WAITING);
        let (directory, path) = (places.directory_of(place), places.path_of(place));
        let thread = tokio::task::spawn_blocking(move || write(directory, path, waiting));
        Self { pieces, thread }
    }

    /// Waits while the disk is behind. An error is told by [`Writing::finish`].
    pub(crate) async fn write(&self, bytes: Bytes) {
        // The thread ended: it has the error.
        let _ = self.pieces.send(Piece::More(bytes)).await;
    }

    pub(crate) async fn finish(self) -> io::Result<Written> {
        let _ = self.pieces.send(Piece::End).await;
        let written = self.thread.await.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        written.ok_or_else(|| io::Error::other("the writing ended too soon"))
    }
}

fn write(
    directory: PathBuf,
    path: PathBuf,
    mut pieces: mpsc::Receiver<Piece>,
) -> io::Result<Option<Written>> {
    make_directory(&directory)?;
    let file = File::create_new(&path)?;
    let written = fill(file, &mut pieces).and_then(|written| {
        if written.is_some() {
            sync_directory(&directory)?;
        }
        Ok(written)
    });
    if !matches!(written, Ok(Some(_))) {
        // What cannot be removed now is swept later.
        let _ = std::fs::remove_file(&path);
    }
    written
}

/// None when nobody said that it was all.
fn fill(mut file: File, pieces: &mut mpsc::Receiver<Piece>) -> io::Result<Option<Written>> {
    let (mut digest, mut size) = (Sha256::new(), 0_u64);
    loop {
        match pieces.blocking_recv() {
            Some(Piece::More(bytes)) => {
                file.write_all(&bytes)?;
                digest.update(&bytes);
                size += bytes.len() as u64;
            }
            Some(Piece::End) => break,
            None => return Ok(None),
        }
    }
    file.sync_all()?;
    Ok(Some(Written { size, sha256: digest.finalize().into() }))
}
