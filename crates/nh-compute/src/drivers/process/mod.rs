//! A process of the host, by bubblewrap (`bwrap(1)`): namespaces, a filter of system calls
//! and few capabilities keep it apart, but it speaks with the host's own kernel.

mod filter;

use std::io;
use std::sync::Arc;

use tokio::process::Command;

use super::host::{self, Host};
use super::running::{Launch, clear};
use super::{GUEST, HOME, Running, Spec, StartError, probe};

const PROGRAM: &str = "bwrap";
const PACKAGE: &str = "Debian's package bubblewrap";

/// What the guest needs to run others as another user, and to kill them.
const CAPABILITIES: [&str; 6] =
    ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];

/// The driver, on a host where it was shown to work.
#[derive(Clone, Debug)]
pub struct Process {
    host: Arc<Host>,
}

impl Process {
    /// Starts a sandbox to see whether this host can. An error says what is missing.
    pub(super) async fn open(host: Arc<Host>) -> Result<Self, StartError> {
        if !rustix::process::geteuid().is_root() {
            return Err(
                io::Error::other("the hub must be root to run what is inside as somebody else").into()
            );
        }
        if !host.has_groups() {
            return Err(
                io::Error::other("without control groups nothing holds a process to its limits").into()
            );
        }
        let driver = Self { host };
        driver.start(&probe(driver.host.nothing())).await?.stop().await?;
        tracing::warn!(
            "sandboxes are processes of this host, kept apart by its own kernel alone; it is no place for \
             code of strangers"
        );
        Ok(driver)
    }

    pub(super) async fn start(&self, spec: &Spec) -> Result<Running, StartError> {
        let directory = self.host.make_place(&spec.id).await?;
        let made =
            filter::file().and_then(|filter| Ok((filter, self.host.make_group(&spec.id, &spec.limits)?)));
        let (filter, group) = match made {
            Ok(made) => made,
            Err(error) => {
                clear(None, &directory).await?;
                return Err(error.into());
            }
        };
        let disk = spec.limits.disk_bytes.to_string();
        let mut command = Command::new(PROGRAM);
        command
            // For who looks for processes that this sandbox left.
            .arg("--setenv")
            .arg("PLACE")
            .arg(&directory)
            .arg("--clearenv")
            .args([
                "--unshare-ipc",
                "--unshare-pid",
                "--unshare-net",
                "--unshare-uts",
                "--unshare-cgroup-try",
            ])
            .args(["--hostname", "sandbox", "--new-session", "--as-pid-1", "--cap-drop", "ALL"])
            .args(CAPABILITIES.iter().flat_map(|capability| ["--cap-add", capability]))
            .arg("--ro-bind")
            .arg(&spec.root)
            .arg("/")
            .args(["--proc", "/proc", "--dev", "/dev"])
            .args(["--size", &disk, "--perms", "1777", "--tmpfs", "/dev/shm"])
            .args(["--size", &disk, "--perms", "1777", "--tmpfs", "/tmp"])
            .args(["--size", &disk, "--perms", "0755", "--tmpfs", HOME])
            .arg("--ro-bind")
            .arg(self.host.guest_folder())
            .arg(GUEST)
            .arg("--seccomp")
            .arg(std::os::fd::AsRawFd::as_raw_fd(&filter).to_string())
            .arg("--")
            .arg(format!("{GUEST}/guest"));
        let mut launch = Launch::new(command, PACKAGE, directory, group);
        launch.inherited.push(filter);
        // What users may have at once no other sandbox takes from this one.
        launch.inside = host::user(&spec.id);
        launch.start(&self.host).await?.ready(spec, None).await
    }
}
