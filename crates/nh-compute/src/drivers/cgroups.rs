//! Control groups, of either version: they hold a sandbox to its limits, tell by which
//! it was ended, and know each of its processes, whatever becomes of its parents.
//!
//! `Documentation/admin-guide/cgroup-v2.rst` and `cgroup-v1/` of Linux.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nh_guest::protocol::Killed;
use rustix::process::{Pid, Signal, kill_process};

use super::Limits;

/// What isolates needs memory and threads itself.
const OWN_MEMORY: u64 = 128 << 20;
const OWN_THREADS: u64 = 256;

/// Threads on the host for each process inside: gVisor's ptrace platform needs seven for
/// one that sleeps.
const THREADS: u64 = 8;

const PERIOD_US: u64 = 100_000;

/// Empty for so long, a group is nobody's.
const OLD: Duration = Duration::from_secs(60 * 60);

/// Where hubs make groups.
const BASE: &str = "neuralhub";

/// Where one hub makes groups.
#[derive(Clone, Debug)]
pub(super) struct Cgroups {
    /// What the names of its groups begin with.
    prefix: String,
    /// One of version 2; of version 1 one of each controller.
    bases: Vec<PathBuf>,
    is_v2: bool,
}

/// The group of a sandbox.
#[derive(Debug)]
pub(super) struct Cgroup {
    directories: Vec<PathBuf>,
    is_v2: bool,
}

impl Cgroups {
    /// For a hub of this name. An error says what the host does not let it do.
    pub(super) fn open(name: &str) -> io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let is_v2 = root.join("cgroup.controllers").exists();
        let bases = match is_v2 {
            true => vec![root.join(BASE)],
            false => {
                // The last is to count alone, so it may be missing.
                let has = |controller: &&str| *controller != "cpuacct" || root.join(controller).exists();
                let controllers = ["memory", "pids", "cpu", "cpuacct"].into_iter().filter(has);
                controllers.map(|controller| root.join(controller).join(BASE)).collect()
            }
        };
        for base in &bases {
            make(base)?;
        }
        if is_v2 {
            for directory in [root, &bases[0]] {
                put(directory, "cgroup.subtree_control", "+memory +pids +cpu")?;
            }
        }
        remove_old(&bases);
        Ok(Self { prefix: format!("{name}-"), bases, is_v2 })
    }

    pub(super) fn create(&self, id: &str, limits: &Limits) -> io::Result<Cgroup> {
        let directories: Vec<PathBuf> =
            self.bases.iter().map(|base| base.join(format!("{}{id}", self.prefix))).collect();
        let group = Cgroup { directories, is_v2: self.is_v2 };
        if let Err(error) = group.fill(limits) {
            group.remove()?;
            return Err(error);
        }
        Ok(group)
    }

    /// The hub's that are there, such as a hub leaves that was killed.
    pub(super) fn all(&self) -> Vec<Cgroup> {
        let mut names = Vec::new();
        for entry in self.bases.iter().filter_map(|base| fs::read_dir(base).ok()).flatten().flatten() {
            let is_its = entry.file_name().as_encoded_bytes().starts_with(self.prefix.as_bytes());
            if is_its && !names.contains(&entry.file_name()) {
                names.push(entry.file_name());
            }
        }
        let group = |name| Cgroup {
            directories: self.bases.iter().map(|base| base.join(&name)).collect(),
            is_v2: self.is_v2,
        };
        names.into_iter().map(group).collect()
    }
}

impl Cgroup {
    fn fill(&self, limits: &Limits) -> io::Result<()> {
        for directory in &self.directories {
            make(directory)?;
        }
        let memory = (limits.memory_bytes + OWN_MEMORY).to_string();
        let threads = (u64::from(limits.processes) * THREADS + OWN_THREADS).to_string();
        let quota = (f64::from(limits.cpus) * PERIOD_US as f64) as u64;
        if self.is_v2 {
            self.set("memory.max", &memory)?;
            // Where there is no swap, neither file is there.
            let _ = self.set("memory.swap.max", "0");
            // What isolates is of no use without a part of it.
            self.set("memory.oom.group", "1")?;
            self.set("cpu.max", &format!("{quota} {PERIOD_US}"))?;
        } else {
            self.set("memory.limit_in_bytes", &memory)?;
            let _ = self.set("memory.memsw.limit_in_bytes", &memory);
            self.set("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            self.set("cpu.cfs_quota_us", &quota.to_string())?;
        }
        self.set("pids.max", &threads)?;
        Ok(())
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        let controller = file.split('.').next().unwrap_or_default();
        let is_its = |directory: &&PathBuf| {
            self.is_v2 || directory.iter().any(|part| part.to_str() == Some(controller))
        };
        let directory = self.directories.iter().find(is_its);
        put(directory.ok_or_else(|| io::Error::other("no such controller"))?, file, value)
    }

    /// What a process writes `0` to, so as to be in the group with all that it begins.
    pub(super) fn entrances(&self) -> io::Result<Vec<File>> {
        let open = |directory: &PathBuf| OpenOptions::new().write(true).open(directory.join("cgroup.procs"));
        self.directories.iter().map(open).collect()
    }

    fn processes(&self) -> Vec<Pid> {
        let read = |directory: &PathBuf| fs::read_to_string(directory.join("cgroup.procs")).ok();
        let all: String = self.directories.iter().filter_map(read).collect();
        all.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?)).collect()
    }

    /// Kills all that are in it; whether none is left.
    pub(super) fn kill(&self) -> bool {
        let processes = self.processes();
        for process in &processes {
            // It may have ended meanwhile.
            let _ = kill_process(*process, Signal::KILL);
        }
        processes.is_empty()
    }

    /// By which limit something of it was ended.
    pub(super) fn killed(&self) -> Option<Killed> {
        let (memory, pids) = match self.is_v2 {
            true => ("memory.events", "pids.events"),
            false => ("memory.oom_control", "pids.events"),
        };
        if self.count(memory, "oom_kill") > 0 {
            return Some(Killed::Memory);
        }
        (self.count(pids, "max") > 0).then_some(Killed::Processes)
    }

    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        match self.is_v2 {
            true => Some(self.count("cpu.stat", "usage_usec") as f64 / 1e6),
            false => Some(self.read("cpuacct.usage")?.trim().parse::<u64>().ok()? as f64 / 1e9),
        }
    }

    pub(super) fn memory_bytes(&self) -> Option<u64> {
        let file = if self.is_v2 { "memory.current" } else { "memory.usage_in_bytes" };
        self.read(file)?.trim().parse().ok()
    }

    fn read(&self, file: &str) -> Option<String> {
        self.directories.iter().find_map(|directory| fs::read_to_string(directory.join(file)).ok())
    }

    fn count(&self, file: &str, name: &str) -> u64 {
        let text = self.read(file).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
    }

    /// Once nothing is in it.
    pub(super) fn remove(&self) -> io::Result<()> {
        for directory in &self.directories {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Those of hubs that were killed and never came back. One that is new may still be
/// about to get its process.
fn remove_old(bases: &[PathBuf]) {
    for entry in bases.iter().filter_map(|base| fs::read_dir(base).ok()).flatten().flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified()).ok();
        let age = age.and_then(|at| at.elapsed().ok()).unwrap_or_default();
        let is_empty = fs::read_to_string(entry.path().join("cgroup.procs")).is_ok_and(|all| all.is_empty());
        if age > OLD && is_empty {
            // Another hub may have been first.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn make(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn put(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = directory.join(file);
    let explain = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(explain)
}
