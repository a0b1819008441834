//! `DATA/lock`: one hub on a data directory at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, anyhow};

/// A longer note is not ours.
const MAX_HOLDER_BYTES: u64 = 1024;

/// Held until it is dropped, or the process ends in any way: the system lets
/// go of it then.
pub(crate) struct DataLock {
    _file: File,
}

impl DataLock {
    /// Takes the lock, and notes who holds it: `holder` is a line for people.
    pub(crate) fn take(data_dir: &Path, holder: &str) -> Result<Self, anyhow::Error> {
        let path = data_dir.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.with_context(|| format!("{} cannot be opened", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut other = String::new();
                // Who holds it is a courtesy; the refusal stands without it.
                let _ = (&file).take(MAX_HOLDER_BYTES).read_to_string(&mut other);
                let data_dir = data_dir.display();
                return Err(anyhow!(
                    "another hub serves {data_dir}: {}\nStop it first, or name another directory with --data-dir.",
                    if other.trim().is_empty() { "it says nothing of itself" } else { other.trim() }
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Err(anyhow!(error).context(format!("{} cannot be locked", path.display())));
            }
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{holder}")?;
        file.flush()?;
        Ok(Self { _file: file })
    }
}

/// Whether some hub serves this data directory now.
pub(crate) fn is_held(data_dir: &Path) -> bool {
    let file = OpenOptions::new().read(true).write(true).open(data_dir.join("lock"));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}
