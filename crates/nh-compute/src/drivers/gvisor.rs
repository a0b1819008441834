//! gVisor: a kernel in user space, by `runsc` (https://gvisor.dev/docs/).

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::fs;
use tokio::process::Command;
use tokio_util::task::TaskTracker;

use super::cgroups::{Cgroup, Cgroups};
use super::running::clear;
use super::{HOME, Limits, Running, Spec, StartError, USER};
use crate::guest::PROGRAM;

/// How `runsc` takes system calls from what runs inside, the fastest first. Debian 12's
/// knows only the second.
const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];

/// Where the guest is inside.
const GUEST: &str = "/.neuralhub";

const PACKAGE: &str = "Debian's package runsc, or gVisor";

/// What a driver is opened with.
#[derive(Clone, Debug)]
pub struct GvisorSetup {
    /// `runsc`, by name or by path.
    pub program: PathBuf,
    /// The hub's own, for sandboxes.
    pub directory: PathBuf,
    pub tasks: TaskTracker,
}

/// The driver, on a host where it was shown to work.
#[derive(Clone, Debug)]
pub struct Gvisor {
    setup: GvisorSetup,
    platform: &'static str,
    groups: Option<Cgroups>,
    /// On the directory, so that nobody else clears it.
    _lock: Arc<File>,
}

impl Gvisor {
    /// Removes what another hub left in the directory, and starts a sandbox to see
    /// whether this host can. An error says what is missing.
    pub async fn open(mut setup: GvisorSetup) -> Result<Self, StartError> {
        fs::create_dir_all(setup.directory.join("sandboxes")).await?;
        fs::create_dir_all(setup.directory.join("empty")).await?;
        setup.directory = fs::canonicalize(&setup.directory).await?;
        let lock = lock(&setup.directory)?;
        let groups = Cgroups::open(&name(&setup.directory));
        if let Err(error) = &groups {
            tracing::warn!(
                %error,
                "no control groups: sandboxes are held to processes and memory from inside alone, and what \
                 they keep in files and pipes is not counted"
            );
        }
        let mut driver = Self { groups: groups.ok(), setup, platform: PLATFORMS[0], _lock: Arc::new(lock) };
        driver.clear_all().await?;
        driver.put_guest().await?;
        let limits = Limits { memory_bytes: 256 << 20, cpus: 1.0, processes: 8, disk_bytes: 1 << 20 };
        let (root, env) = (driver.setup.directory.join("empty"), BTreeMap::new());
        let probe = Spec { id: "probe".to_owned(), root, env, limits };
        let mut last = StartError::Ended("no platform of runsc was tried".to_owned());
        for platform in PLATFORMS {
            driver.platform = platform;
            match driver.start(&probe).await {
                Ok(running) => {
                    running.stop().await?;
                    tracing::info!(platform, "sandboxes are isolated by gVisor");
                    return Ok(driver);
                }
                Err(error @ StartError::NoProgram { .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub async fn start(&self, spec: &Spec) -> Result<Running, StartError> {
        let directory = self.setup.directory.join("sandboxes").join(&spec.id);
        // An error: one of this id is there.
        fs::create_dir(&directory).await?;
        let group = match self.fill(spec, &directory).await {
            Ok(group) => group,
            Err(error) => {
                clear(None, &directory).await?;
                return Err(error.into());
            }
        };
        let mut command = Command::new(&self.setup.program);
        command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .arg("--root")
            .arg(directory.join("state"))
            .args(["--platform", self.platform, "--network", "none", "--ignore-cgroups", "run", "--bundle"])
            .arg(&directory)
            // The host's other hubs have names for theirs too.
            .arg(format!("{}-{}", name(&self.setup.directory), spec.id));
        Running::start(command, PACKAGE, spec, &directory, group, &self.setup.tasks).await
    }

    /// What a sandbox has before it is started: its bundle, and its group where there are any.
    async fn fill(&self, spec: &Spec, directory: &Path) -> io::Result<Option<Cgroup>> {
        let bundle = bundle(spec, &self.guest_directory()).to_string();
        fs::write(directory.join("config.json"), bundle).await?;
        self.groups.as_ref().map(|groups| groups.create(&spec.id, &spec.limits)).transpose()
    }

    /// Of a hub that was killed.
    async fn clear_all(&self) -> io::Result<()> {
        let sandboxes = self.setup.directory.join("sandboxes");
        for group in self.groups.iter().flat_map(Cgroups::all) {
            clear(Some(&group), &sandboxes.join("none")).await?;
        }
        clear(None, &sandboxes).await?;
        fs::create_dir_all(&sandboxes).await
    }

    fn guest_directory(&self) -> PathBuf {
        self.setup.directory.join("guest")
    }

    async fn put_guest(&self) -> io::Result<()> {
        let directory = self.guest_directory();
        fs::create_dir_all(&directory).await?;
        let (under, path) = (directory.join("guest.new"), directory.join("guest"));
        fs::write(&under, PROGRAM).await?;
        fs::set_permissions(&under, PermissionsExt::from_mode(0o555)).await?;
        fs::rename(&under, &path).await
    }
}

fn lock(directory: &Path) -> io::Result<File> {
    let file = File::create(directory.join("lock"))?;
    let taken = format!("another process has its sandboxes in {}", directory.display());
    file.try_lock().map_err(|_| io::Error::other(taken))?;
    Ok(file)
}

/// Of the hub that has this directory, for its control groups and containers.
fn name(directory: &Path) -> String {
    let hash = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    let short: String = hash.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("hub-{short}")
}

/// The container as `config.json` tells it: the OCI runtime specification, 1.0.2.
fn bundle(spec: &Spec, guest: &Path) -> Value {
    // What the guest needs to run others as another user, and to kill them.
    let capabilities =
        ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];
    let disk = spec.limits.disk_bytes;
    let files = |destination: &str, options: Vec<String>| {
        json!({
            "destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options,
        })
    };
    json!({
        "ociVersion": "1.0.2",
        "hostname": "sandbox",
        "root": {"path": spec.root, "readonly": true},
        "process": {
            "args": [format!("{GUEST}/guest")],
            "cwd": "/",
            "user": {"uid": 0, "gid": 0},
            "noNewPrivileges": true,
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096},
                {"type": "RLIMIT_CORE", "hard": 0, "soft": 0},
            ],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            files("/tmp", vec!["mode=1777".to_owned(), format!("size={disk}")]),
            files(HOME, vec![
                "mode=755".to_owned(), format!("uid={USER}"), format!("gid={USER}"), format!("size={disk}"),
            ]),
            {"destination": GUEST, "type": "bind", "source": guest, "options": ["bind", "ro"]},
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
        },
    })
}
