//! Files of a folder, with the names that they have as objects, and back.

use std::fs;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, anyhow};
use nh_types::blob::Pathname;

use crate::exit::Failure;
use crate::output;

/// A file that is to be put.
pub(super) struct LocalFile {
    pub(super) path: PathBuf,
    pub(super) name: String,
    /// None of a pipe.
    pub(super) size: Option<u64>,
}

/// All files in a folder and below it, by name. What is neither file nor folder is
/// left out, and so is a link to a folder, which may lead in a circle.
pub(super) fn files(folder: &Path, prefix: &str) -> Result<Vec<LocalFile>, Failure> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), prefix.to_owned())];
    while let Some((folder, prefix)) = folders.pop() {
        let unreadable = || format!("the folder {} cannot be read", folder.display());
        for entry in fs::read_dir(&folder).with_context(unreadable)? {
            let entry = entry.with_context(unreadable)?;
            let path = entry.path();
            let name = format!("{prefix}{}", text(&path)?);
            let kind = entry.file_type().with_context(unreadable)?;
            let metadata = fs::metadata(&path).ok();
            match metadata {
                _ if kind.is_dir() => folders.push((path, format!("{name}/"))),
                Some(metadata) if metadata.is_file() => {
                    checked(&name, &path)?;
                    found.push(LocalFile { path, name, size: Some(metadata.len()) });
                }
                _ => {
                    let shown = path.display();
                    output::note(format!("{shown} is left out: it is no file, or a link to a folder"));
                }
            }
        }
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

/// The last part of a path, also of `.` and `..`.
pub(super) fn own_name(path: &Path) -> Result<String, Failure> {
    let path = match path.file_name() {
        Some(_) => path.to_owned(),
        None => fs::canonicalize(path).with_context(|| format!("{} cannot be read", path.display()))?,
    };
    text(&path)
}

fn text(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().and_then(|name| name.to_str());
    let help = || format!("the name of {} is not UTF-8, as that of an object must be", path.display());
    name.map(str::to_owned).ok_or_else(|| Failure::Usage(help()))
}

/// Refuses here, before anything is sent, what the hub would.
pub(super) fn checked(name: &str, path: &Path) -> Result<(), Failure> {
    match name.parse::<Pathname>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::Usage(format!("{} cannot be put: {error}", path.display()))),
    }
}

/// Where an object goes in a folder. No name leads out of it, whatever a hub says.
pub(super) fn place(folder: &Path, name: &str) -> Result<PathBuf, Failure> {
    let inner = Path::new(name);
    let is_inside = inner.components().all(|one| matches!(one, Component::Normal(_)));
    if is_inside && name.parse::<Pathname>().is_ok() {
        return Ok(folder.join(inner));
    }
    let shown = output::printable(name);
    Err(anyhow!("the hub has an object `{shown}`, which would be written outside of the folder").into())
}
