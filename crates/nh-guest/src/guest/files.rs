//! Files of the sandbox by path. A path begins at the folder where commands begin, and
//! no symbolic link on it is followed: what runs inside cannot make the guest, which may
//! read everything here, reach for anything else.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, RawMode, Uid, fchown, fstat, mkdirat, openat, renameat,
    statat, unlinkat,
};
use rustix::io::Errno;

use super::{failed, invalid};
use crate::protocol::{Answer, CHUNK, Entry, Failure, FailureKind, Prepare};

/// Folders below each other.
const MAX_DEPTH: usize = 32;
/// Names of a folder that are told at most.
const MAX_ENTRIES: usize = 10_000;
/// Bytes that they may have together.
const MAX_NAMES: usize = 256 * 1024;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

pub(super) fn read(
    prepared: &Prepare,
    path: &str,
    mut send: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    let (folders, name) = split(path)?;
    let folder = open(prepared, &folders, false)?;
    // A pipe is not waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = openat(&folder, name, flags, Mode::empty()).map_err(|error| at(path, error))?;
    if !is(&file, FileType::RegularFile)? {
        return Err(invalid(format!("`{path}` is not a file")));
    }
    let (mut file, mut bytes) = (File::from(file), vec![0; CHUNK]);
    loop {
        match file.read(&mut bytes).map_err(failed)? {
            0 => return Ok(Answer::Done),
            read => send(&bytes[..read])?,
        }
    }
}

pub(super) fn write(
    prepared: &Prepare,
    path: &str,
    stream: u32,
    mut next: impl FnMut() -> Result<Option<Vec<u8>>, Failure>,
) -> Result<Answer, Failure> {
    let (folders, name) = split(path)?;
    let folder = open(prepared, &folders, true)?;
    if statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::Directory)
    {
        return Err(invalid(format!("`{path}` is a folder")));
    }
    let under = format!(".{stream}.upload");
    // Of a guest that was ended in the middle of one.
    let _ = unlinkat(&folder, &under, AtFlags::empty());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&folder, &under, flags, Mode::from_raw_mode(0o644)).map_err(|error| at(path, error))?;
    let mut written = || {
        own(prepared, &file)?;
        let mut file = File::from(file.try_clone().map_err(failed)?);
        while let Some(bytes) = next()? {
            file.write_all(&bytes).map_err(failed)?;
        }
        renameat(&folder, &under, &folder, name).map_err(|error| at(path, error))
    };
    if let Err(failure) = written() {
        let _ = unlinkat(&folder, &under, AtFlags::empty());
        return Err(failure);
    }
    Ok(Answer::Done)
}

pub(super) fn remove(prepared: &Prepare, path: &str) -> Result<Answer, Failure> {
    let (folders, name) = split(path)?;
    let folder = open(prepared, &folders, false)?;
    let name = CString::new(name).map_err(|_| invalid("a path cannot have a NUL"))?;
    remove_all(&folder, &name, 0).map_err(|error| at(path, error))?;
    Ok(Answer::Done)
}

pub(super) fn list(prepared: &Prepare, path: &str) -> Result<Answer, Failure> {
    let folders: Vec<&str> = match path.trim_matches('/') {
        "" => Vec::new(),
        path => checked(path)?,
    };
    let folder = open(prepared, &folders, false)?;
    let (mut entries, mut names) = (Vec::new(), 0);
    for entry in Dir::read_from(&folder).map_err(|error| at(path, error))? {
        let entry = entry.map_err(|error| at(path, error))?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        names += name.count_bytes();
        if entries.len() == MAX_ENTRIES || names > MAX_NAMES {
            return Err(invalid(format!("the folder has too many entries to list; at most {MAX_ENTRIES}")));
        }
        let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let is_folder = FileType::from_raw_mode(stat.st_mode as RawMode) == FileType::Directory;
        let size = if is_folder { 0 } else { u64::try_from(stat.st_size).unwrap_or_default() };
        entries.push(Entry { name: name.to_string_lossy().into_owned(), is_folder, size });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Answer::Entries(entries))
}

fn remove_all(folder: &OwnedFd, name: &std::ffi::CStr, depth: usize) -> Result<(), Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) if depth < MAX_DEPTH => {}
        other => return other,
    }
    let inner = openat(folder, name, OFlags::RDONLY | FOLDER, Mode::empty())?;
    for entry in Dir::read_from(&inner)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            remove_all(&inner, name, depth + 1)?;
        }
    }
    unlinkat(folder, name, AtFlags::REMOVEDIR)
}

/// The folder at the end of a path of folders.
fn open(prepared: &Prepare, folders: &[&str], makes: bool) -> Result<OwnedFd, Failure> {
    let home = if prepared.home.is_empty() { "." } else { &prepared.home };
    let flags = OFlags::RDONLY | FOLDER;
    let mut folder = openat(CWD, home, flags, Mode::empty()).map_err(|error| at(home, error))?;
    for name in folders {
        folder = match openat(&folder, *name, flags, Mode::empty()) {
            Err(Errno::NOENT) if makes => {
                match mkdirat(&folder, *name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(at(name, error)),
                }
                let made = openat(&folder, *name, flags, Mode::empty()).map_err(|error| at(name, error))?;
                own(prepared, &made)?;
                made
            }
            other => other.map_err(|error| at(name, error))?,
        };
    }
    Ok(folder)
}

fn own(prepared: &Prepare, made: &OwnedFd) -> Result<(), Failure> {
    let Some((user, group)) = prepared.user else { return Ok(()) };
    fchown(made, Some(Uid::from_raw(user)), Some(Gid::from_raw(group))).map_err(|error| failed(error.into()))
}

fn is(file: &OwnedFd, kind: FileType) -> Result<bool, Failure> {
    let stat = fstat(file).map_err(|error| failed(error.into()))?;
    Ok(FileType::from_raw_mode(stat.st_mode as RawMode) == kind)
}

fn split(path: &str) -> Result<(Vec<&str>, &str), Failure> {
    let mut folders = checked(path)?;
    let name = folders.pop().ok_or_else(|| invalid("the path is empty"))?;
    Ok((folders, name))
}

fn checked(path: &str) -> Result<Vec<&str>, Failure> {
    let names: Vec<&str> = path.split('/').collect();
    if names.len() > MAX_DEPTH {
        return Err(invalid(format!("`{path}` goes through more than {MAX_DEPTH} folders")));
    }
    for name in &names {
        if matches!(*name, "" | "." | "..") || name.contains('\0') {
            let message = format!(
                "`{path}` is no path: it begins without a slash, and has no empty part, `.`, `..` or NUL"
            );
            return Err(invalid(message));
        }
    }
    Ok(names)
}

fn at(path: &str, error: Errno) -> Failure {
    match error {
        Errno::NOENT => {
            Failure { kind: FailureKind::NotFound, message: format!("there is no `{path}` in the sandbox") }
        }
        Errno::LOOP => invalid(format!("`{path}` is a symbolic link, and none is followed")),
        Errno::NOTDIR => invalid(format!("`{path}` is not a folder, or a symbolic link; none is followed")),
        Errno::NAMETOOLONG => invalid(format!("`{path}` has a name of more than 255 bytes")),
        error => {
            let failure = failed(error.into());
            Failure { message: format!("`{path}`: {}", failure.message), ..failure }
        }
    }
}
