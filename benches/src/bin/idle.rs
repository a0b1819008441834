//! What a hub costs that does nothing: resident memory and processor time.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use nh_bench::baseline::with_checksum;
use nh_bench::child::Server;
use nh_bench::report::machine;

#[derive(Parser)]
struct Options {
    /// The hub, built for release.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let directory = tempfile::tempdir_in("target")?;
    let key = with_checksum("nh_0123456789abcdefghijklmnopqrstuvwx");
    let hub = Server::hub(&options.binary, directory.path(), "", &key)?;
    println!("machine: {}", machine());
    let before = hub.cpu_seconds()?;
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let spent_ms = (hub.cpu_seconds()? - before) * 1000.0;
    println!("resident: {:.1} MB", hub.resident_mb()?);
    println!("CPU over {} s: {spent_ms:.0} ms", options.seconds);
    Ok(())
}
