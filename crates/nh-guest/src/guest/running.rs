//! Watches over a process while somebody waits for it: what it writes goes to the hub,
//! what the hub sends goes to it, and it is killed when its time is over.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::inbox::Inbox;
use super::output::Output;
use super::watch::Watch;
use crate::protocol::{Ended, Killed};

/// Bytes read from a pipe at once: as many as it holds by default.
const PIPE_BYTES: usize = 64 * 1024;

/// What was written before the end takes one, or as many as its pipe was made larger.
const LAST_READS: usize = 32;

/// One that was killed and is not gone is killed again.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// A process and the pipes to it.
pub(super) struct Process {
    pub(super) group: Pid,
    pub(super) exit: File,
    pub(super) stdin: Option<File>,
    pub(super) stdout: Option<File>,
    pub(super) stderr: Option<File>,
    /// What an interpreter tells beside its output.
    pub(super) results: Option<File>,
}

/// What an interpreter told: its bytes that make no line yet are kept.
pub(super) trait Listener {
    /// The exit code, once the code that was run is through.
    fn heard(&mut self, bytes: &[u8], output: &mut Output<'_>) -> Option<i32>;
}

/// For commands, which tell nothing.
impl Listener for () {
    fn heard(&mut self, _bytes: &[u8], _output: &mut Output<'_>) -> Option<i32> {
        None
    }
}

/// What goes on while one waits.
pub(super) struct Running<'r> {
    pub(super) inbox: &'r Inbox,
    pub(super) watch: &'r Watch,
    pub(super) output: Output<'r>,
    pub(super) timeout: Duration,
}

impl Running<'_> {
    /// Until the process ended or its listener heard that the code is through.
    /// `request` is written to its standard input first.
    pub(super) fn wait(
        mut self,
        process: &mut Process,
        request: Vec<u8>,
        listener: &mut impl Listener,
    ) -> io::Result<Ended> {
        let began = Instant::now();
        let mut ends_at = Some(began + self.timeout);
        let (mut killed, mut input): (Option<Killed>, _) = (None, Input { own: request, ..Input::default() });
        let (exit_code, state_reset) = loop {
            self.poll(process, &input, ends_at)?;
            let taken = self.inbox.take();
            let is_late = ends_at.is_some_and(|end| Instant::now() >= end);
            if is_late || (taken.is_cancelled && killed.is_none()) {
                killed.get_or_insert(if is_late { Killed::Timeout } else { Killed::Cancelled });
                kill(process.group);
                // Until it is gone, whatever it does meanwhile.
                ends_at = Some(Instant::now() + KILL_AGAIN);
            }
            input.waiting.extend(taken.data);
            input.has_ended |= taken.has_ended;
            input.give(&mut process.stdin, &self.output);
            // Before its output, so that this has all that came before.
            let code = exit_code(&mut process.exit);
            let told = drain(&mut process.results)?;
            for _ in 0..if code.is_some() || told.is_some() { LAST_READS } else { 1 } {
                if !self.pass_on(process)? {
                    break;
                }
            }
            let code = match told.and_then(|told| listener.heard(&told, &mut self.output)) {
                Some(code) => Some((code, false)),
                None => code.map(|code| (code, true)),
            };
            if let Some(code) = code {
                break code;
            }
        };
        let by_watch = || self.watch.killed_since(began).filter(|_| exit_code == 128 + Signal::KILL.as_raw());
        Ok(Ended {
            exit_code,
            killed: killed.or_else(by_watch),
            truncated: self.output.truncated,
            state_reset,
            duration_ms: began.elapsed().as_millis().try_into().unwrap_or(u64::MAX),
        })
    }

    fn poll(&self, process: &Process, input: &Input, ends_at: Option<Instant>) -> io::Result<()> {
        let mut waiting = vec![
            PollFd::from_borrowed_fd(self.inbox.event(), PollFlags::IN),
            PollFd::new(&process.exit, PollFlags::IN),
        ];
        for pipe in [&process.stdout, &process.stderr, &process.results].into_iter().flatten() {
            waiting.push(PollFd::new(pipe, PollFlags::IN));
        }
        if let Some(stdin) = process.stdin.as_ref().filter(|_| !input.is_empty()) {
            waiting.push(PollFd::new(stdin, PollFlags::OUT));
        }
        let left = ends_at.map(|end| end.saturating_duration_since(Instant::now()));
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut waiting, left.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether there was anything.
    fn pass_on(&mut self, process: &mut Process) -> io::Result<bool> {
        let (out, error) = (drain(&mut process.stdout)?, drain(&mut process.stderr)?);
        self.output.out(out.as_deref().unwrap_or_default());
        self.output.error(error.as_deref().unwrap_or_default());
        Ok(out.is_some() || error.is_some())
    }
}

/// Takes what a process that ended left running goes on to write, so that this does not
/// end for it.
pub(super) fn let_run(process: Process) {
    let Process { mut stdout, mut stderr, .. } = process;
    if stdout.is_none() && stderr.is_none() {
        return;
    }
    // Without a thread it is told that nobody listens, as a shell would tell it.
    let _ = thread::Builder::new().spawn(move || {
        while stdout.is_some() || stderr.is_some() {
            let pipes = [&stdout, &stderr].into_iter().flatten();
            let mut waiting: Vec<PollFd<'_>> = pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)).collect();
            let polled = poll(&mut waiting, None);
            let drained = drain(&mut stdout).and_then(|_| drain(&mut stderr));
            if drained.is_err() || polled.is_err_and(|error| error != rustix::io::Errno::INTR) {
                return;
            }
        }
    });
}

/// Bytes for standard input that it did not take yet.
#[derive(Default)]
struct Input {
    /// The guest's, before what the hub sends.
    own: Vec<u8>,
    waiting: VecDeque<Vec<u8>>,
    has_ended: bool,
}

impl Input {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.waiting.is_empty()
    }

    fn give(&mut self, stdin: &mut Option<File>, output: &Output<'_>) {
        let is_gone = match stdin {
            Some(pipe) => self.write(pipe, output).is_err(),
            None => true,
        };
        if is_gone {
            // Nobody reads it any more, if anybody ever did.
            let left: usize = self.waiting.drain(..).map(|bytes| bytes.len()).sum();
            if left > 0 {
                output.credit(left as u32);
            }
        }
        if is_gone || (self.has_ended && self.is_empty()) {
            *stdin = None;
        }
    }

    /// As much as the pipe takes just now.
    fn write(&mut self, pipe: &File, output: &Output<'_>) -> io::Result<()> {
        loop {
            let is_own = !self.own.is_empty();
            let bytes = if is_own { Some(&mut self.own) } else { self.waiting.front_mut() };
            let Some(bytes) = bytes else { return Ok(()) };
            let written = match rustix::io::write(pipe, bytes) {
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            bytes.drain(..written);
            let is_empty = bytes.is_empty();
            if !is_own {
                output.credit(written as u32);
                if is_empty {
                    self.waiting.pop_front();
                }
            }
        }
    }
}

/// What is in a pipe just now, at most once what it holds; one that ended is closed.
fn drain(pipe: &mut Option<File>) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = pipe else { return Ok(None) };
    let mut bytes = vec![0; PIPE_BYTES];
    let read = loop {
        match file.read(&mut bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            other => break other?,
        }
    };
    if read == 0 {
        *pipe = None;
        return Ok(None);
    }
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// With its group, which it may have left.
fn kill(leader: Pid) {
    let _ = kill_process_group(leader, Signal::KILL);
    let _ = kill_process(leader, Signal::KILL);
}

/// None: it still runs.
pub(super) fn exit_code(exit: &mut File) -> Option<i32> {
    let mut code = [0; 4];
    exit.read_exact(&mut code).ok().map(|()| i32::from_ne_bytes(code))
}

/// A pipe's end, to be read or written without waiting.
pub(super) fn without_waiting(end: impl Into<OwnedFd>) -> io::Result<File> {
    let end = end.into();
    fcntl_setfl(end.as_fd(), fcntl_getfl(end.as_fd())? | OFlags::NONBLOCK)?;
    Ok(File::from(end))
}
