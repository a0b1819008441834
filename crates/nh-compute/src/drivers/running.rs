use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nh_guest::protocol::{Killed, Prepare};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::cgroups::Cgroup;
use super::{HOME, Spec, StartError, USER, leftovers};
use crate::guest::Guest;

/// From the start of a driver's process until its guest is ready.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a guest may take to end by itself.
const END_LIMIT: Duration = Duration::from_secs(2);
/// Between looks for processes that were killed and are not gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
const LOOKS: u32 = 1000;

/// Bytes that are kept of what a driver says on its standard error.
const WORDS: usize = 2000;

/// A sandbox that was started. It is ended by [`Running::stop`]; one that is dropped is
/// killed, and what it leaves is removed when the driver is next opened.
pub struct Running {
    pub guest: Guest,
    child: Child,
    group: Option<Arc<Cgroup>>,
    directory: PathBuf,
    said: Arc<Mutex<Vec<u8>>>,
    hearing: Option<JoinHandle<()>>,
}

/// Tells what a sandbox takes, where the host counts it.
#[derive(Clone, Debug)]
pub struct Meter(Option<Arc<Cgroup>>);

impl Meter {
    /// Of processors, since it began.
    pub fn cpu_seconds(&self) -> Option<f64> {
        self.0.as_ref()?.cpu_seconds()
    }

    pub fn memory_bytes(&self) -> Option<u64> {
        self.0.as_ref()?.memory_bytes()
    }
}

/// How a sandbox came to its end before it was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The limit that ended it.
    pub killed: Option<Killed>,
}

impl Running {
    /// Starts the driver's process, and waits for the guest. `directory` is the sandbox's own.
    pub(super) async fn start(
        mut command: Command,
        package: &'static str,
        spec: &Spec,
        directory: &Path,
        group: Option<Cgroup>,
        tasks: &TaskTracker,
    ) -> Result<Self, StartError> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = match spawn(&mut command, group.as_ref()) {
            Ok(child) => child,
            Err(error) => {
                clear(group.as_ref(), directory).await?;
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
                    return Err(error.into());
                }
                let program = command.as_std().get_program().to_string_lossy().into_owned();
                return Err(StartError::NoProgram { program, package, error });
            }
        };
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a process without pipes").into());
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let hearing = child.stderr.take().map(|stderr| tasks.spawn(keep(stderr, said.clone())));
        let guest = Guest::connect(output, input, tasks);
        let group = group.map(Arc::new);
        let running = Self { guest, child, group, directory: directory.to_owned(), said, hearing };
        match timeout(START_LIMIT, running.guest.prepare(prepare(spec))).await {
            Ok(Ok(())) => Ok(running),
            Ok(Err(_)) => Err(StartError::Ended(running.fail().await?)),
            Err(_) => Err(StartError::Late(running.fail().await?)),
        }
    }

    /// What the driver said last; nothing is left of it.
    async fn fail(mut self) -> io::Result<String> {
        let (said, hearing) = (self.said.clone(), self.hearing.take());
        self.stop().await?;
        if let Some(hearing) = hearing {
            // All of it, unless something that is left holds it open.
            let _ = timeout(END_LIMIT, hearing).await;
        }
        let said = said.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(String::from_utf8_lossy(&said).trim().to_owned())
    }

    pub fn meter(&self) -> Meter {
        Meter(self.group.clone())
    }

    /// Waits until it ends without being stopped.
    pub async fn ended(&mut self) -> Ended {
        // An error: it was waited for already.
        let _ = self.child.wait().await;
        Ended { killed: self.group.as_ref().and_then(|group| group.killed()) }
    }

    /// Ends it, if it has not ended. No process, file or group of it is left.
    pub async fn stop(mut self) -> io::Result<()> {
        self.guest.close();
        if timeout(END_LIMIT, self.child.wait()).await.is_err() {
            self.child.start_kill()?;
        }
        clear(self.group.as_deref(), &self.directory).await?;
        let _ = self.child.wait().await;
        Ok(())
    }
}

/// Kills what is left of a sandbox, and removes its files and its group.
pub(super) async fn clear(group: Option<&Cgroup>, directory: &Path) -> io::Result<()> {
    let mut looks = 0;
    loop {
        let is_clear = match group {
            // A thread that is on its way out may still be in it.
            Some(group) => group.kill() && group.remove().is_ok(),
            None => leftovers::kill(directory),
        };
        if is_clear {
            break;
        }
        looks += 1;
        if looks > LOOKS {
            return Err(io::Error::other("processes of a sandbox do not end"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    match tokio::fs::remove_dir_all(directory).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn spawn(command: &mut Command, group: Option<&Cgroup>) -> io::Result<Child> {
    if let Some(group) = group {
        enter(command, group.entrances()?);
    }
    command.spawn()
}

/// What the guest is told first.
pub(crate) fn prepare(spec: &Spec) -> Prepare {
    Prepare {
        user: Some((USER, USER)),
        home: HOME.to_owned(),
        env: spec.env.clone(),
        max_processes: spec.limits.processes,
        max_memory: spec.limits.memory_bytes,
    }
}

/// Has the process that a command starts be in a group from its first instruction on.
#[allow(unsafe_code)]
fn enter(command: &mut Command, entrances: Vec<File>) {
    let enter = move || {
        for entrance in &entrances {
            rustix::io::write(entrance, b"0").map_err(io::Error::from)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it calls write(2) alone, which is safe there
    // (signal-safety(7)); it takes no lock and no memory.
    unsafe { command.pre_exec(enter) };
}

async fn keep(mut stderr: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut bytes = vec![0; WORDS];
    while let Ok(read @ 1..) = stderr.read(&mut bytes).await {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(&bytes[..read]);
        let too_many = said.len().saturating_sub(WORDS);
        said.drain(..too_many);
    }
}
