//! Holds the sandbox to its processes and memory where the kernel below does not, and
//! tells by which of them something was killed.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use rustix::param::page_size;
use rustix::process::{Pid, Signal, getpid, kill_process, setpriority_process};

use super::locked;
use crate::protocol::{Killed, Prepare};

const PAUSE: Duration = Duration::from_millis(100);

/// `setpriority(2)`.
const BEFORE_ALL: i32 = -20;

/// Some kernels let processes escape that begin meanwhile: those that multiply are killed
/// so often, one time right after the other.
const PASSES: usize = 10;

/// So many times the processes that there may be at once are too many that ended.
const SWARM: usize = 4;

#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Kept>>, Arc<Mutex<()>>);

#[derive(Default)]
struct Kept {
    max_processes: usize,
    max_memory: u64,
    is_kept: bool,
    /// Processes that the kernel killed for memory, as far as is known.
    out_of_memory: u64,
    /// Threads of the kernel, which are looked at no more.
    of_kernel: HashSet<i32>,
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
        kept.out_of_memory = out_of_memory();
        kept.of_kernel = processes(usize::MAX)
            .into_iter()
            .filter(|pid| matches!(state(*pid), Some(State::OfKernel)))
            .collect();
        let watch = self.clone();
        #[allow(clippy::disallowed_methods)] // this thread does nothing else
        thread::Builder::new().spawn(move || {
            // This thread alone, and it begins no process: its turn comes before theirs, however
            // many they are. Where it may not, it waits for its turn.
            let _ = setpriority_process(None, BEFORE_ALL);
            loop {
                thread::sleep(PAUSE);
                watch.look();
            }
        })?;
        kept.is_kept = true;
        Ok(())
    }

    /// Nothing is killed while this is held: what begins now has nothing to do with it.
    pub(super) fn calm(&self) -> MutexGuard<'_, ()> {
        locked(&self.1)
    }

    /// By which bound something was killed since then.
    pub(super) fn killed_since(&self, began: Instant) -> Option<Killed> {
        self.look_at_kernel();
        locked(&self.0).last.filter(|(at, _)| *at >= began).map(|(_, killed)| killed)
    }

    /// Whether it was first, and killed something for the memory of its whole machine.
    fn look_at_kernel(&self) {
        let mut kept = locked(&self.0);
        let killed = out_of_memory();
        if kept.is_kept && killed > kept.out_of_memory {
            kept.out_of_memory = killed;
            kept.last = Some((Instant::now(), Killed::Memory));
        }
    }

    fn look(&self) {
        self.look_at_kernel();
        let (max_processes, max_memory, of_kernel) = {
            let kept = locked(&self.0);
            (kept.max_processes, kept.max_memory, kept.of_kernel.len())
        };
        // Counted before anything else is asked of them, and no further than to a swarm: those
        // that multiply faster than they are listed have no last one.
        let mut processes = processes(SWARM * max_processes + 1 + of_kernel);
        processes.retain(|pid| !locked(&self.0).of_kernel.contains(pid));
        let told = |killed| locked(&self.0).last = Some((Instant::now(), killed));
        if processes.len() > max_processes && are_too_many(&processes, max_processes) {
            let _others_wait = self.calm();
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

/// All but PID 1, at most so many, those with the lowest numbers.
fn processes(most: usize) -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != Pid::INIT.as_raw_nonzero().get()).take(most).collect()
}

/// What lives counts, and so do those that ended and that nobody waits for, once they are
/// a swarm.
fn are_too_many(processes: &[i32], most: usize) -> bool {
    let (mut living, mut ended) = (0, 0);
    // The newest first: of those that multiply, few have to be looked at.
    processes.iter().rev().any(|pid| {
        match state(*pid) {
            // One that is gone since they were counted lived then.
            Some(State::Lives) | None => living += 1,
            Some(State::Ended) => ended += 1,
            Some(State::OfKernel) => {}
        }
        living > most || living + ended > SWARM * most
    })
}

enum State {
    Lives,
    Ended,
    OfKernel,
}

/// `proc(5)`, `/proc/pid/stat`: the state comes after the name in parentheses, Z is one
/// that ended and was not waited for yet; the seventh field from there on is flags, of
/// which one is of the kernel's own threads (PF_KTHREAD of `include/linux/sched.h`).
fn state(pid: i32) -> Option<State> {
    const OF_KERNEL: u64 = 0x0020_0000;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let flags: u64 = fields.nth(5)?.parse().ok()?;
    Some(match state {
        _ if flags & OF_KERNEL != 0 => State::OfKernel,
        "Z" => State::Ended,
        _ => State::Lives,
    })
}

/// `proc(5)`, `/proc/vmstat`, where the kernel below has it. One that others have too
/// counts theirs as well; only what was killed meanwhile is told to be for that.
fn out_of_memory() -> u64 {
    let counts = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let count = counts.lines().find_map(|line| line.strip_prefix("oom_kill "));
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// `proc(5)`, `/proc/pid/statm`: the second number is the resident pages.
fn resident(pid: i32) -> u64 {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    pages * page_size() as u64
}
