//! The program as the first process of a virtual machine: from the kernel's start to the
//! channel, and the machine's end. What the machine is made of is in
//! `nh_compute::drivers::microvm`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{MountFlags, mount, mount_move};
use rustix::process::{chdir, chroot};
use rustix::system::{RebootCommand, reboot};
use rustix::thread::set_no_new_privs;

use crate::protocol::Renewal;

/// Where the kernel starts it: the program that an initramfs must have.
pub const PROGRAM: &str = "/init";

/// Where an initramfs has the kernel's modules, by the order in which they are loaded.
pub const MODULES: &str = "/modules";

/// The kernel's argument that says how much the home folder may hold, and `/tmp` as much
/// and shared memory a quarter of it, in bytes.
pub const DISK: &str = "nh_disk";

/// The kernel's argument that names the home folder.
pub const HOME: &str = "nh_home";

const IMAGE: &str = "/dev/vda";
const IMAGE_TYPE: &str = "erofs";
const ROOT: &str = "/root";

/// Devices come a while after their modules.
const DEVICES_LIMIT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Makes the machine what a sandbox is, and opens the channel to the hub.
pub fn begin() -> io::Result<File> {
    make_folders(Path::new("/"), &["dev", "root"])?;
    mount("dev", "/dev", "devtmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, None)?;
    load_modules()?;
    mount_image()?;
    mount_files()?;
    raise_loopback()?;
    set_no_new_privs(true)?;
    // Of users: much of what kernels got wrong was in reach by them alone.
    fs::write("/proc/sys/user/max_user_namespaces", "0")?;
    // Who asks for much gets it, as elsewhere, and is ended by name once it is too much.
    fs::write("/proc/sys/vm/overcommit_memory", "1")?;
    open_channel()
}

/// Whether this is one.
pub fn is_here() -> bool {
    std::env::args_os().next().is_some_and(|program| program == PROGRAM)
}

/// What copies of one machine must not share: what the kernel draws random numbers from,
/// and the time, which stood still.
#[allow(unsafe_code)]
pub(crate) fn renew(renewal: &Renewal) -> io::Result<()> {
    let clock = rustix::time::Timespec {
        tv_sec: (renewal.unix_ms / 1000).try_into().map_err(io::Error::other)?,
        tv_nsec: (renewal.unix_ms % 1000 * 1_000_000).try_into().map_err(io::Error::other)?,
    };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, clock)?;
    /// `random(4)`: `struct rand_pool_info` with its bytes.
    #[repr(C)]
    struct Entropy {
        bits: libc::c_int,
        bytes: libc::c_int,
        seed: [u8; 32],
    }
    let entropy = Entropy { bits: 256, bytes: 32, seed: renewal.seed };
    let random = OpenOptions::new().write(true).open("/dev/urandom")?;
    let (add, reseed) =
        (rustix::ioctl::opcode::write::<[libc::c_int; 2]>(b'R', 3), rustix::ioctl::opcode::none(b'R', 7));
    // SAFETY: RNDADDENTROPY reads a `rand_pool_info` with as many bytes as it says, which
    // lives until it returns; RNDRESEEDCRNG takes nothing.
    let done = unsafe {
        let random = std::os::fd::AsRawFd::as_raw_fd(&random);
        libc::ioctl(random, add as _, &raw const entropy) >= 0 && libc::ioctl(random, reseed as _) >= 0
    };
    if done { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends the machine.
pub fn end() -> io::Result<()> {
    Ok(reboot(RebootCommand::Restart)?)
}

fn load_modules() -> io::Result<()> {
    let mut modules: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(MODULES)? {
        modules.push(entry?.path());
    }
    modules.sort();
    for module in modules {
        let file = File::open(&module)?;
        rustix::system::finit_module(&file, c"", 0)
            .map_err(|error| io::Error::other(format!("{}: {error}", module.display())))?;
    }
    Ok(())
}

fn mount_image() -> io::Result<()> {
    until(DEVICES_LIMIT, || match mount(IMAGE, ROOT, IMAGE_TYPE, MountFlags::RDONLY, None) {
        Ok(()) => Ok(Some(())),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(io::Error::other(format!("the image: {error}"))),
    })?;
    mount_move("/dev", format!("{ROOT}/dev"))?;
    chdir(ROOT)?;
    mount_move(".", "/")?;
    chroot(".")?;
    chdir("/")?;
    Ok(())
}

/// What can be written to, and what the kernel tells.
fn mount_files() -> io::Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV;
    mount("proc", "/proc", "proc", safe | MountFlags::NOEXEC, None)?;
    make_folders(Path::new("/dev"), &["shm", "pts"])?;
    mount(
        "pts",
        "/dev/pts",
        "devpts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        Some(c"mode=620,ptmxmode=666"),
    )?;
    let (disk, home) = (argument(DISK)?, argument(HOME)?);
    let disk: u64 = disk.parse().map_err(io::Error::other)?;
    let files = |target: &str, options: String| {
        let options = std::ffi::CString::new(options).map_err(io::Error::other)?;
        mount("files", target, "tmpfs", safe, Some(options.as_c_str()))
            .map_err(|error| io::Error::other(format!("{target}: {error}")))
    };
    files("/dev/shm", format!("mode=1777,size={}", disk / 4))?;
    files("/tmp", format!("mode=1777,size={disk}"))?;
    files(&home, format!("mode=755,size={disk}"))
}

/// As the kernel hands over those of its arguments that are not its own.
fn argument(name: &str) -> io::Result<String> {
    std::env::var(name).map_err(|_| io::Error::other(format!("the kernel has no argument `{name}`")))
}

/// So that servers inside can be reached from inside. `netdevice(7)`.
#[allow(unsafe_code)]
fn raise_loopback() -> io::Result<()> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    // SAFETY: `ifreq` is of plain numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an `ifreq`, which lives until it returns.
    let set = unsafe {
        libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&socket), libc::SIOCSIFFLAGS, &raw const request)
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Its port's number is not known before.
fn open_channel() -> io::Result<File> {
    let port = until(DEVICES_LIMIT, || {
        let is_port = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("vport"))
        };
        let paths = fs::read_dir("/dev")?.flatten().map(|entry| entry.path());
        let Some(path) = paths.into_iter().find(is_port) else { return Ok(None) };
        OpenOptions::new().read(true).write(true).open(path).map(Some)
    })?;
    // Until the hub is at its other end, it reads as one that has ended.
    until(DEVICES_LIMIT, || {
        let mut polled = [PollFd::new(&port, PollFlags::OUT)];
        poll(&mut polled, Some(&rustix::time::Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok((!polled[0].revents().contains(PollFlags::HUP)).then_some(()))
    })?;
    Ok(port)
}

/// Looks again until there is something.
fn until<T>(limit: Duration, mut look: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if began.elapsed() > limit {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "a device of the machine is missing"));
        }
        #[allow(clippy::disallowed_methods)] // nothing else runs yet
        thread::sleep(LOOK_AGAIN);
    }
}

fn make_folders(parent: &Path, names: &[&str]) -> io::Result<()> {
    for name in names {
        match fs::create_dir(parent.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
