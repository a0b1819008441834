//! What every driver has of its host: a directory for sandboxes that is this hub's alone,
//! control groups, and the program for the inside of sandboxes.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nh_types::SharedClock;
use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cgroups::{Cgroup, Cgroups};
use super::running::clear;
use super::{IMAGE, Limits, make_folders};
use crate::guest::PROGRAM;

const LOCK_TRIES: u32 = 20;
const LOCK_AGAIN: Duration = Duration::from_millis(20);

/// What a hub gives its driver.
pub struct HostSetup {
    /// The hub's own, for sandboxes.
    pub directory: PathBuf,
    pub tasks: TaskTracker,
    pub clock: SharedClock,
    /// The hub stops: what is being started is given up.
    pub stopping: CancellationToken,
}

pub(super) struct Host {
    directory: PathBuf,
    groups: Option<Cgroups>,
    pub(super) tasks: TaskTracker,
    pub(super) clock: SharedClock,
    /// Nothing more is to be started.
    pub(super) stopping: CancellationToken,
    /// On the directory, so that nobody else clears it.
    _lock: File,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Host {
    /// Removes what another hub left in the directory.
    pub(super) async fn open(setup: HostSetup) -> io::Result<Self> {
        let HostSetup { directory, tasks, clock, stopping } = setup;
        fs::create_dir_all(directory.join("sandboxes")).await?;
        let directory = fs::canonicalize(directory).await?;
        let lock = lock(&directory).await?;
        let groups = Cgroups::open(&name(&directory));
        if let Err(error) = &groups {
            tracing::warn!(
                %error,
                "no control groups: sandboxes are held to processes and memory from inside alone, and what \
                 they keep in files and pipes is not counted"
            );
        }
        let host = Self { directory, groups: groups.ok(), tasks, clock, stopping, _lock: lock };
        host.clear_all().await?;
        // As an older release may have made it.
        remove(&host.nothing().with_extension(IMAGE)).await?;
        make_folders(&host.nothing()).await?;
        host.put_guest().await?;
        Ok(host)
    }

    /// Of the hub that has this directory, for what has one name on the whole host.
    pub(super) fn name(&self) -> String {
        name(&self.directory)
    }

    /// A directory of the hub's, which may not be there yet.
    pub(super) fn folder(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A system of no program, to see whether a sandbox can be started.
    pub(super) fn nothing(&self) -> PathBuf {
        self.folder("nothing")
    }

    /// The folder that has the program for the inside as `guest`, and no other file.
    pub(super) fn guest_folder(&self) -> PathBuf {
        self.folder("guest")
    }

    /// The folder of a sandbox that is to be. An error: one of this id is there.
    pub(super) async fn make_place(&self, id: &str) -> io::Result<PathBuf> {
        let directory = self.folder("sandboxes").join(id);
        fs::create_dir(&directory).await?;
        Ok(directory)
    }

    pub(super) fn has_groups(&self) -> bool {
        self.groups.is_some()
    }

    /// Its control group, where there are any.
    pub(super) fn make_group(&self, id: &str, limits: &Limits) -> io::Result<Option<Cgroup>> {
        self.groups.as_ref().map(|groups| groups.create(id, limits)).transpose()
    }

    /// Of a hub that was killed.
    async fn clear_all(&self) -> io::Result<()> {
        let sandboxes = self.folder("sandboxes");
        for group in self.groups.iter().flat_map(Cgroups::all) {
            clear(Some(&group), &sandboxes.join("none")).await?;
        }
        clear(None, &sandboxes).await?;
        fs::create_dir_all(&sandboxes).await
    }

    async fn put_guest(&self) -> io::Result<()> {
        let folder = self.guest_folder();
        fs::create_dir_all(&folder).await?;
        let (under, path) = (folder.join("guest.new"), folder.join("guest"));
        // Piece by piece: written at once, all of it is copied to memory that is kept.
        let mut file = fs::File::create(&under).await?;
        file.set_max_buf_size(PIECE_BYTES);
        file.write_all(PROGRAM).await?;
        file.flush().await?;
        drop(file);
        fs::set_permissions(&under, PermissionsExt::from_mode(0o555)).await?;
        fs::rename(&under, &path).await
    }
}

const PIECE_BYTES: usize = 64 * 1024;

/// Users of the host that nobody has: a sandbox has one of them.
const FIRST_USER: u32 = 0x7000_0000;

/// Of the sandbox of this id.
pub(super) fn user(id: &str) -> u32 {
    let hash = Sha256::digest(id);
    FIRST_USER + u32::from_be_bytes([0, hash[0], hash[1], hash[2]])
}

async fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A program that a hub was just starting may have the lock for a moment after it.
async fn lock(directory: &Path) -> io::Result<File> {
    let file = File::create(directory.join("lock"))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_AGAIN).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::other(format!("another process has its sandboxes in {}", directory.display())))
}

fn name(directory: &Path) -> String {
    let hash = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("hub-{short}")
}
