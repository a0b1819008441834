use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::Errno;

use super::inbox::Inbox;
use super::output::Output;
use super::reaper::Started;
use super::running::{Process, Running, let_run, without_waiting};
use super::{Guest, failed, invalid};
use crate::protocol::{Answer, Execute, Failure, Prepare};

/// As a user of the sandbox, in the folder where commands begin, with nothing of the
/// guest's own environment.
pub(super) fn prepared_command(prepared: &Prepare, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(&prepared.env);
    if !prepared.home.is_empty() {
        command.current_dir(&prepared.home);
    }
    if let Some((user, group)) = prepared.user {
        std::os::unix::process::CommandExt::uid(&mut command, user);
        std::os::unix::process::CommandExt::gid(&mut command, group);
    }
    command
}

pub(super) fn execute(
    guest: &Guest,
    prepared: &Prepare,
    stream: u32,
    execute: Execute,
    inbox: &Inbox,
) -> Result<Answer, Failure> {
    let Execute { command, has_stdin, timeout_ms, max_output } = execute;
    let Some((program, arguments)) = command.split_first() else {
        return Err(invalid("the command has no program"));
    };
    let started = guest.spawn(|| {
        let mut command = prepared_command(prepared, program);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if has_stdin { Stdio::piped() } else { Stdio::null() });
        Ok((command, Vec::new(), ()))
    });
    let (started, ()) = started.map_err(|error| not_started(program, error))?;
    let mut process = process(started).map_err(failed)?;
    let running = Running {
        inbox,
        watch: &guest.watch,
        output: Output::new(&guest.channel, stream, max_output),
        timeout: Duration::from_millis(timeout_ms),
    };
    let mut ended = running.wait(&mut process, Vec::new(), &mut ()).map_err(failed)?;
    ended.state_reset = false;
    let_run(process);
    Ok(Answer::Ended(ended))
}

pub(super) fn process(started: Started) -> io::Result<Process> {
    let Started { mut child, group, exit } = started;
    Ok(Process {
        group,
        exit: without_waiting(exit)?,
        stdin: child.stdin.take().map(without_waiting).transpose()?,
        stdout: child.stdout.take().map(without_waiting).transpose()?,
        stderr: child.stderr.take().map(without_waiting).transpose()?,
        results: None,
    })
}

pub(super) fn not_started(program: &str, error: io::Error) -> Failure {
    let is_program = Errno::from_io_error(&error) != Some(Errno::NOEXEC);
    match error.kind() {
        io::ErrorKind::NotFound => invalid(format!("there is no program `{program}` in this sandbox")),
        kind if !is_program || kind == io::ErrorKind::PermissionDenied => {
            invalid(format!("`{program}` is not a program that can be run"))
        }
        _ => failed(error),
    }
}
