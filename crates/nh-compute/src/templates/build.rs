use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Signal, geteuid, set_parent_process_death_signal};
use tokio::fs;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::{Recipe, TemplateError, Templates};
use crate::drivers::{self, microvm};

/// What systems in sandboxes do without.
const LEFT_OUT: [&str; 5] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/lintian/*",
];

/// What is kept of a build that broke off, and where it is in the new system meanwhile.
const DOWNLOADS: [(&str, &str); 2] = [("debian", "/var/cache/apt/archives"), ("pypi", "/var/cache/pip")];

/// The certificates of this host, for PyPI: it may be behind a proxy with its own.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What of the hub's environment a build has: where programs are, and how the registries
/// are reached. Anything else may name files that the new system does not have.
const KEPT: [&str; 9] = [
    "PATH",
    "TMPDIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "PIP_INDEX_URL",
];

/// The kernel of virtual machines: one for guests, of a release whose modules are known.
const KERNEL_PACKAGE: &str = "linux-image-cloud-amd64";
pub(super) const KERNEL_SUITE: &str = "bookworm";

/// Its modules that it needs to reach its disk, its files and the hub.
const KERNEL_MODULES: [&str; 9] = [
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci",
    "drivers/block/virtio_blk",
    "drivers/char/virtio_console",
    "lib/libcrc32c",
    "fs/erofs/erofs",
];

const REMOVALS: u32 = 50;
const REMOVE_AGAIN: Duration = Duration::from_millis(20);

/// Lines of what a failed build said that are told.
const LAST_LINES: usize = 8;

/// What is under way.
#[derive(Clone, Copy, Debug)]
pub struct Said<'l> {
    /// Of the time that it usually takes, so much is over.
    pub percent: u64,
    /// The builder's own words.
    pub line: &'l str,
}

/// What a builder says when it begins with something, and how much is over then.
const STEPS: [(&str, u64); 10] = [
    ("I: running apt-get update", 3),
    ("I: downloading packages", 10),
    ("I: extracting archives", 30),
    ("I: installing essential", 35),
    ("I: installing remaining", 45),
    ("I: running --customize-hook", 60),
    ("Collecting", 65),
    ("Installing collected packages", 85),
    ("I: cleaning", 95),
    ("I: success", 100),
];

impl Templates {
    /// Builds a template from Debian's and PyPI's packages, unless it is built; what is
    /// under way is told to `said` line by line. It is there whole or not at all; what was
    /// downloaded for one that broke off is not downloaded again.
    pub async fn build(&self, name: &str, mut said: impl FnMut(&Said<'_>)) -> Result<PathBuf, TemplateError> {
        let recipe = self.recipe(name)?;
        let built = self.built(name)?;
        let downloads = beside(&built, ".downloads");
        let work = async |building: &Path| {
            bootstrap(name, recipe, &building.join("root"), &downloads, &mut said).await
        };
        once(&built, work).await?;
        remove(&downloads).await.map_err(|error| TemplateError::Files { path: downloads, error })?;
        Ok(built.join("root"))
    }

    /// Fetches the kernel of virtual machines, unless it is there, as [`Templates::build`]
    /// does.
    pub async fn build_kernel(&self, mut said: impl FnMut(&Said<'_>)) -> Result<PathBuf, TemplateError> {
        let built = self.kernel_folder();
        let work = async |building: &Path| fetch_kernel(building, &mut said).await;
        once(&built, work).await?;
        Ok(built)
    }
}

fn beside(built: &Path, extension: &str) -> PathBuf {
    let mut name = built.as_os_str().to_owned();
    name.push(extension);
    PathBuf::from(name)
}

/// Has a folder made whole or not at all, and once.
async fn once(
    built: &Path,
    work: impl AsyncFnOnce(&Path) -> Result<(), TemplateError>,
) -> Result<(), TemplateError> {
    if built.exists() {
        return Ok(());
    }
    let building = beside(built, ".building");
    let at = |error| TemplateError::Files { path: building.clone(), error };
    // Whoever builds it too waits, and then finds it built.
    let _lock = lock(beside(built, ".lock")).await.map_err(at)?;
    if built.exists() {
        return Ok(());
    }
    remove(&building).await.map_err(at)?;
    fs::create_dir_all(&building).await.map_err(at)?;
    if let Err(error) = work(&building).await {
        remove(&building).await.map_err(at)?;
        return Err(error);
    }
    fs::rename(&building, built).await.map_err(at)
}

async fn fetch_kernel(building: &Path, said: &mut impl FnMut(&Said<'_>)) -> Result<(), TemplateError> {
    let unpacked = building.join("unpacked");
    let mut command = mmdebstrap()?;
    // Unpacked, not installed: nothing of it runs here.
    command.args(["--variant=extract", "--aptopt=APT::Install-Recommends \"false\""]);
    command.arg(format!("--include={KERNEL_PACKAGE}")).arg(KERNEL_SUITE).arg(&unpacked);
    run(command, "kernel", said).await?;
    let at = |error| TemplateError::Files { path: unpacked.clone(), error };
    take_kernel(&unpacked, building).map_err(at)?;
    remove(&unpacked).await.map_err(at)
}

/// The kernel's file and the modules that machines need, in the order that they need.
fn take_kernel(unpacked: &Path, folder: &Path) -> io::Result<()> {
    let first = |folder: PathBuf, start: &str| -> io::Result<PathBuf> {
        let mut found: Vec<PathBuf> =
            std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        found.retain(|path| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(start))
        });
        found.sort();
        found.pop().ok_or_else(|| io::Error::other(format!("{}: no `{start}`", folder.display())))
    };
    let kernel = first(unpacked.join("boot"), "vmlinuz-")?;
    std::fs::copy(kernel, folder.join(microvm::KERNEL))?;
    let modules = first(unpacked.join("lib/modules"), "")?.join("kernel");
    let into = folder.join(microvm::MODULES);
    std::fs::create_dir(&into)?;
    for (number, path) in KERNEL_MODULES.iter().enumerate() {
        let name = path.rsplit('/').next().unwrap_or(path);
        std::fs::copy(modules.join(format!("{path}.ko")), into.join(format!("{number:02}-{name}.ko")))?;
    }
    Ok(())
}

async fn bootstrap(
    name: &str,
    recipe: &Recipe,
    root: &Path,
    downloads: &Path,
    said: &mut impl FnMut(&Said<'_>),
) -> Result<(), TemplateError> {
    let at = |error| TemplateError::Files { path: downloads.to_owned(), error };
    for (kept, _) in DOWNLOADS {
        fs::create_dir_all(downloads.join(kept)).await.map_err(at)?;
    }
    let mut command = mmdebstrap()?;
    command.args(["--variant=minbase", "--aptopt=APT::Install-Recommends \"false\""]);
    command.args(LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    command.arg(format!("--include={}", recipe.debian.join(",")));
    // Where what is downloaded goes is not the new system's, and is there the next time.
    command.args(["--skip=download/empty", "--skip=essential/unlink", "--skip=cleanup/apt/cache"]);
    command.env("DOWNLOADS", downloads);
    for (kept, inside) in DOWNLOADS {
        command.arg(format!(
            "--setup-hook=mkdir -p \"$1\"{inside} && mount --bind \"$DOWNLOADS\"/{kept} \"$1\"{inside}"
        ));
    }
    if !recipe.pypi.is_empty() {
        // Nothing of a package's runs on this host.
        let (packages, cache) = (recipe.pypi.join(" "), DOWNLOADS[1].1);
        command.arg(format!("--customize-hook=copy-in {CERTIFICATES} /tmp"));
        command.arg(format!(
            "--customize-hook=chroot \"$1\" python3 -m pip install --cache-dir {cache} \
             --only-binary=:all: --break-system-packages --root-user-action=ignore --no-compile \
             --cert /tmp/ca-certificates.crt {packages}"
        ));
        command.arg("--customize-hook=rm \"$1\"/tmp/ca-certificates.crt");
    }
    for (_, inside) in DOWNLOADS {
        command.arg(format!("--customize-hook=umount \"$1\"{inside}"));
    }
    command.arg(&recipe.suite).arg(root);
    run(command, name, said).await?;
    let at = |error| TemplateError::Files { path: root.to_owned(), error };
    // They came with the builder, and are this host's.
    fs::write(root.join("etc/hostname"), "sandbox\n").await.map_err(at)?;
    fs::write(root.join("etc/resolv.conf"), "").await.map_err(at)?;
    drivers::make_folders(root).await.map_err(at)
}

/// The builder. What it mounts and starts is its own, and ends with it, however that ends.
#[allow(unsafe_code)]
fn mmdebstrap() -> Result<Command, TemplateError> {
    const PROGRAM: &str = "mmdebstrap";
    if !drivers::is_installed(PROGRAM) {
        return Err(TemplateError::NoProgram(io::ErrorKind::NotFound.into()));
    }
    if !geteuid().is_root() {
        return Ok(Command::new(PROGRAM));
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", PROGRAM]);
    // SAFETY: between fork and exec it makes one system call, which takes no lock and no memory.
    unsafe { command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?)) };
    Ok(command)
}

async fn run(
    mut command: Command,
    name: &str,
    said: &mut impl FnMut(&Said<'_>),
) -> Result<(), TemplateError> {
    let own =
        command.as_std().get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let own: Vec<_> = own.collect();
    command.env_clear().envs(KEPT.iter().filter_map(|name| Some((name, std::env::var_os(name)?)))).envs(own);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(TemplateError::NoProgram)?;
    let failed = |reason: String| TemplateError::Failed { name: name.to_owned(), reason };
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(failed("it has no output".to_owned()));
    };
    let (mut out, mut error) = (BufReader::new(stdout).split(b'\n'), BufReader::new(stderr).split(b'\n'));
    let mut last: Vec<String> = Vec::new();
    let mut percent = 0;
    let mut hear = |line: Vec<u8>| {
        let line = String::from_utf8_lossy(&line).into_owned();
        let step = STEPS.iter().find(|(start, _)| line.starts_with(start));
        percent = step.map_or(percent, |(_, over)| percent.max(*over));
        said(&Said { percent, line: &line });
        last.push(line);
        let too_many = last.len().saturating_sub(LAST_LINES);
        last.drain(..too_many);
    };
    let (mut out_ended, mut error_ended) = (false, false);
    while !(out_ended && error_ended) {
        tokio::select! {
            line = out.next_segment(), if !out_ended => match line {
                Ok(Some(line)) => hear(line),
                _ => out_ended = true,
            },
            line = error.next_segment(), if !error_ended => match line {
                Ok(Some(line)) => hear(line),
                _ => error_ended = true,
            },
        }
    }
    let status = child.wait().await.map_err(|error| failed(error.to_string()))?;
    match status.success() {
        true => Ok(()),
        false => Err(failed(format!("mmdebstrap ended with {status}; it said:\n{}", last.join("\n")))),
    }
}

/// Held until it is dropped.
async fn lock(path: PathBuf) -> io::Result<File> {
    let lock = move || {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let file = File::create(&path)?;
        file.lock()?;
        Ok(file)
    };
    tokio::task::spawn_blocking(lock).await.map_err(io::Error::other)?
}

/// A builder that was killed may still be about to make something in it.
async fn remove(directory: &Path) -> io::Result<()> {
    for _ in 0..REMOVALS {
        match fs::remove_dir_all(directory).await {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) => return Err(error),
        }
        tokio::time::sleep(REMOVE_AGAIN).await;
    }
    fs::remove_dir_all(directory).await
}
