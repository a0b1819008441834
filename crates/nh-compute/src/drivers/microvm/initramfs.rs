//! What the kernel of a machine starts with: its modules and the guest, as an archive.
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use cpio::newc::{Builder, trailer};
use nh_guest::vm;

use super::MODULES;
use crate::guest::PROGRAM;

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_555;

/// Of the kernel in this folder, into another one.
pub(super) fn make(kernel: &Path, folder: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let (path, under) = (folder.join("initramfs"), folder.join("initramfs.new"));
    let mut output = File::create(&under)?;
    let inside = |path: &str| path.trim_start_matches('/').to_owned();
    output = put(output, &inside(vm::PROGRAM), FILE, PROGRAM)?;
    output = put(output, &inside(vm::MODULES), FOLDER, &[])?;
    for entry in fs::read_dir(kernel.join(MODULES))? {
        let entry = entry?;
        let name = format!("{}/{}", inside(vm::MODULES), entry.file_name().to_string_lossy());
        output = put(output, &name, FILE, &fs::read(entry.path())?)?;
    }
    let mut output = trailer(output)?;
    output.flush()?;
    // QEMU is somebody else.
    output.set_permissions(PermissionsExt::from_mode(0o444))?;
    fs::rename(&under, &path)?;
    Ok(path)
}

fn put(output: File, name: &str, mode: u32, bytes: &[u8]) -> io::Result<File> {
    let length = bytes.len().try_into().map_err(io::Error::other)?;
    let mut writer = Builder::new(name).mode(mode).write(output, length);
    writer.write_all(bytes)?;
    writer.finish()
}
