//! Processes that belong to a directory of the hub, told by the arguments that they were
//! started with, for hosts where there are no control groups to tell.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::process::{Pid, Signal, getpid, kill_process};

/// Kills them; whether none is left.
pub(super) fn kill(directory: &Path) -> bool {
    let found = processes(directory);
    for process in &found {
        // It may have ended meanwhile.
        let _ = kill_process(*process, Signal::KILL);
    }
    found.is_empty()
}

fn processes(directory: &Path) -> Vec<Pid> {
    let wanted = directory.as_os_str().as_bytes();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let is_its = |pid: &Pid| {
        let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        *pid != getpid() && arguments.windows(wanted.len()).any(|part| part == wanted)
    };
    pids.filter(is_its).collect()
}
