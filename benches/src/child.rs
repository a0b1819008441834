//! Child processes and what the kernel says of them.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// A server that is stopped when this is dropped, with its own children: a
/// killed nginx would leave its workers behind.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

pub const KEY: &str = "NEURALHUB_BOOTSTRAP_KEY";

impl Server {
    /// Starts `binary serve` on a free port with its data in `data_dir`, the
    /// given configuration, and `key` as its bootstrap key.
    pub fn hub(binary: &Path, data_dir: &Path, config: &str, key: &str) -> anyhow::Result<Self> {
        let config_file = data_dir.join("bench.toml");
        std::fs::write(&config_file, config)?;
        let log = std::fs::File::create(data_dir.join("bench.log"))?;
        let mut child = Command::new(binary)
            .args(["serve", "--bind", "127.0.0.1:0", "--config"])
            .arg(&config_file)
            .arg("--data-dir")
            .arg(data_dir.join("hub"))
            .env(KEY, key)
            .env("NEURALHUB__LOG__LEVEL", "warn")
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let stdout = child.stdout.take().context("the hub's stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line.trim().rsplit_once("http://").map(|(_, address)| address.to_owned());
        let address = address.with_context(|| format!("the hub printed `{line}`; see bench.log"))?;
        Ok(Self { child, address: address.parse()? })
    }

    /// Any other server, which listens on `address` soon.
    pub fn other(mut command: Command, address: SocketAddr) -> anyhow::Result<Self> {
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let server = Self { child, address };
        for _ in 0..200 {
            if std::net::TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            #[allow(clippy::disallowed_methods)] // nothing else runs yet
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        anyhow::bail!("{address} does not answer")
    }

    /// Processor seconds, user and system, of the process and its children.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut total = cpu_seconds_of(self.child.id())?;
        for child in children_of(self.child.id())? {
            total += cpu_seconds_of(child)?;
        }
        Ok(total)
    }

    /// Resident megabytes (10^6 bytes).
    pub fn resident_mb(&self) -> anyhow::Result<f64> {
        self.memory_mb("VmRSS:")
    }

    /// The most that were resident since [`Server::forget_peak`].
    pub fn peak_resident_mb(&self) -> anyhow::Result<f64> {
        self.memory_mb("VmHWM:")
    }

    /// proc(5), /proc/pid/clear_refs: 5 takes the peak back to what is resident now.
    pub fn forget_peak(&self) -> anyhow::Result<()> {
        Ok(std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    fn memory_mb(&self, of: &str) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with(of)).with_context(|| of.to_owned())?;
        let kib: f64 = line.split_whitespace().nth(1).with_context(|| of.to_owned())?.parse()?;
        Ok(kib * 1024.0 / 1e6)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in children_of(self.child.id()).unwrap_or_default() {
            let _ = Command::new("kill").args(["-KILL", &child.to_string()]).status();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// proc(5), /proc/pid/stat: fields 14 (utime) and 15 (stime), in ticks of
/// 1/100 s on Linux.
fn cpu_seconds_of(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("/proc/pid/stat")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks: u64 =
        fields.get(11).context("utime")?.parse::<u64>()? + fields.get(12).context("stime")?.parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

fn children_of(pid: u32) -> anyhow::Result<Vec<u32>> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(children.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}
