use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nh_guest::protocol::{Killed, Prepare, Renewal};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Gid, Uid};
use rustix::thread::{
    UnshareFlags, set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cgroups::Cgroup;
use super::host::Host;
use super::{HOME, Spec, StartError, USER, leftovers};
use crate::guest::{Guest, GuestError};

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
    said: Said,
    hearing: Option<JoinHandle<()>>,
    ends_itself: bool,
    inside: u32,
    limit: Duration,
    stopping: CancellationToken,
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

/// The process that a sandbox is to be.
pub(super) struct Launch {
    command: Command,
    /// What to install where it is missing.
    package: &'static str,
    directory: PathBuf,
    group: Option<Cgroup>,
    /// Descriptors that the process has too, under the same numbers.
    pub(super) inherited: Vec<OwnedFd>,
    /// Who it is on the host; absent: who the hub is.
    pub(super) user: Option<(Uid, Gid)>,
    /// Whether it ends by itself once its guest does, and should.
    pub(super) ends_itself: bool,
    /// Who what is inside is on the host.
    pub(super) inside: u32,
    /// Until its guest is ready.
    pub(super) limit: Duration,
}

impl Launch {
    /// `directory` is the sandbox's own.
    pub(super) fn new(
        mut command: Command,
        package: &'static str,
        directory: PathBuf,
        group: Option<Cgroup>,
    ) -> Self {
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let (inherited, user) = (Vec::new(), None);
        Self {
            command,
            package,
            directory,
            group,
            inherited,
            user,
            ends_itself: true,
            inside: USER,
            limit: START_LIMIT,
        }
    }

    pub(super) async fn start(mut self, host: &Host) -> Result<Running, StartError> {
        let tasks = &host.tasks;
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => {
                clear(self.group.as_ref(), &self.directory).await?;
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) {
                    return Err(error.into());
                }
                let program = self.command.as_std().get_program().to_string_lossy().into_owned();
                return Err(StartError::NoProgram { program, package: self.package, error });
            }
        };
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a process without pipes").into());
        };
        let said = Said::default();
        let hearing = child.stderr.take().map(|stderr| tasks.spawn(said.clone().hear(stderr)));
        let guest = Guest::connect(output, input, tasks);
        let (group, directory) = (self.group.map(Arc::new), self.directory);
        let (ends_itself, inside, limit) = (self.ends_itself, self.inside, self.limit);
        let stopping = host.stopping.clone();
        Ok(Running { guest, child, group, directory, said, hearing, ends_itself, inside, limit, stopping })
    }

    fn spawn(&mut self) -> io::Result<Child> {
        let entrances = self.group.as_ref().map(Cgroup::entrances).transpose()?.unwrap_or_default();
        enter(&mut self.command, entrances, std::mem::take(&mut self.inherited), self.user);
        self.command.spawn()
    }
}

impl Running {
    /// Waits for the guest.
    pub(super) async fn ready(self, spec: &Spec, renewal: Option<Renewal>) -> Result<Self, StartError> {
        let told = tokio::select! {
            told = timeout(self.limit, self.guest.prepare(Prepare { renewal, ..self.prepare(spec) })) => told,
            () = self.stopping.cancelled() => {
                self.stop().await?;
                return Err(StartError::Stopping);
            }
        };
        match told {
            Ok(Ok(())) => Ok(self),
            Ok(Err(error)) => {
                let said = self.fail().await?;
                Err(StartError::Ended(if said.is_empty() { error.to_string() } else { said }))
            }
            Err(_) => Err(StartError::Late(self.fail().await?)),
        }
    }

    /// Has what begins from now on be as `spec` says.
    pub(crate) async fn tell(&self, spec: &Spec) -> Result<(), GuestError> {
        self.guest.prepare(self.prepare(spec)).await
    }

    fn prepare(&self, spec: &Spec) -> Prepare {
        Prepare {
            user: Some((self.inside, self.inside)),
            home: HOME.to_owned(),
            env: spec.env.clone(),
            max_processes: spec.limits.processes,
            max_memory: spec.limits.memory_bytes,
            renewal: None,
        }
    }

    /// What the driver said last; nothing is left of it.
    pub(super) async fn fail(mut self) -> io::Result<String> {
        let (said, hearing) = (self.said.clone(), self.hearing.take());
        self.stop().await?;
        if let Some(hearing) = hearing {
            // All of it, unless something that is left holds it open.
            let _ = timeout(END_LIMIT, hearing).await;
        }
        Ok(said.text())
    }

    /// Keeps what is said there beside what its process says.
    pub(super) fn hear(&self, from: impl AsyncRead + Send + Unpin + 'static, tasks: &TaskTracker) {
        tasks.spawn(self.said.clone().hear(from));
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
        if !self.ends_itself || timeout(END_LIMIT, self.child.wait()).await.is_err() {
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

/// Has the process that a command starts be in a group from its first instruction on,
/// have descriptors, and be somebody else, who has no network.
#[allow(unsafe_code)]
fn enter(command: &mut Command, entrances: Vec<File>, inherited: Vec<OwnedFd>, user: Option<(Uid, Gid)>) {
    let enter = move || {
        for entrance in &entrances {
            rustix::io::write(entrance, b"0")?;
        }
        for descriptor in &inherited {
            fcntl_setfd(descriptor, FdFlags::empty())?;
        }
        if let Some((uid, gid)) = user {
            // SAFETY: this process has no other thread. Where the host does not let it, who it
            // is has to do.
            let _ = unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWIPC) };
            set_thread_groups(&[])?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls alone, which is safe there
    // (signal-safety(7)); it takes no lock and no memory.
    unsafe { command.pre_exec(enter) };
}

/// The last words of a process, for whoever has to be told why it ended.
#[derive(Clone, Default)]
pub(super) struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    pub(super) async fn hear(self, mut from: impl AsyncRead + Unpin) {
        let mut bytes = vec![0; WORDS];
        while let Ok(read @ 1..) = from.read(&mut bytes).await {
            let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            said.extend_from_slice(&bytes[..read]);
            let too_many = said.len().saturating_sub(WORDS);
            said.drain(..too_many);
        }
    }

    fn text(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).trim().to_owned()
    }
}
