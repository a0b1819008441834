//! Object storage over HTTP, beside what the same disk and the same SQLite do
//! without a hub. Method and results: benches/storage/README.md.

use std::path::PathBuf;
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
use nh_bench::storage::bare::{self, Rows};
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
    let at = |name: &str| directory.path().join(name);
    let source = at("source");
    transfer::make(&source, options.bytes)?;
    let hub = Hub::start(&options.binary, directory.path(), "")?;
    let workspace = hub.workspace().await?;
    let headers = hub.headers();
    let megabytes = options.bytes as f64 / 1e6;
    let mut figures = Figures::default();
    for round in 0..options.rounds {
        let mut rate = |of: &str, seconds: f64| {
            figures.add(&format!("{of}: MB/s"), megabytes / seconds);
            megabytes / seconds
        };
        settle()?;
        let durable = rate("plain copy, durable", transfer::copy(&source, &at("copy"), End::Durable)?);
        std::fs::remove_file(at("copy"))?;
        settle()?;
        let written = rate("plain copy, written", transfer::copy(&source, &at("copy"), End::Written)?);
        std::fs::remove_file(at("copy"))?;
        settle()?;

        let name = format!("{workspace}/large-{round}.bin");
        let path = format!("/v1/storage/upload?pathname={name}");
        let object = |path| Object { address: hub.server.address, headers: &headers, path };
        let of_upload = Watched::begin(&hub)?;
        let uploaded = rate("upload", object(&path).upload(&source)?);
        let of_upload = of_upload.end(&hub)?;
        settle()?;
        let path = format!("/v1/storage/{name}");
        let of_download = Watched::begin(&hub)?;
        let kept = rate("download, durable", object(&path).download(&at("got"), End::Durable)?);
        let of_download = of_download.end(&hub)?;
        ensure!(round > 0 || transfer::are_equal(&source, &at("got"))?, "what came back is something else");
        std::fs::remove_file(at("got"))?;
        settle()?;
        let got = rate("download, written", object(&path).download(&at("got"), End::Written)?);
        std::fs::remove_file(at("got"))?;
        rate("download, forgotten", object(&path).download_to_nowhere()?);
        let (status, _) = hub.call(Method::DELETE, &path, &Value::Null).await?;
        ensure!(status == StatusCode::NO_CONTENT, "deleting was answered {status}");

        figures.add("upload / copy, durable", uploaded / durable);
        figures.add("download / copy, durable", kept / durable);
        figures.add("download / copy, written", got / written);
        for (of, watched) in [("upload", of_upload), ("download", of_download)] {
            figures.add(&format!("{of}: CPU s of the hub"), watched.cpu_seconds);
            figures.add(&format!("{of}: more resident than before, MB"), watched.more_mb);
        }
    }
    figures.print();
    Ok(())
}

/// What a hub takes for something.
struct Watched {
    cpu_seconds: f64,
    /// At its most, beside what was resident when it began.
    more_mb: f64,
}

impl Watched {
    fn begin(hub: &Hub) -> anyhow::Result<Self> {
        hub.server.forget_peak()?;
        Ok(Self { cpu_seconds: hub.server.cpu_seconds()?, more_mb: hub.server.resident_mb()? })
    }

    fn end(self, hub: &Hub) -> anyhow::Result<Self> {
        Ok(Self {
            cpu_seconds: hub.server.cpu_seconds()? - self.cpu_seconds,
            more_mb: hub.server.peak_resident_mb()? - self.more_mb,
        })
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
    let rows = Rows::new(directory.path()).await?;
    settle()?;
    let is_in_rows = data.len() <= 64 * KIB;
    let (bare, bare_count) = if is_in_rows {
        let bare = rows.puts(data, in_flight, seconds).await?;
        figures.add(&format!("{size}: bare writer of rows, p99 ms"), bare.latency_ms(0.99));
        (bare.per_second(), bare.requests)
    } else {
        (bare::files_per_second(directory.path(), data, in_flight, seconds)?, 0)
    };
    let hub = Hub::start(&options.binary, directory.path(), "")?;
    put(&hub, "warm", data, in_flight).run(0.5).await?;
    settle()?;
    let before = hub.server.cpu_seconds()?;
    let puts = put(&hub, "run", data, in_flight).run(seconds).await?;
    let cpu_ms = (hub.server.cpu_seconds()? - before) * 1000.0 / puts.requests as f64;
    let what = if is_in_rows { "rows" } else { "files" };
    figures.add(&format!("{size}: bare writer of {what}, puts/s"), bare);
    tell(figures, &format!("{size}: hub, puts"), &puts, cpu_ms);
    figures.add(&format!("{size}: puts, hub / bare"), puts.per_second() / bare);

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
    if is_in_rows {
        let bare = rows.reads_per_second(bare_count, seconds / 2.0)?;
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
        ("1,000 folders of 1,000 each", always(&format!("{all}&mode=folded")), 50),
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
