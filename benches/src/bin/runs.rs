//! Durable runs over HTTP beside a bare in-process loop that writes the same
//! rows with the same batching. Method and results: benches/README.md.

use std::path::PathBuf;

use clap::Parser;
use nh_bench::baseline::{self, Statements};
use nh_bench::hub::{self, Hub};
use nh_bench::load::{Load, quantile_ms};
use nh_bench::report::{Figures, machine};
use serde_json::json;

#[derive(Parser)]
struct Options {
    /// The hub, built for release.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    /// Interleaved rounds of baseline and hub.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of each measurement.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let Options { in_flight, seconds, .. } = options;
    // Beside the checkout, not in /tmp: that may be memory, and then nothing
    // is durable.
    let directory = tempfile::tempdir_in("target")?;
    let hub = Hub::start(&options.binary, directory.path(), "")?;
    hub.make_chain(3).await?;
    let workflow = hub.runs(&hub::chain(), in_flight);
    let agent = hub.runs(&hub::agent(), in_flight);
    println!("machine: {}", machine());
    workflow.run(1.0).await?;
    agent.run(1.0).await?;
    let mut figures = Figures::default();
    for _ in 0..options.rounds {
        let for_all =
            baseline::runs_per_second(directory.path(), Statements::ForAll, in_flight, seconds).await?;
        let mut measured = Vec::new();
        for (name, load) in [("workflow", &workflow), ("agent", &agent)] {
            let before = hub.server.cpu_seconds()?;
            let loaded = load.run(seconds).await?;
            let spent = hub.server.cpu_seconds()? - before;
            figures.add(&format!("{name}, three steps: runs/s"), loaded.per_second());
            figures.add(&format!("{name}: CPU ms a run"), spent * 1000.0 / loaded.requests as f64);
            measured.push((name, loaded.per_second()));
        }
        let for_each =
            baseline::runs_per_second(directory.path(), Statements::ForEach, in_flight, seconds / 2.0)
                .await?;
        figures.add("bare loop, a statement for all rows: runs/s", for_all);
        figures.add("bare loop, a statement for each row: runs/s", for_each);
        for (name, rate) in measured {
            figures.add(&format!("{name} / bare, a statement for all rows"), rate / for_all);
            figures.add(&format!("{name} / bare, a statement for each row"), rate / for_each);
        }
        one_at_a_time(&hub, seconds / 2.0, &mut figures).await?;
        let commits = baseline::commits(directory.path(), seconds / 2.0).await?;
        let rate = figures.median("workflow, three steps: runs/s") / 2.0;
        let accepted = accept(&hub, rate).run(seconds).await?;
        figures.add("bare durable commit: p99 ms", quantile_ms(&commits, 0.99));
        figures.add("202 at half that load: p99 ms", accepted.latency_ms(0.99));
        figures.add("202 / bare commit, p99", accepted.latency_ms(0.99) / quantile_ms(&commits, 0.99));
    }
    figures.print();
    Ok(())
}

/// What one run takes, and what each further step adds to it.
async fn one_at_a_time(hub: &Hub, seconds: f64, figures: &mut Figures) -> anyhow::Result<()> {
    let one = hub.runs(&hub::tool(), 1).run(seconds).await?;
    let three = hub.runs(&hub::chain(), 1).run(seconds).await?;
    figures.add("one-step run: p50 ms", one.latency_ms(0.5));
    figures.add("one-step run: p99 ms", one.latency_ms(0.99));
    figures.add("a further step: p50 ms", (three.latency_ms(0.5) - one.latency_ms(0.5)) / 2.0);
    Ok(())
}

/// Runs that nobody waits for.
fn accept(hub: &Hub, per_second: f64) -> Load {
    let mut body = hub::chain();
    body["async"] = json!(true);
    Load { per_second: Some(per_second), ..hub.runs(&body, 32) }
}
