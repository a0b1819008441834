//! The machine that QEMU is told to be (`qemu-system(1)`), and what it is on its host: a
//! process of a user that nobody has, without network, which can start no program. All that
//! it needs is opened before.

use std::fs::{File, metadata};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream as Socket;
use std::path::PathBuf;

use nh_guest::vm;
use rustix::process::{Gid, Uid, geteuid};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::super::cgroups::Cgroup;
use super::super::host;
use super::super::running::Launch;
use super::super::{HOME, Limits, Spec, StartError, is_installed};
use super::KVM;

const PROGRAM: &str = "qemu-system-x86_64";
const PACKAGE: &str = "Debian's package qemu-system-x86";

/// Of a machine's memory, for its kernel.
const KERNEL_BYTES: u64 = 96 << 20;
/// On the host, for QEMU itself and the code that it makes of a machine's.
const QEMU_BYTES: u64 = 128 << 20;
const CODE_MB: u32 = 64;

/// A machine that panics or ends starts again, which QEMU takes for its end.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet reboot=t panic=-1 audit=0 apparmor=0 init_on_alloc=0 \
     cryptomgr.notests random.trust_cpu=on mitigations=off";
/// What takes long to find out for a machine that is emulated, and is known.
const EMULATED_ARGUMENTS: &str = "nokaslr nopti tsc=reliable no_timer_check lpj=4000000";

pub(super) struct Machine {
    pub(super) is_emulated: bool,
    pub(super) kernel: File,
    pub(super) initramfs: File,
    pub(super) image: File,
    pub(super) memory: Memory,
}

/// What a machine has for its memory.
pub(super) enum Memory {
    Own,
    /// A file that is its memory.
    Saved(OwnedFd),
    /// What it writes is its own; it runs on from a state that it is told.
    Copied(OwnedFd),
}

/// The hub's ends of what QEMU has of it.
pub(super) struct Ends {
    /// What the machine says to people.
    pub(super) console: UnixStream,
    /// For the hub to say what is to be done with the machine.
    pub(super) monitor: UnixStream,
}

/// QEMU's ends.
pub(super) struct ItsEnds {
    console: OwnedFd,
    monitor: OwnedFd,
}

pub(super) fn ends() -> io::Result<(Ends, ItsEnds)> {
    let pair = || {
        let (ours, its) = Socket::pair()?;
        ours.set_nonblocking(true)?;
        io::Result::Ok((UnixStream::from_std(ours)?, OwnedFd::from(its)))
    };
    let ((console, its_console), (monitor, its_monitor)) = (pair()?, pair()?);
    Ok((Ends { console, monitor }, ItsEnds { console: its_console, monitor: its_monitor }))
}

/// An error: QEMU is missing.
pub(super) fn find() -> Result<(), StartError> {
    match is_installed(PROGRAM) {
        true => Ok(()),
        false => Err(StartError::NoProgram {
            program: PROGRAM.to_owned(),
            package: PACKAGE,
            error: io::ErrorKind::NotFound.into(),
        }),
    }
}

pub(super) fn ram_bytes(limits: &Limits) -> u64 {
    (limits.memory_bytes + KERNEL_BYTES).next_multiple_of(1 << 20)
}

/// What it takes of its host at most.
pub(super) fn host_bytes(limits: &Limits) -> u64 {
    ram_bytes(limits) + QEMU_BYTES
}

impl Machine {
    pub(super) fn launch(
        self,
        spec: &Spec,
        its: ItsEnds,
        directory: PathBuf,
        group: Option<Cgroup>,
    ) -> Launch {
        let file = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
        let ram = ram_bytes(&spec.limits) >> 20;
        let mut command = Command::new(PROGRAM);
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"])
            // For who looks for processes that this sandbox left.
            .arg("-name")
            .arg(format!("guest={}", directory.display().to_string().replace(',', ",,")))
            .args(["-smp", &(spec.limits.cpus.ceil() as u32).max(1).to_string(), "-m", &format!("{ram}M")])
            .args(self.processor())
            .args(["-drive", &format!("if=none,id=image,file={},format=raw,readonly=on", file(&self.image))])
            .args(["-device", "virtio-blk-pci,drive=image", "-device", "virtio-serial-pci"])
            .args(["-chardev", "stdio,id=channel,signal=off"])
            .args(["-device", "virtserialport,chardev=channel"])
            .args(["-chardev", &format!("socket,id=console,fd={}", its.console.as_raw_fd())])
            .args(["-serial", "chardev:console"])
            .args(["-chardev", &format!("socket,id=monitor,fd={}", its.monitor.as_raw_fd())])
            .args(["-mon", "chardev=monitor,mode=control"])
            .args(["-kernel", &file(&self.kernel), "-initrd", &file(&self.initramfs)])
            .args(["-append", &self.kernel_arguments(spec)]);
        let memory = match &self.memory {
            Memory::Own => None,
            Memory::Saved(memory) => Some((memory, "on")),
            Memory::Copied(memory) => Some((memory, "off")),
        };
        match memory {
            None => command.args(["-M", "q35"]),
            Some((memory, is_shared)) => {
                command.args(["-M", "q35,memory-backend=memory", "-object"]).arg(format!(
                    "memory-backend-file,id=memory,size={ram}M,mem-path=/proc/self/fd/{},share={is_shared}",
                    memory.as_raw_fd()
                ))
            }
        };
        if matches!(self.memory, Memory::Copied(_)) {
            command.args(["-incoming", "defer"]);
        }
        let mut launch = Launch::new(command, PACKAGE, directory, group);
        launch.inherited = vec![self.kernel.into(), self.initramfs.into(), self.image.into()];
        launch.inherited.extend([its.console, its.monitor]);
        if let Memory::Saved(memory) | Memory::Copied(memory) = self.memory {
            launch.inherited.push(memory);
        }
        launch.user = user(&spec.id, self.is_emulated);
        launch.ends_itself = false;
        launch
    }

    fn processor(&self) -> [String; 4] {
        let (accelerator, processor) = match self.is_emulated {
            true => (format!("tcg,thread=multi,tb-size={CODE_MB}"), "max"),
            false => ("kvm".to_owned(), "host"),
        };
        ["-accel".to_owned(), accelerator, "-cpu".to_owned(), processor.to_owned()]
    }

    fn kernel_arguments(&self, spec: &Spec) -> String {
        // Files are in memory, of which processes have to have some too.
        let disk = spec.limits.disk_bytes.min(spec.limits.memory_bytes / 3);
        let emulated = if self.is_emulated { EMULATED_ARGUMENTS } else { "" };
        format!("{KERNEL_ARGUMENTS} {emulated} {}={disk} {}={HOME}", vm::DISK, vm::HOME)
    }
}

/// Where the hub may choose.
fn user(id: &str, is_emulated: bool) -> Option<(Uid, Gid)> {
    if !geteuid().is_root() {
        return None;
    }
    let uid = host::user(id);
    let helper = (!is_emulated).then(kvm_group).flatten();
    Some((Uid::from_raw(uid), Gid::from_raw(helper.unwrap_or(uid))))
}

/// The group that KVM is for; None: it is for all, or for root alone.
fn kvm_group() -> Option<u32> {
    const OF_GROUP: u32 = 0o060;
    let kvm = metadata(KVM).ok()?;
    (kvm.gid() != 0 && kvm.mode() & OF_GROUP == OF_GROUP).then(|| kvm.gid())
}
