//! gVisor: a kernel in user space, by `runsc` (https://gvisor.dev/docs/).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::fs;
use tokio::process::Command;

use super::cgroups::Cgroup;
use super::host::Host;
use super::running::{Launch, clear};
use super::{GUEST, HOME, Running, Spec, StartError, probe};

/// How `runsc` takes system calls from what runs inside, the fastest first. Debian 12's
/// knows only the second.
const PLATFORMS: [&str; 2] = ["systrap", "ptrace"];

const PACKAGE: &str = "Debian's package runsc, or gVisor";

/// The driver, on a host where it was shown to work.
#[derive(Clone, Debug)]
pub struct Gvisor {
    host: Arc<Host>,
    /// `runsc`, by name or by path.
    program: PathBuf,
    platform: &'static str,
}

impl Gvisor {
    /// Starts a sandbox to see whether this host can. An error says what is missing.
    pub(super) async fn open(host: Arc<Host>, program: PathBuf) -> Result<Self, StartError> {
        let mut driver = Self { host, program, platform: PLATFORMS[0] };
        let mut last = StartError::Ended("no platform of runsc was tried".to_owned());
        for platform in PLATFORMS {
            driver.platform = platform;
            match driver.start(&probe(driver.host.nothing())).await {
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

    pub(super) async fn start(&self, spec: &Spec) -> Result<Running, StartError> {
        let directory = self.host.make_place(&spec.id).await?;
        let group = match self.fill(spec, &directory).await {
            Ok(group) => group,
            Err(error) => {
                clear(None, &directory).await?;
                return Err(error.into());
            }
        };
        let mut command = Command::new(&self.program);
        command
            .arg("--root")
            .arg(directory.join("state"))
            .args(["--platform", self.platform, "--network", "none", "--ignore-cgroups", "run", "--bundle"])
            .arg(&directory)
            // The host's other hubs have names for theirs too.
            .arg(format!("{}-{}", self.host.name(), spec.id));
        let launch = Launch::new(command, PACKAGE, directory, group);
        launch.start(&self.host).await?.ready(spec, None).await
    }

    /// What a sandbox has before it is started: its bundle, and its group where there are any.
    async fn fill(&self, spec: &Spec, directory: &Path) -> io::Result<Option<Cgroup>> {
        let bundle = bundle(spec, &self.host.guest_folder()).to_string();
        fs::write(directory.join("config.json"), bundle).await?;
        self.host.make_group(&spec.id, &spec.limits)
    }
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
        },
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            files("/dev/shm", vec!["mode=1777".to_owned(), format!("size={disk}")]),
            files("/tmp", vec!["mode=1777".to_owned(), format!("size={disk}")]),
            files(HOME, vec!["mode=755".to_owned(), format!("size={disk}")]),
            {"destination": GUEST, "type": "bind", "source": guest, "options": ["bind", "ro"]},
        ],
        "linux": {
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
        },
    })
}
