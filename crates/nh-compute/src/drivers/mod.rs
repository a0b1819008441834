//! What isolates a sandbox from its host. Whatever the driver, a sandbox is a process
//! that the hub starts, with a [`Guest`](crate::guest::Guest) on its standard input and
//! output, below a directory of its own, and in a control group where the host lets the
//! hub make some.

mod cgroups;
mod gvisor;
mod leftovers;
mod running;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::guest::GuestError;

pub use gvisor::{Gvisor, GvisorSetup};
pub(crate) use running::prepare;
pub use running::{Ended, Meter, Running};

/// A sandbox that is to be.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Lower-case letters, digits and `-`.
    pub id: String,
    /// The files that it begins with, which it cannot change and others have too.
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
    #[error(transparent)]
    Guest(#[from] GuestError),
}
