//! A hub that is killed (SIGKILL) with many runs under way, and started again:
//! how long until all of them have ended. Method and results: benches/README.md.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Parser;
use http::{Method, StatusCode};
use nh_bench::hub::{self, Hub};
use nh_bench::report::{Figures, machine};
use serde_json::{Value, json};

/// Steps of each run: enough that most are in the middle when the hub dies.
const STEPS: usize = 20;

#[derive(Parser)]
struct Options {
    /// The hub, built for release.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    #[arg(long, default_value_t = 20)]
    kills: usize,
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let directory = tempfile::tempdir_in("target")?;
    println!("machine: {}", machine());
    let mut hub = Hub::start(&options.binary, directory.path(), "")?;
    hub.make_chain(STEPS).await?;
    let mut figures = Figures::default();
    for _ in 0..options.kills {
        let begun = Instant::now();
        let runs = begin(&hub, options.in_flight).await?;
        until_ended(&hub, &runs).await?;
        let undisturbed = begun.elapsed();

        let begun = Instant::now();
        let runs = begin(&hub, options.in_flight).await?;
        let before = begun.elapsed();
        drop(hub);
        let restarted = Instant::now();
        hub = Hub::start(&options.binary, directory.path(), "")?;
        let up = restarted.elapsed();
        until_ended(&hub, &runs).await?;
        let all = restarted.elapsed();
        let overhead = (before + all).saturating_sub(undisturbed);
        let seconds = |time: Duration| time.as_secs_f64();
        figures.add("undisturbed, from the first POST to the last end: s", seconds(undisturbed));
        figures.add("from the restart until it listens: s", seconds(up));
        figures.add("from the restart until all have ended: s", seconds(all));
        figures.add("overhead: s", seconds(overhead));
    }
    figures.print();
    Ok(())
}

/// Ids of runs that were accepted.
async fn begin(hub: &Hub, count: usize) -> anyhow::Result<Vec<String>> {
    let mut body = hub::chain();
    body["async"] = json!(true);
    let answers = (0..count).map(|_| hub.call(Method::POST, "/v1/run", &body));
    let mut runs = Vec::with_capacity(count);
    for answer in futures_util::future::join_all(answers).await {
        let (status, answer) = answer?;
        ensure!(status == StatusCode::ACCEPTED, "a run was refused: {answer}");
        runs.push(answer["runId"].as_str().unwrap_or_default().to_owned());
    }
    Ok(runs)
}

async fn until_ended(hub: &Hub, runs: &[String]) -> anyhow::Result<()> {
    loop {
        let path = "/v1/runs?state=SUCCESS&limit=1000";
        let (_, done) = hub.call(Method::GET, path, &Value::Null).await?;
        let done: Vec<&str> =
            done["runs"].as_array().into_iter().flatten().filter_map(|run| run["runId"].as_str()).collect();
        if runs.iter().all(|run| done.contains(&run.as_str())) {
            return Ok(());
        }
    }
}
