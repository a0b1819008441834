//! What isolates a sandbox from its host. Whatever the driver, a sandbox is a process
//! that the hub starts, with a [`Guest`](crate::guest::Guest) on its standard input and
//! output, below a directory of its own, and in a control group where the host lets the
//! hub make some.

mod cgroups;
mod gvisor;
mod host;
mod leftovers;
pub(crate) mod microvm;
mod process;
mod running;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::guest::GuestError;
use crate::settings::{ComputeSettings, DriverChoice};
use nh_types::sandbox::Isolation;

pub use gvisor::Gvisor;
use host::Host;
pub use host::HostSetup;
pub use microvm::{Microvm, Snapshot};
pub use process::Process;
pub use running::{Ended, Meter, Running};

/// What isolates sandboxes, shown to work on this host. Clones are the same.
#[derive(Clone, Debug)]
pub enum Driver {
    Microvm(Microvm),
    Gvisor(Gvisor),
    Process(Process),
}

impl Driver {
    /// Removes what another hub left in the same directory, and starts a sandbox with what
    /// is chosen. `kernel` is of virtual machines, where it is
    /// built. An error says what is missing, for people.
    pub async fn open(
        settings: &ComputeSettings,
        kernel: Option<&Path>,
        setup: HostSetup,
    ) -> Result<Self, String> {
        let host = Arc::new(Host::open(setup).await.map_err(|error| error.to_string())?);
        let gvisor = || async {
            let opened = Gvisor::open(host.clone(), settings.runsc.clone()).await;
            opened.map(Self::Gvisor).map_err(|error| format!("gvisor: {error}"))
        };
        let microvm = |is_emulated| {
            let host = host.clone();
            async move {
                let opened = Microvm::open(host, kernel, is_emulated).await;
                opened.map(Self::Microvm).map_err(|error| format!("microvm: {error}"))
            }
        };
        match settings.driver {
            DriverChoice::Off => Err("[compute] driver is `off`".to_owned()),
            DriverChoice::Gvisor => gvisor().await,
            DriverChoice::Process if !settings.allow_process => Err("process: it shares the host's kernel \
                 with what runs inside, so it needs leave: set [compute] allow_process = true where you \
                 trust all who use this hub"
                .to_owned()),
            DriverChoice::Process => {
                Process::open(host).await.map(Self::Process).map_err(|error| format!("process: {error}"))
            }
            DriverChoice::Microvm => match microvm(false).await {
                Ok(driver) => Ok(driver),
                Err(reason) => {
                    tracing::warn!(reason, "virtual machines are emulated, which is slow");
                    microvm(true).await
                }
            },
            DriverChoice::Auto => {
                let helped = match microvm(false).await {
                    Ok(driver) => return Ok(driver),
                    Err(reason) => reason,
                };
                let gvisor = match gvisor().await {
                    Ok(driver) => {
                        tracing::info!(reason = helped, "gVisor was taken, as what is better cannot be had");
                        return Ok(driver);
                    }
                    Err(reason) => reason,
                };
                match microvm(true).await {
                    Ok(driver) => {
                        tracing::warn!(reasons = %format!("{helped}; {gvisor}"), "virtual machines are emulated, which is slow");
                        Ok(driver)
                    }
                    Err(emulated) if emulated == helped => Err(format!("{helped}; {gvisor}")),
                    Err(emulated) => Err(format!("{helped}; {gvisor}; {emulated}")),
                }
            }
        }
    }

    /// Whether [`Driver::open`] would use a kernel if there were one.
    pub fn uses_kernel(settings: &ComputeSettings) -> bool {
        match settings.driver {
            DriverChoice::Microvm => true,
            DriverChoice::Auto => microvm::is_installed(),
            DriverChoice::Gvisor | DriverChoice::Process | DriverChoice::Off => false,
        }
    }

    pub fn isolation(&self) -> Isolation {
        match self {
            Self::Microvm(microvm) if microvm.is_emulated() => Isolation::MicrovmEmulated,
            Self::Microvm(_) => Isolation::Microvm,
            Self::Gvisor(_) => Isolation::Gvisor,
            Self::Process(_) => Isolation::Process,
        }
    }

    /// From nothing.
    pub async fn start(&self, spec: &Spec) -> Result<Running, StartError> {
        match self {
            Self::Microvm(driver) => driver.start(spec).await,
            Self::Gvisor(driver) => driver.start(spec).await,
            Self::Process(driver) => driver.start(spec).await,
        }
    }
}

/// A sandbox that is to be.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Lower-case letters, digits and `-`.
    pub id: String,
    /// The files that it begins with, which it cannot change and others have too. It has
    /// the folders [`FOLDERS`].
    pub root: PathBuf,
    /// For all that runs in it.
    pub env: BTreeMap<String, String>,
    pub limits: Limits,
}

/// What a sandbox may have at most.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    pub memory_bytes: u64,
    pub cpus: f32,
    pub processes: u32,
    /// Of its home folder, and as many of `/tmp`; they count as memory too.
    pub disk_bytes: u64,
}

/// Where what runs in a sandbox begins, and what it may write to beside `/tmp`.
pub const HOME: &str = "/home/user";

/// User and group of what runs in a sandbox; the guest itself is root there.
pub const USER: u32 = 1000;

/// Where the program for the inside is, in sandboxes that share the host's files.
const GUEST: &str = "/.neuralhub";

/// The extension of the disk that a machine has of a template's files, beside them.
const IMAGE: &str = "erofs";

/// What a sandbox's files must have, for others to be mounted there.
pub const FOLDERS: [&str; 5] = [GUEST, "/proc", "/dev", "/tmp", HOME];

/// Whether the host has a program.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// One that is started to see whether the host can.
fn probe(root: PathBuf) -> Spec {
    let limits = Limits { memory_bytes: 256 << 20, cpus: 1.0, processes: 8, disk_bytes: 1 << 20 };
    Spec { id: "probe".to_owned(), root, env: BTreeMap::new(), limits }
}

/// Makes [`FOLDERS`] in files that a sandbox is to begin with.
pub async fn make_folders(root: &Path) -> io::Result<()> {
    for folder in FOLDERS {
        tokio::fs::create_dir_all(root.join(folder.trim_start_matches('/'))).await?;
    }
    Ok(())
}

/// Why a sandbox could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the program `{program}` cannot be started ({error}); install {package}")]
    NoProgram { program: String, package: &'static str, error: io::Error },
    #[error("{0}")]
    Files(#[from] io::Error),
    /// The driver's own last words.
    #[error("the sandbox ended before it was ready: {0}")]
    Ended(String),
    #[error("the sandbox was not ready in time: {0}")]
    Late(String),
    #[error("the hub is stopping")]
    Stopping,
    #[error(transparent)]
    Guest(#[from] GuestError),
}
