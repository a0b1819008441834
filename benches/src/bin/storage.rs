//! Object storage over HTTP, beside what the same disk and the same SQLite do
//! without a hub. Method and results: benches/storage/README.md.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use http::{Method, StatusCode};
use nh_bench::hub::Hub;
use nh_bench::load::{Connection, Load, Loaded, Paths, always, quantile_ms, request_head};
use nh_bench::report::{Figures, machine};
use nh_bench::storage::bare::{self, Log, Rows};
use nh_bench::storage::listing;
use nh_bench::storage::transfer::{self, End, Object};
use serde_json::Value;

const KIB: usize = 1024;

#[derive(Parser)]
struct Options {
    /// What is measured; all of it unless something is named.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// The hub, built for release.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    /// Where the data are: on the disk that is measured.
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    /// Interleaved rounds of baseline and hub.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of each measurement with many in flight.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    #[arg(long, default_value_t = 32)]
    in_flight: usize,
    /// Of the large object.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// Before each use of the disk by the large object: some disks are fast for a while
    /// and slow after that.
    #[arg(long, default_value_t = 5)]
    pause_seconds: u64,
    /// That are listed.
    #[arg(long, default_value_t = 1_000_000)]
    objects: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One large object up and down.
    Large,
    /// Many small ones at once.
    Small,
    /// Pages of a long list.
    List,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    println!("machine: {}", machine());
    let is_asked = |part| options.parts.is_empty() || options.parts.contains(&part);
    if is_asked(Part::Large) {
        large(&options).await?;
    }
    if is_asked(Part::Small) {
        small(&options).await?;
    }
    if is_asked(Part::List) {
        list(&options).await?;
    }
    Ok(())
}

/// So that what was written before is not in the way of what comes.
fn settle() -> anyhow::Result<()> {
    ensure!(Command::new("sync").status()?.success(), "sync failed");
    Ok(())
}

async fn large(options: &Options) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(&options.directory)?;
    let source = directory.path().join("source");
    transfer::make(&source, options.bytes)?;
    let hub = Hub::start(&options.binary, directory.path(), "")?;
    let large =
        Large { options, directory: directory.path(), source, workspace: hub.workspace().await?, hub };
    let mut figures = Figures::default();
    for round in 0..options.rounds {
        // A disk may be faster for what comes first.
        let (copied, sent) = if round % 2 == 0 {
            let copied = large.copy(&mut figures).await?;
            (copied, large.send(round, &mut figures).await?)
        } else {
            let sent = large.send(round, &mut figures).await?;
            (large.copy(&mut figures).await?, sent)
        };
        figures.add("upload / copy, durable", sent.up / copied.durable);
        figures.add("download / copy, durable", sent.down_durable / copied.durable);
        figures.add("download / copy, written", sent.down_written / copied.written);
    }
    figures.print();
    Ok(())
}

struct Large<'o> {
    options: &'o Options,
    directory: &'o Path,
    source: PathBuf,
    workspace: String,
    hub: Hub,
}

/// MB/s of plain copies.
struct Copied {
    durable: f64,
    written: f64,
}

/// MB/s through the hub.
struct Sent {
    up: f64,
    down_durable: f64,
    down_written: f64,
}

impl Large<'_> {
    async fn copy(&self, figures: &mut Figures) -> anyhow::Result<Copied> {
        let mut copy = async |end, of| {
            self.settle().await?;
            let to = self.directory.join("copy");
            let rate = self.rate(figures, of, transfer::copy(&self.source, &to, end)?);
            std::fs::remove_file(to)?;
            anyhow::Ok(rate)
        };
        Ok(Copied {
            durable: copy(End::Durable, "plain copy, durable").await?,
            written: copy(End::Written, "plain copy, written").await?,
        })
    }

    async fn send(&self, round: usize, figures: &mut Figures) -> anyhow::Result<Sent> {
        let name = format!("{}/large-{round}.bin", self.workspace);
        let headers = self.hub.headers();
        let (up, down) = (format!("/v1/storage/upload?pathname={name}"), format!("/v1/storage/{name}"));
        let object = |path| Object { address: self.hub.server.address, headers: &headers, path };
        self.settle().await?;
        let watched = Watched::begin(&self.hub)?;
        let up = self.rate(figures, "upload", object(&up).upload(&self.source)?);
        watched.end(&self.hub, "upload", figures)?;

        let got = self.directory.join("got");
        self.settle().await?;
        let watched = Watched::begin(&self.hub)?;
        let down_durable =
            self.rate(figures, "download, durable", object(&down).download(&got, End::Durable)?);
        watched.end(&self.hub, "download", figures)?;
        ensure!(round > 0 || transfer::are_equal(&self.source, &got)?, "what came back is something else");
        std::fs::remove_file(&got)?;
        self.settle().await?;
        let down_written =
            self.rate(figures, "download, written", object(&down).download(&got, End::Written)?);
        std::fs::remove_file(&got)?;
        self.rate(figures, "download, forgotten", object(&down).download_to_nowhere()?);
        let (status, _) = self.hub.call(Method::DELETE, &down, &Value::Null).await?;
        ensure!(status == StatusCode::NO_CONTENT, "deleting was answered {status}");
        Ok(Sent { up, down_durable, down_written })
    }

    async fn settle(&self) -> anyhow::Result<()> {
        settle()?;
        tokio::time::sleep(Duration::from_secs(self.options.pause_seconds)).await;
        Ok(())
    }

    fn rate(&self, figures: &mut Figures, of: &str, seconds: f64) -> f64 {
        let rate = self.options.bytes as f64 / 1e6 / seconds;
        figures.add(&format!("{of}: MB/s"), rate);
        rate
    }
}

/// What a hub had taken before something.
struct Watched {
    cpu_seconds: f64,
    resident_mb: f64,
}

impl Watched {
    fn begin(hub: &Hub) -> anyhow::Result<Self> {
        hub.server.forget_peak()?;
        Ok(Self { cpu_seconds: hub.server.cpu_seconds()?, resident_mb: hub.server.resident_mb()? })
    }

    fn end(self, hub: &Hub, of: &str, figures: &mut Figures) -> anyhow::Result<()> {
        let spent = hub.server.cpu_seconds()? - self.cpu_seconds;
        figures.add(&format!("{of}: CPU s of the hub"), spent);
        let more = hub.server.peak_resident_mb()? - self.resident_mb;
        figures.add(&format!("{of}: more resident than before, MB"), more);
        Ok(())
    }
}

async fn small(options: &Options) -> anyhow::Result<()> {
    let mut figures = Figures::default();
    for _ in 0..options.rounds {
        for (name, size) in [("4 KiB", 4 * KIB), ("64 KiB", 64 * KIB), ("1 MiB", KIB * KIB)] {
            of_size(options, name, &Bytes::from(vec![b'x'; size]), &mut figures).await?;
        }
    }
    figures.print();
    Ok(())
}

/// Puts and reads of one size, each on new files.
async fn of_size(options: &Options, size: &str, data: &Bytes, figures: &mut Figures) -> anyhow::Result<()> {
    let Options { in_flight, seconds, .. } = *options;
    let directory = tempfile::tempdir_in(&options.directory)?;
    let is_in_rows = data.len() <= 64 * KIB;
    let mut rows = None;
    let mut bare = Vec::new();
    if is_in_rows {
        for (log, name) in [(Log::WrittenBack, "writing its log back"), (Log::Left, "leaving its log")] {
            let new = Rows::new(directory.path(), log).await?;
            settle()?;
            let puts = new.puts(data, in_flight, seconds).await?;
            figures.add(&format!("{size}: bare writer, {name}: p99 ms"), puts.latency_ms(0.99));
            bare.push((name, puts.per_second()));
            rows = Some((new, puts.requests));
        }
    } else {
        settle()?;
        bare.push(("files", bare::files_per_second(directory.path(), data, in_flight, seconds)?));
    }
    let hub = Hub::start(&options.binary, directory.path(), "")?;
    put(&hub, "warm", data, in_flight).run(0.5).await?;
    settle()?;
    let before = hub.server.cpu_seconds()?;
    let puts = put(&hub, "run", data, in_flight).run(seconds).await?;
    let cpu_ms = (hub.server.cpu_seconds()? - before) * 1000.0 / puts.requests as f64;
    tell(figures, &format!("{size}: hub, puts"), &puts, cpu_ms);
    for (name, rate) in bare {
        figures.add(&format!("{size}: bare writer, {name}: puts/s"), rate);
        figures.add(&format!("{size}: puts, hub / bare writer, {name}"), puts.per_second() / rate);
    }

    let workspace = hub.workspace().await?;
    let count = puts.requests;
    let path =
        move |number| format!("/v1/storage/{workspace}/run/{}", bare::name(bare::spread(number, count)));
    let load = Load {
        method: Method::GET,
        body: Bytes::new(),
        expect: StatusCode::OK,
        path: Arc::new(path),
        ..put(&hub, "run", data, in_flight)
    };
    load.run(0.2).await?;
    let before = hub.server.cpu_seconds()?;
    let reads = load.run(seconds).await?;
    let cpu_ms = (hub.server.cpu_seconds()? - before) * 1000.0 / reads.requests as f64;
    tell(figures, &format!("{size}: hub, reads"), &reads, cpu_ms);
    if let Some((rows, count)) = rows {
        let bare = rows.reads_per_second(count, seconds / 2.0)?;
        figures.add(&format!("{size}: bare reader of rows, reads/s"), bare);
    }
    Ok(())
}

fn tell(figures: &mut Figures, of: &str, loaded: &Loaded, cpu_ms: f64) {
    figures.add(&format!("{of}/s"), loaded.per_second());
    figures.add(&format!("{of}, p50 ms"), loaded.latency_ms(0.5));
    figures.add(&format!("{of}, p99 ms"), loaded.latency_ms(0.99));
    figures.add(&format!("{of}, CPU ms each"), cpu_ms);
}

/// Uploads of the same bytes under new names below a folder.
fn put(hub: &Hub, folder: &str, data: &Bytes, in_flight: usize) -> Load {
    let folder = folder.to_owned();
    let path: Paths =
        Arc::new(move |number| format!("/v1/storage/upload?pathname={folder}/{}", bare::name(number)));
    Load {
        address: hub.server.address,
        method: Method::POST,
        path,
        headers: hub.headers(),
        body: data.clone(),
        in_flight,
        expect: StatusCode::CREATED,
        per_second: None,
    }
}

async fn list(options: &Options) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(&options.directory)?;
    let hub = Hub::start(&options.binary, directory.path(), "")?;
    let workspace = hub.workspace().await?;
    drop(hub);
    let file = directory.path().join("hub/neuralhub.db");
    listing::fill(&file, &workspace, options.objects)?;
    settle()?;
    let hub = Hub::start(&options.binary, directory.path(), "")?;
    let folders = options.objects / listing::IN_A_FOLDER;
    let one_folder = move |number| listing::folder(bare::spread(number, folders));
    let at = |query: &'static str| -> Paths {
        Arc::new(move |number| format!("/v1/storage/list?limit=1000{query}{}", one_folder(number)))
    };
    let all = "/v1/storage/list?limit=1000&prefix=data/";
    let cases = [
        ("1,000 of all, the first page", always(all), 200),
        ("1,000 of a folder", at("&prefix="), 200),
        ("1,000 of a folder, folded", at("&mode=folded&prefix="), 200),
        ("1,000 folders of 1,000 each", always(&format!("{all}&mode=folded")), 20),
    ];
    let mut figures = Figures::default();
    for _ in 0..options.rounds {
        let pages = folders.min(200);
        let bare = listing::bare_pages(&file, &workspace, pages, 1000)?;
        figures.add("bare, the rows of 1,000: p50 ms", quantile_ms(&bare, 0.5));
        figures.add("bare, the rows of 1,000: p99 ms", quantile_ms(&bare, 0.99));
        for (name, path, times) in &cases {
            add_times(&mut figures, name, lists(&hub, path, *times).await?);
        }
        add_times(&mut figures, "1,000 of all, page after page", walk(&hub, all, pages).await?);
    }
    figures.print();
    Ok(())
}

fn add_times(figures: &mut Figures, name: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    figures.add(&format!("{name}: p50 ms"), quantile_ms(&times, 0.5));
    figures.add(&format!("{name}: p99 ms"), quantile_ms(&times, 0.99));
}

/// How long so many lists take, one after the other on one connection.
async fn lists(hub: &Hub, path: &Paths, times: u64) -> anyhow::Result<Vec<Duration>> {
    let mut connection = Connection::open(hub.server.address).await?;
    let mut taken = Vec::new();
    for number in 0..times {
        taken.push(page(&mut connection, hub, &path(number)).await?.0);
    }
    Ok(taken)
}

/// The same for pages that follow each other.
async fn walk(hub: &Hub, first: &str, pages: u64) -> anyhow::Result<Vec<Duration>> {
    let mut connection = Connection::open(hub.server.address).await?;
    let mut taken = Vec::new();
    let mut path = first.to_owned();
    for _ in 0..pages {
        let (time, answer) = page(&mut connection, hub, &path).await?;
        taken.push(time);
        let Some(cursor) = answer["cursor"].as_str() else { break };
        path = format!("{first}&cursor={cursor}");
    }
    Ok(taken)
}

async fn page(connection: &mut Connection, hub: &Hub, path: &str) -> anyhow::Result<(Duration, Value)> {
    let request = request_head(&Method::GET, path, hub.server.address, &hub.headers(), 0);
    let began = Instant::now();
    let (status, body) = connection.ask(request.as_bytes()).await?;
    let time = began.elapsed();
    ensure!(status == StatusCode::OK, "{path} answered {status}: {}", String::from_utf8_lossy(body));
    let answer: Value = serde_json::from_slice(body)?;
    let count = |of: &str| answer[of].as_array().map(Vec::len).context("a list");
    let found = count("blobs")? + count("folders")?;
    ensure!(found == 1000, "{path} listed {found}");
    Ok((time, answer))
}
