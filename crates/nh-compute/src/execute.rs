//! Code and commands in a sandbox, and what comes of them.

use std::sync::Arc;

use bytes::Bytes;
use nh_guest::protocol::{self, Answer, Ended, Execute, Killed, Language, Request, Run};
use nh_types::sandbox::{Artifact, CodeLanguage, Execution, StopReason};
use nh_types::{SandboxId, WorkspaceId};
use tokio::sync::OwnedSemaphorePermit;

use crate::compute::Compute;
use crate::error::{ComputeError, invalid};
use crate::guest::{Event, GuestError, Stream};
use crate::live::{End, Live};

const DEFAULT_TIMEOUT_SECONDS: u32 = 60;
const MAX_TIMEOUT_SECONDS: u32 = 24 * 60 * 60;

/// Of code with its standard input, or of a command: as JSON, which may take six bytes for
/// one, it is still one frame.
const MAX_CODE_BYTES: usize = 300_000;

const MAX_STDIN_BYTES: usize = 1 << 20;

/// Of a process that was killed, as shells tell it: 128 and SIGKILL.
const KILLED: i32 = 137;

/// Something that is to run.
#[derive(Clone, Debug)]
pub struct Work {
    pub what: What,
    pub stdin: Option<String>,
    pub timeout_seconds: Option<u32>,
}

#[derive(Clone, Debug)]
pub enum What {
    /// For the interpreter that is kept of the language.
    Code(CodeLanguage, String),
    /// A program and its arguments.
    Command(Vec<String>),
}

/// Something that runs; dropped before its end it is killed.
pub struct Executing {
    compute: Compute,
    live: Arc<Live>,
    stream: Stream,
    _turn: OwnedSemaphorePermit,
}

/// What comes of it, in order; the last is how it ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Out(Bytes),
    Error(Bytes),
    Artifact(Artifact),
    /// An [`Execution`] without what was said before.
    Ended(Execution),
}

impl Compute {
    /// Begins it, once those before it have ended.
    pub async fn execute(
        &self,
        workspace_id: &WorkspaceId,
        id: &SandboxId,
        work: Work,
    ) -> Result<Executing, ComputeError> {
        let seconds = work.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        if !(1..=MAX_TIMEOUT_SECONDS).contains(&seconds) {
            let message =
                format!("`timeout_seconds` is {seconds}; it must be 1 to {MAX_TIMEOUT_SECONDS} (24 hours)");
            return Err(invalid("timeout_seconds", message));
        }
        check_size(&work)?;
        let live = self.live(workspace_id, id).await?;
        let (timeout_ms, max_output) = (u64::from(seconds) * 1000, self.inner.settings.max_output_bytes);
        let (language, request, stdin) = match work.what {
            What::Code(of, code) => {
                let stdin = work.stdin.unwrap_or_default();
                let run = Run { language: language(of), code, stdin, timeout_ms, max_output };
                (Some(language(of)), Request::Run(run), None)
            }
            What::Command(command) => {
                let has_stdin = work.stdin.is_some();
                (None, Request::Execute(Execute { command, has_stdin, timeout_ms, max_output }), work.stdin)
            }
        };
        let turn = live.turn(language).await?;
        let stream = match live.guest.open(request) {
            Ok(stream) => stream,
            Err(error) => return Err(self.told(&live, error).await),
        };
        live.begun();
        if let Some(stdin) = stdin {
            let sender = stream.sender().clone();
            self.inner.tasks.spawn(async move {
                // What takes no more of it ends without.
                if let Ok(true) = sender.send(stdin.as_bytes()).await {
                    let _ = sender.end();
                }
            });
        }
        Ok(Executing { compute: self.clone(), live, stream, _turn: turn })
    }

    /// An error of a guest; where the sandbox is gone, how it ended.
    pub(crate) async fn told(&self, live: &Live, error: GuestError) -> ComputeError {
        match error {
            GuestError::Failed(_) => error.into(),
            GuestError::Gone | GuestError::Broken(_) => self.ending(live).await,
        }
    }
}

impl Executing {
    pub async fn next(&mut self) -> Result<Said, ComputeError> {
        match self.stream.next().await {
            Ok(Event::Out(bytes)) => Ok(Said::Out(bytes)),
            Ok(Event::Error(bytes)) => Ok(Said::Error(bytes)),
            Ok(Event::Artifact(protocol::Artifact { is_result, data })) => {
                Ok(Said::Artifact(Artifact { is_result, data }))
            }
            Ok(Event::Answer(Answer::Ended(ended))) => Ok(Said::Ended(execution(ended))),
            Ok(_) => {
                self.live.ask(End::Stopped(StopReason::BrokeProtocol));
                Err(self.compute.ending(&self.live).await)
            }
            Err(error) => self.ended_with_its_sandbox(error).await,
        }
    }

    /// A limit that the whole sandbox was ended by is told as the end of what ran.
    async fn ended_with_its_sandbox(&self, error: GuestError) -> Result<Said, ComputeError> {
        let error = self.compute.told(&self.live, error).await;
        let reason = match self.live.last_asked() {
            Some(End::Stopped(reason @ (StopReason::Memory | StopReason::Processes))) => reason,
            _ => return Err(error),
        };
        Ok(Said::Ended(Execution {
            exit_code: KILLED,
            stdout: String::new(),
            stderr: String::new(),
            duration_ms: 0,
            truncated: false,
            artifacts: Vec::new(),
            killed: Some(reason.as_str().to_owned()),
            state_reset: true,
        }))
    }

    /// Waits for its end, and keeps all that it says.
    pub async fn whole(mut self) -> Result<Execution, ComputeError> {
        let (mut out, mut error, mut artifacts) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            match self.next().await? {
                Said::Out(bytes) => out.extend_from_slice(&bytes),
                Said::Error(bytes) => error.extend_from_slice(&bytes),
                Said::Artifact(artifact) => artifacts.push(artifact),
                Said::Ended(execution) => {
                    let text = |bytes: Vec<u8>| match String::from_utf8(bytes) {
                        Ok(text) => text,
                        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
                    };
                    return Ok(Execution { stdout: text(out), stderr: text(error), artifacts, ..execution });
                }
            }
        }
    }
}

fn check_size(work: &Work) -> Result<(), ComputeError> {
    let stdin = work.stdin.as_ref().map_or(0, String::len);
    if stdin > MAX_STDIN_BYTES {
        let message = format!(
            "`stdin` is {stdin} bytes; it may be {MAX_STDIN_BYTES}: put what is larger into the sandbox as a file"
        );
        return Err(invalid("stdin", message));
    }
    let (param, bytes) = match &work.what {
        What::Code(_, code) => ("code", code.len() + stdin),
        What::Command(command) => ("command", command.iter().map(String::len).sum()),
    };
    match bytes <= MAX_CODE_BYTES {
        true => Ok(()),
        false => {
            let message = format!(
                "`{param}` is {bytes} bytes, standard input of code included; it may be {MAX_CODE_BYTES}: put what \
                 is larger into the sandbox as a file"
            );
            Err(invalid(param, message))
        }
    }
}

fn execution(ended: Ended) -> Execution {
    let killed = ended.killed.map(|killed| match killed {
        Killed::Timeout => "timeout",
        Killed::Memory => "memory",
        Killed::Processes => "processes",
        Killed::Cancelled => "cancelled",
    });
    Execution {
        exit_code: ended.exit_code,
        stdout: String::new(),
        stderr: String::new(),
        duration_ms: ended.duration_ms,
        truncated: ended.truncated,
        artifacts: Vec::new(),
        killed: killed.map(str::to_owned),
        state_reset: ended.state_reset,
    }
}

fn language(of: CodeLanguage) -> Language {
    match of {
        CodeLanguage::Python => Language::Python,
        CodeLanguage::Nodejs => Language::Nodejs,
        CodeLanguage::Bash => Language::Bash,
    }
}

pub(crate) fn shown(language: Language) -> CodeLanguage {
    match language {
        Language::Python => CodeLanguage::Python,
        Language::Nodejs => CodeLanguage::Nodejs,
        Language::Bash => CodeLanguage::Bash,
    }
}
