//! Holds the sandbox to its processes and memory where the kernel below does not, and
//! tells by which of them something was killed.

use std::fs;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::page_size;
use rustix::process::{Pid, Signal, getpid, kill_process};

use super::locked;
use crate::protocol::{Killed, Prepare};

const PAUSE: Duration = Duration::from_millis(100);

/// Some kernels let processes escape that begin meanwhile: those that multiply are killed
/// so often, one time right after the other.
const PASSES: usize = 10;

#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    max_processes: usize,
    max_memory: u64,
    is_kept: bool,
    last: Option<(Instant, Killed)>,
}

impl Watch {
    /// Keeps to these bounds from now on. Only PID 1 does: whatever runs beside it is
    /// of its sandbox.
    pub(super) fn keep(&self, prepare: &Prepare) -> io::Result<()> {
        let mut kept = locked(&self.0);
        (kept.max_processes, kept.max_memory) = (prepare.max_processes as usize, prepare.max_memory);
        if getpid() != Pid::INIT || kept.is_kept {
            return Ok(());
        }
        let watch = self.clone();
        #[allow(clippy::disallowed_methods)] // this thread does nothing else
        thread::Builder::new().spawn(move || {
            loop {
                thread::sleep(PAUSE);
                watch.look();
            }
        })?;
        kept.is_kept = true;
        Ok(())
    }

    /// By which bound something was killed since then.
    pub(super) fn killed_since(&self, began: Instant) -> Option<Killed> {
        locked(&self.0).last.filter(|(at, _)| *at >= began).map(|(_, killed)| killed)
    }

    fn look(&self) {
        let (max_processes, max_memory) = {
            let kept = locked(&self.0);
            (kept.max_processes, kept.max_memory)
        };
        let told = |killed| locked(&self.0).last = Some((Instant::now(), killed));
        // Counted before anything else is asked of them: they may be multiplying.
        let processes = processes();
        // The newest first: of those that multiply, few have to be looked at.
        if processes.len() > max_processes
            && processes.iter().rev().filter(|pid| lives(**pid)).nth(max_processes).is_some()
        {
            for _ in 0..PASSES {
                // Before, as they end at once, and each time, as others begin meanwhile.
                told(Killed::Processes);
                kill_all();
            }
            return;
        }
        let sizes = processes.into_iter().map(|pid| (resident(pid), pid));
        let sizes: Vec<(u64, i32)> = sizes.collect();
        if sizes.iter().map(|(bytes, _)| bytes).sum::<u64>() > max_memory
            && let Some((_, largest)) = sizes.into_iter().max()
            && let Some(largest) = Pid::from_raw(largest)
        {
            told(Killed::Memory);
            // It may have ended meanwhile.
            let _ = kill_process(largest, Signal::KILL);
        }
    }
}

/// All processes but this one. One by one would be too slow for those that multiply:
/// none begins another while it is being killed.
#[allow(unsafe_code)]
fn kill_all() {
    // SAFETY: it touches no memory. `kill(2)`: -1 is every process but PID 1, which this is.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// All but PID 1.
fn processes() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != Pid::INIT.as_raw_nonzero().get()).collect()
}

/// `proc(5)`, `/proc/pid/stat`: the state comes after the name in parentheses; Z is one
/// that ended and was not waited for yet.
fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// `proc(5)`, `/proc/pid/statm`: the second number is the resident pages.
fn resident(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * page_size() as u64
}
