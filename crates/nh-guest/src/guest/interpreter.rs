//! One interpreter of each language, kept from one piece of code to the next. It gets
//! code on one pipe, with a NUL after the code and after its standard input, and tells
//! on another, line by line, what it shows and in the end an exit code. Whatever runs
//! in it can say there what it likes: lines are bounded, and others are passed over.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, kill_process_group};
use serde::Deserialize;

use super::command::{not_started, prepared_command, process};
use super::inbox::{Inbox, given_up};
use super::output::Output;
use super::running::{Listener, Process, Running, exit_code, without_waiting};
use super::{Guest, failed, invalid, locked};
use crate::protocol::{Answer, Artifact, Failure, Language, MAX_PAYLOAD, Prepare, Run};

/// The variables that tell an interpreter its two pipes, while it starts.
const REQUESTS: &str = "NEURALHUB_REQUESTS";
const RESULTS: &str = "NEURALHUB_RESULTS";

struct Interpreter {
    process: Process,
    requests: File,
}

/// What is kept of a language.
#[derive(Default)]
pub(super) struct Kept {
    interpreter: Option<Interpreter>,
    /// One was, and whoever comes next has to be told.
    was_lost: bool,
}

impl Drop for Interpreter {
    fn drop(&mut self) {
        let _ = kill_process_group(self.process.group, Signal::KILL);
    }
}

pub(super) fn run(
    guest: &Guest,
    prepared: &Prepare,
    stream: u32,
    run: Run,
    inbox: &Inbox,
) -> Result<Answer, Failure> {
    let Run { language, code, stdin, timeout_ms, max_output } = run;
    if code.contains('\0') || stdin.contains('\0') {
        return Err(invalid("the code and its standard input are text without a NUL"));
    }
    let kept = guest.interpreters.get(&language).ok_or_else(|| invalid("an unknown language"))?;
    let mut kept = locked(kept);
    if inbox.is_cancelled() {
        // While another ran: what is kept is none of its business.
        return Err(given_up());
    }
    if kept.interpreter.as_mut().is_some_and(|one| exit_code(&mut one.process.exit).is_some()) {
        *kept = Kept { interpreter: None, was_lost: true };
    }
    let mut interpreter = match kept.interpreter.take() {
        Some(interpreter) => interpreter,
        None => start(guest, prepared, language)?,
    };
    let mut listener = Heard { line: Vec::new(), is_too_long: false };
    let running = Running {
        inbox,
        watch: &guest.watch,
        output: Output::new(&guest.channel, stream, max_output),
        timeout: Duration::from_millis(timeout_ms),
    };
    interpreter.process.stdin = Some(interpreter.requests.try_clone().map_err(failed)?);
    let request = [code.as_bytes(), b"\0", stdin.as_bytes(), b"\0"].concat();
    // Until it is told, what was kept is as good as lost.
    let was_lost = std::mem::replace(&mut kept.was_lost, true);
    let mut ended = running.wait(&mut interpreter.process, request, &mut listener).map_err(failed)?;
    if !ended.state_reset {
        kept.interpreter = Some(interpreter);
    }
    ended.state_reset |= was_lost;
    // Whoever gave it up hears no answer.
    kept.was_lost = ended.state_reset && inbox.is_cancelled();
    Ok(Answer::Ended(ended))
}

fn start(guest: &Guest, prepared: &Prepare, language: Language) -> Result<Interpreter, Failure> {
    let (program, arguments) = command_of(language);
    let started = guest.spawn(|| {
        // Both ends that it has stay open in it, so they are not closed on the way.
        let (requested, requests) = pipe_with(PipeFlags::CLOEXEC)?;
        let (results, told) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = prepared_command(prepared, program);
        for (name, end) in [(REQUESTS, &requested), (RESULTS, &told)] {
            fcntl_setfd(end, FdFlags::empty())?;
            command.env(name, end.as_raw_fd().to_string());
        }
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ok((command, vec![requested, told], (requests, results)))
    });
    let (started, (requests, results)) = started.map_err(|error| not_started(program, error))?;
    let mut process = process(started).map_err(failed)?;
    process.results = Some(without_waiting(results).map_err(failed)?);
    Ok(Interpreter { process, requests: without_waiting(requests).map_err(failed)? })
}

fn command_of(language: Language) -> (&'static str, [&'static str; 2]) {
    match language {
        Language::Python => ("python3", ["-uc", include_str!("../interpreters/python.py")]),
        Language::Nodejs => ("node", ["-e", include_str!("../interpreters/node.js")]),
        Language::Bash => ("bash", ["-c", include_str!("../interpreters/bash.sh")]),
    }
}

/// What an interpreter told, up to the line that is not over.
struct Heard {
    line: Vec<u8>,
    is_too_long: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    ExitCode(i32),
    Artifact(Artifact),
}

impl Listener for Heard {
    fn heard(&mut self, bytes: &[u8], output: &mut Output<'_>) -> Option<i32> {
        let mut exit_code = None;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + part.len() > MAX_PAYLOAD {
                self.line.clear();
                self.is_too_long = true;
            }
            if !self.is_too_long {
                self.line.extend_from_slice(part);
            }
            if !part.ends_with(b"\n") {
                continue;
            }
            let line = std::mem::take(&mut self.line);
            if std::mem::take(&mut self.is_too_long) {
                output.truncated = true;
                continue;
            }
            match serde_json::from_slice(&line) {
                Ok(Told::ExitCode(code)) => exit_code = Some(code),
                Ok(Told::Artifact(artifact)) => {
                    if let Ok(json) = serde_json::to_vec(&artifact) {
                        output.artifact(&json);
                    }
                }
                Err(_) => {}
            }
        }
        exit_code
    }
}
