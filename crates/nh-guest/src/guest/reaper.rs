//! Every process that ends is waited for here: those that somebody runs, and those
//! that lost their parent, which are PID 1's.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, Command};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, WaitOptions, kill_process_group, setpriority_process, wait, waitid,
};

use super::locked;

/// `setpriority(2)`.
const AFTER_ALL: i32 = 19;

#[derive(Clone)]
pub(super) struct Reaper(Arc<Shared>);

struct Shared {
    /// The end to write the exit code of each process to.
    running: Mutex<HashMap<i32, OwnedFd>>,
    begun: Condvar,
}

/// A process that runs, the leader of its group.
pub(super) struct Started {
    pub(super) child: Child,
    pub(super) group: Pid,
    /// Brings the exit code as four bytes.
    pub(super) exit: OwnedFd,
}

impl Reaper {
    pub(super) fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared { running: Mutex::default(), begun: Condvar::new() });
        let reaping = shared.clone();
        thread::Builder::new().spawn(move || reaping.reap())?;
        Ok(Self(shared))
    }

    /// Starts what `command` makes. No other process is started meanwhile, so that it
    /// alone has the descriptors that `command` leaves open for it, and gives with it.
    pub(super) fn spawn<T>(
        &self,
        command: impl FnOnce() -> io::Result<(Command, Vec<OwnedFd>, T)>,
    ) -> io::Result<(Started, T)> {
        let mut running = locked(&self.0.running);
        let (exit, ended) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let (mut command, _its, made) = command()?;
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = spawn_after_all(&mut command)?;
        let id = i32::try_from(child.id()).map_err(io::Error::other)?;
        let group = Pid::from_raw(id).ok_or_else(|| io::Error::other("a process without a number"))?;
        running.insert(id, ended);
        self.0.begun.notify_all();
        Ok((Started { child, group, exit }, made))
    }

    pub(super) fn kill_all(&self) {
        for id in locked(&self.0.running).keys() {
            if let Some(group) = Pid::from_raw(*id) {
                let _ = kill_process_group(group, Signal::KILL);
            }
        }
    }
}

/// What is begun comes after the guest, also for the processor: those that multiply are hundreds,
/// and the guest, which is to end them, is one. A thread that ends here has begun it, as nobody
/// may go back before others once it went behind them.
fn spawn_after_all(command: &mut Command) -> io::Result<Child> {
    let begin = || {
        // Where that is nothing, it is as before.
        let _ = setpriority_process(None, AFTER_ALL);
        command.spawn()
    };
    thread::scope(|scope| {
        let begun = thread::Builder::new().spawn_scoped(scope, begin)?.join();
        begun.unwrap_or_else(|_| Err(io::Error::other("it could not be begun")))
    })
}

impl Shared {
    fn reap(&self) {
        loop {
            // It is looked at first and waited for under the lock: before it is known who
            // runs it, a process must not be taken away.
            let ended = waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            let mut running = locked(&self.running);
            if ended.is_err() {
                if running.is_empty() {
                    drop(self.begun.wait(running).unwrap_or_else(PoisonError::into_inner));
                }
                continue;
            }
            while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
                let signalled = || status.terminating_signal().map(|signal| 128 + signal);
                let code = status.exit_status().or_else(signalled).unwrap_or(-1);
                if let Some(ended) = running.remove(&pid.as_raw_nonzero().get()) {
                    let _ = rustix::io::write(&ended, &code.to_ne_bytes());
                }
            }
        }
    }
}
