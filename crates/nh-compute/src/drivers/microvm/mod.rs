//! A virtual machine, by QEMU: with the processor's help (KVM), or emulated (TCG), which is
//! slower and which QEMU does not promise to be as tight. Copies of a machine that was saved
//! once it was ready start in a fraction of a second, and share its memory until they
//! write to it.

mod initramfs;
mod machine;
mod monitor;
mod snapshot;

use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nh_guest::protocol::Renewal;
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::host::Host;
use super::running::clear;
use super::{IMAGE, Limits, Running, Spec, StartError, probe};
use machine::{Machine, Memory};
pub use snapshot::Snapshot;

/// What a driver finds in the folder of a kernel, beside [`MODULES`].
pub(crate) const KERNEL: &str = "vmlinuz";
pub(crate) const MODULES: &str = "modules";

/// Where a host's verdict is, on whether its processor helps.
const REFUSED: &str = "kvm-refused";
const KVM: &str = "/dev/kvm";

/// For a machine to be ready: one that is helped either is soon, or never.
const HELPED_LIMIT: Duration = Duration::from_secs(15);
const EMULATED_LIMIT: Duration = Duration::from_secs(120);

/// For a disk to be made.
const IMAGE_LIMIT: Duration = Duration::from_secs(300);

/// The driver, on a host where it was shown to work. Clones are the same.
#[derive(Clone, Debug)]
pub struct Microvm(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: Arc<Host>,
    is_emulated: bool,
    kernel: PathBuf,
    initramfs: PathBuf,
    /// Images are made one after the other.
    images: Mutex<()>,
}

/// Whether this host has the program.
pub(super) fn is_installed() -> bool {
    machine::find().is_ok()
}

impl Microvm {
    /// Starts a machine to see whether this host can. An error says what is missing.
    pub(super) async fn open(
        host: Arc<Host>,
        kernel: Option<&Path>,
        is_emulated: bool,
    ) -> Result<Self, StartError> {
        let missing = |what: &str| StartError::Files(io::Error::other(what.to_owned()));
        if std::env::consts::ARCH != "x86_64" {
            return Err(missing("its machines are of x86_64 alone"));
        }
        machine::find()?;
        let kernel = kernel.ok_or_else(|| {
            missing(
                "its kernel is not there yet: `neuralhub templates build` fetches it, with the hub's own --config \
                 and --data-dir",
            )
        })?;
        let boot = boot();
        let refused = kernel.join(REFUSED);
        if !is_emulated {
            if !Path::new(KVM).exists() {
                return Err(missing("this host has no /dev/kvm"));
            }
            if fs::read_to_string(&refused).is_ok_and(|of| of == boot) {
                let why = "/dev/kvm is there, but no machine was ready in time with it; to try again, remove";
                return Err(missing(&format!("{why} {}", refused.display())));
            }
        }
        let initramfs = initramfs::make(kernel, &host.folder("machine"))?;
        let (kernel, images) = (kernel.join(KERNEL), Mutex::default());
        let driver = Self(Arc::new(Inner { host, is_emulated, kernel, initramfs, images }));
        match driver.start(&probe(driver.0.host.nothing())).await {
            Ok(running) => running.stop().await?,
            Err(error) => {
                // Others are told at once, and are heard again the next time.
                if !is_emulated && matches!(error, StartError::Late(_)) {
                    // Where others build templates, each hub finds out by itself.
                    let _ = fs::write(refused, boot);
                }
                return Err(error);
            }
        }
        tracing::info!(is_emulated, "sandboxes are isolated by virtual machines");
        Ok(driver)
    }

    pub fn is_emulated(&self) -> bool {
        self.0.is_emulated
    }

    pub(super) async fn start(&self, spec: &Spec) -> Result<Running, StartError> {
        let (running, _) = self.launch(spec, Memory::Own).await?;
        running.ready(spec, None).await
    }

    /// Starts a machine to copy: `warm` makes it what copies are to be.
    pub async fn save(
        &self,
        spec: &Spec,
        warm: impl AsyncFnOnce(&Running) -> Result<(), StartError>,
    ) -> Result<Snapshot, StartError> {
        let memory = snapshot::new_memory(machine::ram_bytes(&spec.limits))?;
        let (running, monitor) = self.launch(spec, Memory::Saved(memory.try_clone()?)).await?;
        let running = running.ready(spec, None).await?;
        let work = async {
            warm(&running).await?;
            Ok(snapshot::save(monitor).await?)
        };
        let saved = tokio::select! {
            saved = work => saved,
            () = self.0.host.stopping.cancelled() => Err(StartError::Stopping),
        };
        // It writes to that memory until it is gone.
        running.stop().await?;
        Ok(Snapshot::new(spec, memory, saved?)?)
    }

    /// Starts a copy of a machine that was saved. Its processes are as they were: what
    /// draws random numbers by itself has to be told to begin anew.
    pub async fn restore(&self, snapshot: &Snapshot, spec: &Spec) -> Result<Running, StartError> {
        let memory = snapshot.memory()?;
        let mut seed = [0; 32];
        getrandom(&mut seed, GetRandomFlags::empty()).map_err(io::Error::from)?;
        let (running, monitor) = self.launch(spec, Memory::Copied(memory)).await?;
        if let Err(error) = snapshot::restore(monitor, snapshot.state()).await {
            let said = running.fail().await?;
            return Err(StartError::Ended(format!("no copy could be made: {error}; {said}")));
        }
        let unix_ms = self.0.host.clock.now().as_millis().try_into().unwrap_or_default();
        running.ready(spec, Some(Renewal { unix_ms, seed })).await
    }

    async fn launch(&self, spec: &Spec, memory: Memory) -> Result<(Running, UnixStream), StartError> {
        let inner = &self.0;
        let image = File::open(self.image(&spec.root).await?)?;
        let (kernel, initramfs) = (File::open(&inner.kernel)?, File::open(&inner.initramfs)?);
        let (ends, its_ends) = machine::ends()?;
        let directory = inner.host.make_place(&spec.id).await?;
        // Its own limits are held inside, by the machine itself.
        let limits = Limits { memory_bytes: machine::host_bytes(&spec.limits), ..spec.limits };
        let group = match inner.host.make_group(&spec.id, &limits) {
            Ok(group) => group,
            Err(error) => {
                clear(None, &directory).await?;
                return Err(error.into());
            }
        };
        let machine = Machine { is_emulated: inner.is_emulated, kernel, initramfs, image, memory };
        let mut launch = machine.launch(spec, its_ends, directory, group);
        launch.limit = if inner.is_emulated { EMULATED_LIMIT } else { HELPED_LIMIT };
        let running = launch.start(&inner.host).await?;
        running.hear(ends.console, &inner.host.tasks);
        Ok((running, ends.monitor))
    }

    /// The files of a template as a machine's disk, beside them.
    async fn image(&self, root: &Path) -> Result<PathBuf, StartError> {
        let image = root.with_extension(IMAGE);
        let _one = self.0.images.lock().await;
        if image.exists() {
            return Ok(image);
        }
        // Other hubs may share the templates, and make the same one meanwhile.
        let mut name = [0; 8];
        getrandom(&mut name, GetRandomFlags::empty()).map_err(io::Error::from)?;
        let under = root.with_extension(format!("{IMAGE}.{:016x}", u64::from_ne_bytes(name)));
        let made = make_image(root, &under).await;
        let made = made.and_then(|()| {
            // QEMU is somebody else.
            fs::set_permissions(&under, PermissionsExt::from_mode(0o444))?;
            Ok(fs::rename(&under, &image)?)
        });
        if let Err(error) = made {
            // It may not be there.
            let _ = fs::remove_file(&under);
            return Err(error);
        }
        Ok(image)
    }
}

async fn make_image(root: &Path, image: &Path) -> Result<(), StartError> {
    let mut command = Command::new("mkfs.erofs");
    command.args(["-T0", "--quiet"]).arg(image).arg(root).kill_on_drop(true);
    let said = match timeout(IMAGE_LIMIT, command.output()).await.map_err(io::Error::from)? {
        Ok(made) if made.status.success() => return Ok(()),
        Ok(made) => String::from_utf8_lossy(&made.stderr).trim().to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(StartError::NoProgram {
                program: "mkfs.erofs".to_owned(),
                package: "Debian's package erofs-utils",
                error,
            });
        }
        Err(error) => error.to_string(),
    };
    Err(StartError::Ended(format!("no disk of {} could be made: {said}", root.display())))
}

/// Another one each time that the host starts.
fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}
