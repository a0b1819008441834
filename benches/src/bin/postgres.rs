//! Durable runs on PostgreSQL beside a bare writer of the same rows on the same
//! server, and how long a second node takes to take over what a killed one had
//! under way. Method and results: benches/README.md.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use http::{Method, StatusCode};
use nh_bench::baseline::{self, Statements};
use nh_bench::hub::{self, Hub};
use nh_bench::report::{Figures, machine};
use nh_store::schemas;
use secrecy::SecretString;
use serde_json::{Value, json};

/// Between two looks at the node that takes over.
const LOOK: Duration = Duration::from_millis(5);
const LEASE_MS: u64 = 1000;
/// Steps of the runs that are taken over.
const LONG: usize = 30;

#[derive(Parser)]
struct Options {
    /// The hub, built for release.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    /// `scripts/with-postgres` gives one; with NEURALHUB_POSTGRES_DURABLE=1 one
    /// that writes to the disk.
    #[arg(long, env = "NEURALHUB_TEST_POSTGRES")]
    postgres: String,
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    #[arg(long, default_value_t = 5)]
    takeovers: usize,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    println!("machine: {}", machine());
    let server = SecretString::from(options.postgres.clone());
    for schema in ["bench", "bare"] {
        schemas::create(&server, schema).await?;
    }
    let url = |schema: &str| format!("{}?options=-csearch_path%3D{schema}", options.postgres);
    let directory = tempfile::tempdir_in("target")?;
    let mut figures = Figures::default();
    nh_store::Store::open_postgres(&url("bare").into()).await?.close().await;
    {
        let hub = start(&options.binary, directory.path(), "one", &url("bench"))?;
        hub.make_chain(3).await?;
        let workflow = hub.runs(&hub::chain(), options.in_flight);
        workflow.run(1.0).await?;
        for _ in 0..options.rounds {
            for (told, statements) in [("all rows", Statements::ForAll), ("each row", Statements::ForEach)] {
                let (bare, seconds) = (url("bare"), options.seconds / 2.0);
                let bare =
                    baseline::runs_per_second_on_postgres(&bare, statements, options.in_flight, seconds)
                        .await?;
                let loaded = workflow.run(options.seconds).await?.per_second();
                figures.add(&format!("bare writer, a statement for {told}: runs/s"), bare);
                figures.add("hub, three steps: runs/s", loaded);
                figures.add(&format!("hub / bare, a statement for {told}"), loaded / bare);
            }
        }
    }
    for _ in 0..options.takeovers {
        take_over(&options, directory.path(), &url("bench"), &mut figures).await?;
    }
    figures.print();
    for schema in ["bench", "bare"] {
        schemas::remove(&server, schema).await?;
    }
    Ok(())
}

fn start(binary: &Path, directory: &Path, name: &str, url: &str) -> anyhow::Result<Hub> {
    let home = directory.join(name);
    std::fs::create_dir_all(&home)?;
    let master_key = directory.join("master.key");
    std::fs::write(&master_key, [7; 32])?;
    let config = format!(
        "[store]\nurl = {}\n[security]\nmaster_key_file = {}\n[engine]\nlease_ms = {LEASE_MS}\n",
        json!(url),
        json!(std::fs::canonicalize(&master_key)?)
    );
    Hub::start(binary, &home, &config)
}

async fn take_over(
    options: &Options,
    directory: &Path,
    url: &str,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let (first, second) =
        (start(&options.binary, directory, "one", url)?, start(&options.binary, directory, "two", url)?);
    let workflow = json!({"name": "Long", "steps": (0..LONG).map(|number| json!({
        "id": format!("s{number}"), "uses": "tool:calculate", "with": {"expression": "1 + 1"},
        "needs": if number == 0 { vec![] } else { vec![format!("s{}", number - 1)] },
    })).collect::<Vec<_>>()});
    let (status, made) = first.call(Method::POST, "/v1/workflows", &workflow).await?;
    ensure!(status == StatusCode::CREATED, "the workflow was refused: {made}");
    let body = json!({"target": made["id"], "type": "workflow", "async": true});
    let answers = (0..options.in_flight).map(|_| first.call(Method::POST, "/v1/run", &body));
    let mut runs = Vec::new();
    for answer in futures_util::future::join_all(answers).await {
        runs.push(answer?.1["runId"].as_str().context("a run was refused")?.to_owned());
    }
    drop(first);
    let killed = Instant::now();
    let left = unfinished(&second).await?;
    ensure!(left > 0, "nothing was under way when the first node was killed");
    while second.metric("neuralhub_runs_taken_over_total").await? < left as f64 {
        tokio::time::sleep(LOOK).await;
    }
    let taken_over = killed.elapsed();
    while unfinished(&second).await? > 0 {
        tokio::time::sleep(LOOK).await;
    }
    figures.add("runs under way when a node was killed", left as f64);
    figures.add("from the kill until another node has all: s", taken_over.as_secs_f64());
    figures.add("from the kill until all have ended: s", killed.elapsed().as_secs_f64());
    Ok(())
}

async fn unfinished(hub: &Hub) -> anyhow::Result<usize> {
    let mut open = 0;
    for state in ["PENDING", "RUNNING"] {
        let path = format!("/v1/runs?state={state}&limit=1000");
        let (_, listed) = hub.call(Method::GET, &path, &Value::Null).await?;
        open += listed["runs"].as_array().map_or(0, Vec::len);
    }
    Ok(open)
}
