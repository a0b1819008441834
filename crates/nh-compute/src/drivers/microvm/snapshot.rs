//! A machine that was saved. Its memory is a file that nobody can write to any more, whose
//! pages copies share; what is more of it, a few hundred kilobytes, is told to each copy.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::monitor::Monitor;
use crate::drivers::{Limits, Spec};

/// For a state to be told, either way.
const LIMIT: Duration = Duration::from_secs(60);

/// Of a state; more is none.
const MAX_STATE: u64 = 64 << 20;

/// Clones are the same.
#[derive(Clone)]
pub struct Snapshot {
    root: PathBuf,
    limits: Limits,
    memory: Arc<OwnedFd>,
    state: Arc<[u8]>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("root", &self.root).field("limits", &self.limits).finish()
    }
}

impl Snapshot {
    pub(super) fn new(spec: &Spec, memory: OwnedFd, state: Vec<u8>) -> io::Result<Self> {
        fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let (root, limits) = (spec.root.clone(), spec.limits);
        Ok(Self { root, limits, memory: Arc::new(memory), state: state.into() })
    }

    /// Whether a copy would be such a sandbox.
    pub fn is_of(&self, spec: &Spec) -> bool {
        self.root == spec.root && self.limits == spec.limits
    }

    pub(super) fn memory(&self) -> io::Result<OwnedFd> {
        self.memory.try_clone()
    }

    pub(super) fn state(&self) -> &[u8] {
        &self.state
    }
}

/// For a machine that is to be saved.
pub(super) fn new_memory(bytes: u64) -> io::Result<OwnedFd> {
    let memory = memfd_create("machine", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&memory, bytes)?;
    Ok(memory)
}

/// The name that QEMU knows the way of a state by.
const STATE: &str = "state";

/// The state of a machine, which stands still afterwards.
pub(super) async fn save(monitor: UnixStream) -> io::Result<Vec<u8>> {
    let work = async {
        let (mut monitor, state) = begin(monitor).await?;
        monitor.command("migrate", json!({"uri": format!("fd:{STATE}")})).await?;
        let mut bytes = Vec::new();
        state.take(MAX_STATE).read_to_end(&mut bytes).await?;
        let status = monitor.command("query-migrate", json!({})).await?;
        match status["status"] == "completed" {
            true => Ok(bytes),
            false => Err(io::Error::other(format!("QEMU could not save a machine: {status}"))),
        }
    };
    timeout(LIMIT, work).await.map_err(|_| io::Error::other("QEMU took too long"))?
}

/// Has a machine run on from a state.
pub(super) async fn restore(monitor: UnixStream, bytes: &[u8]) -> io::Result<()> {
    let work = async {
        let (mut monitor, mut state) = begin(monitor).await?;
        monitor.command("migrate-incoming", json!({"uri": format!("fd:{STATE}")})).await?;
        state.write_all(bytes).await?;
        state.shutdown().await
    };
    timeout(LIMIT, work).await.map_err(|_| io::Error::other("QEMU took too long"))?
}

/// Memory that is a file is not told: it is there.
async fn begin(monitor: UnixStream) -> io::Result<(Monitor, UnixStream)> {
    let mut monitor = Monitor::open(monitor).await?;
    let memory = json!({"capabilities": [{"capability": "x-ignore-shared", "state": true}]});
    monitor.command("migrate-set-capabilities", memory).await?;
    let (state, its_state) = std::os::unix::net::UnixStream::pair()?;
    monitor.give(its_state.into(), STATE).await?;
    state.set_nonblocking(true)?;
    Ok((monitor, UnixStream::from_std(state)?))
}
