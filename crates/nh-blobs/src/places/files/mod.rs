//! Files below one directory, each written once, in one piece, and synced with
//! its directory before it counts. `object_store`'s `LocalFileSystem` is not used:
//! a crash leaves its unfinished files beside the others, where nothing would
//! sweep them, and the bytes are hashed here while they are written.

mod reading;
mod writing;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocking;

pub(crate) use reading::read;
pub(crate) use writing::Writing;

/// The local files. A place is a name of lower-case letters and digits.
#[derive(Clone, Debug)]
pub(crate) struct Files(Arc<PathBuf>);

impl Files {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self(Arc::new(directory))
    }

    /// Files are spread over directories, of which none grows large.
    fn directory_of(&self, place: &str) -> PathBuf {
        self.0.join(place.get(..2).unwrap_or("00"))
    }

    fn path_of(&self, place: &str) -> PathBuf {
        self.directory_of(place).join(place)
    }

    pub(crate) async fn open(&self, place: &str) -> io::Result<File> {
        let path = self.path_of(place);
        blocking(move || File::open(path)).await
    }

    /// Empties a place; one that is empty already stays so.
    pub(super) async fn remove(&self, place: &str) -> io::Result<()> {
        let path = self.path_of(place);
        blocking(move || match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
    }
}

/// So that a file in this directory lasts, and the directory itself, and that of
/// all files: another upload may have made them, and not have come so far.
fn sync_directories(directory: &Path) -> io::Result<()> {
    directory.ancestors().take(3).try_for_each(|path| File::open(path)?.sync_all())
}
