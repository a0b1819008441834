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
    let directory = directory.as_os_str().as_bytes();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
    let is_its = |pid: &Pid| {
        let arguments = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0);
        // Alone, or as `--root=…`.
        let is_below = |argument: &[u8]| {
            let value = argument.splitn(2, |byte| *byte == b'=').last().unwrap_or_default();
            value.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        // The name of the program itself tells nothing.
        *pid != getpid() && arguments.next().is_some() && arguments.any(is_below)
    };
    pids.filter(is_its).collect()
}
