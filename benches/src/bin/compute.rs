//! Sandboxes over HTTP, beside the host's own Python. Method and results:
//! benches/compute/README.md.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use futures_util::future::try_join_all;
use http::{Method, StatusCode};
use nh_bench::hub::Hub;
use nh_bench::load::quantile_ms;
use nh_bench::report::machine;
use serde_json::{Value, json};

#[derive(Parser)]
struct Options {
    /// What is measured; all of it unless something is named.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// `[compute] driver`.
    #[arg(long, default_value = "gvisor")]
    driver: String,
    /// The hub, built for release.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    /// With `python` and `python-data` built.
    #[arg(long, default_value = ".templates")]
    templates: PathBuf,
    /// Sandboxes of each measurement one at a time.
    #[arg(long, default_value_t = 50)]
    count: usize,
    /// Created and deleted in a row.
    #[arg(long, default_value_t = 500)]
    in_a_row: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The first output of a sandbox that waits in the pool.
    Warm,
    /// The first output of one that is started when it is asked for.
    Cold,
    /// Ten at once.
    Burst,
    /// Many, one after the other.
    Row,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    println!("machine: {}", machine());
    bare(options.count)?;
    let is_asked = |part| options.parts.is_empty() || options.parts.contains(&part);
    for template in ["python", "python-data"] {
        if is_asked(Part::Warm) {
            warm(&options, template).await?;
        }
        if is_asked(Part::Cold) {
            cold(&options, template).await?;
        }
    }
    if is_asked(Part::Burst) {
        burst(&options).await?;
    }
    if is_asked(Part::Row) {
        row(&options).await?;
    }
    Ok(())
}

/// Prints the quantiles of some times.
#[allow(clippy::print_stdout)]
fn print(of: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let (p50, p99) = (quantile_ms(times, 0.5), quantile_ms(times, 0.99));
    println!("{of:<56} p50 {p50:>8.1} ms   p99 {p99:>8.1} ms   of {}", times.len());
}

/// The host's Python, with nothing around it.
fn bare(count: usize) -> anyhow::Result<()> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        let said =
            Command::new("python3").args(["-c", "print(1+1)"]).output().context("the host's python3")?;
        times.push(began.elapsed());
        ensure!(said.stdout == b"2\n", "the host's Python cannot add");
    }
    print("bare python3 -c 'print(1+1)' on the host", &mut times);
    Ok(())
}

struct Bench {
    hub: Hub,
    directory: tempfile::TempDir,
}

impl Bench {
    fn start(options: &Options, pool: usize) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in(&options.directory)?;
        let templates = std::path::absolute(&options.templates)?;
        let config = format!(
            "[compute]\ndriver = \"{}\"\nallow_process = true\npool_size = {pool}\ntemplates_dir = \"{}\"\nmax_per_workspace = 100\n",
            options.driver,
            templates.display()
        );
        Ok(Self { hub: Hub::start(&options.binary, directory.path(), &config)?, directory })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        expect: StatusCode,
    ) -> anyhow::Result<Value> {
        let (status, answer) = self.hub.call(method, path, body).await?;
        ensure!(status == expect, "{path} answered {status}: {answer}");
        Ok(answer)
    }

    /// Until so many of a template wait.
    async fn filled(&self, template: &str, wanted: u64) -> anyhow::Result<()> {
        loop {
            let answer = self.call(Method::GET, "/v1/templates", &Value::Null, StatusCode::OK).await?;
            let templates = answer["templates"].as_array().context("templates")?;
            let all = templates.iter().filter(|one| one["available"] == true);
            let is_full = all.clone().all(|one| one["warm"].as_u64() >= Some(wanted));
            ensure!(all.clone().any(|one| one["name"] == template), "build the template {template} first");
            if is_full {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Until the driver has what it makes sandboxes of: a machine is saved before it is
    /// copied, which takes seconds, and until then each is started from nothing.
    async fn ready(&self, template: &str) -> anyhow::Result<()> {
        for _ in 0..100 {
            let (id, time) = self.first_output(template).await?;
            self.delete(&id).await?;
            if time < Duration::from_secs(1) {
                return Ok(());
            }
        }
        anyhow::bail!("no sandbox of {template} says anything within a second")
    }

    async fn create(&self, template: &str) -> anyhow::Result<String> {
        let body = json!({"template": template});
        let made = self.call(Method::POST, "/v1/resources", &body, StatusCode::CREATED).await?;
        Ok(made["id"].as_str().context("an id")?.to_owned())
    }

    async fn add(&self, id: &str) -> anyhow::Result<()> {
        let body = json!({"language": "python", "code": "print(1+1)"});
        let told =
            self.call(Method::POST, &format!("/v1/resources/{id}/exec"), &body, StatusCode::OK).await?;
        ensure!(told["stdout"] == "2\n", "a sandbox cannot add: {told}");
        Ok(())
    }

    /// From the request for a sandbox until the output of code in it is here.
    async fn first_output(&self, template: &str) -> anyhow::Result<(String, Duration)> {
        let began = Instant::now();
        let id = self.create(template).await?;
        self.add(&id).await?;
        Ok((id, began.elapsed()))
    }

    async fn delete(&self, id: &str) -> anyhow::Result<()> {
        let path = format!("/v1/resources/{id}");
        self.call(Method::DELETE, &path, &Value::Null, StatusCode::NO_CONTENT).await.map(drop)
    }
}

#[allow(clippy::print_stdout)]
async fn warm(options: &Options, template: &str) -> anyhow::Result<()> {
    let bench = Bench::start(options, 1)?;
    let (mut first, mut again, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.count {
        bench.filled(template, 1).await?;
        let (id, time) = bench.first_output(template).await?;
        first.push(time);
        for _ in 0..4 {
            let began = Instant::now();
            bench.add(&id).await?;
            again.push(began.elapsed());
        }
        let seen =
            bench.call(Method::GET, &format!("/v1/resources/{id}"), &Value::Null, StatusCode::OK).await?;
        memory.extend(seen["usage"]["memory_bytes"].as_f64().map(|bytes| bytes / 1e6));
        bench.delete(&id).await?;
    }
    print(&format!("{template}, from the pool: to the first output"), &mut first);
    print(&format!("{template}: another print in the kept interpreter"), &mut again);
    println!(
        "{template}: memory of its control group, the median: {:.0} MB",
        nh_bench::report::median(&memory)
    );
    Ok(())
}

async fn cold(options: &Options, template: &str) -> anyhow::Result<()> {
    let bench = Bench::start(options, 0)?;
    bench.filled(template, 0).await?;
    bench.ready(template).await?;
    let (mut first, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..options.count {
        let (id, time) = bench.first_output(template).await?;
        first.push(time);
        let began = Instant::now();
        bench.delete(&id).await?;
        ends.push(began.elapsed());
    }
    print(&format!("{template}, from nothing: to the first output"), &mut first);
    print(&format!("{template}: DELETE, until nothing is left"), &mut ends);
    Ok(())
}

#[allow(clippy::print_stdout)]
async fn burst(options: &Options) -> anyhow::Result<()> {
    for pool in [0, 10] {
        let bench = Bench::start(options, pool)?;
        bench.filled("python", pool as u64).await?;
        bench.ready("python").await?;
        let began = Instant::now();
        let made = try_join_all((0..10).map(|_| bench.first_output("python"))).await?;
        let mut times: Vec<Duration> = made.iter().map(|(_, time)| *time).collect();
        print(&format!("ten at once, {pool} of each template in the pool"), &mut times);
        println!("ten at once: all had said something after {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
        let (all, began) = (made.iter().map(|(id, _)| bench.add(id)), Instant::now());
        try_join_all(all).await?;
        println!("ten at once: each printed again within {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
        for (id, _) in made {
            bench.delete(&id).await?;
        }
    }
    Ok(())
}

#[allow(clippy::print_stdout)]
async fn row(options: &Options) -> anyhow::Result<()> {
    let bench = Bench::start(options, 0)?;
    bench.ready("python").await?;
    let (before, groups, began) = (bench.hub.server.resident_mb()?, groups()?, Instant::now());
    for _ in 0..options.in_a_row {
        let id = bench.create("python").await?;
        bench.delete(&id).await?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let directory = bench.directory.path().join("hub/compute/sandboxes");
    let folders = std::fs::read_dir(&directory)?.count();
    println!(
        "{} created and deleted in a row: {seconds:.0} s; left: {folders} folders, {} processes, {} control groups more; \
         the hub's memory {before:.0} MB before, {:.0} MB after",
        options.in_a_row,
        processes_of(&directory)?,
        self::groups()?.saturating_sub(groups),
        bench.hub.server.resident_mb()?
    );
    Ok(())
}

/// That have the folder in their arguments.
fn processes_of(directory: &Path) -> anyhow::Result<usize> {
    let wanted = directory.display().to_string().into_bytes();
    let arguments = std::fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    Ok(arguments.filter(|arguments| arguments.windows(wanted.len()).any(|part| part == wanted)).count())
}

/// Control groups of all hubs of this machine.
fn groups() -> anyhow::Result<usize> {
    let bases = ["/sys/fs/cgroup/neuralhub", "/sys/fs/cgroup/memory/neuralhub"].map(Path::new);
    let Some(base) = bases.into_iter().find(|base| base.exists()) else { return Ok(0) };
    Ok(std::fs::read_dir(base)?.flatten().filter(|entry| entry.path().is_dir()).count())
}
