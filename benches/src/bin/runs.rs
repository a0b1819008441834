//! Durable runs over HTTP beside a bare in-process loop that writes the same
//! rows with the same batching. Method and results: benches/README.md.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Parser;
use http::StatusCode;
use nh_bench::baseline;
use nh_bench::child::Server;
use nh_bench::load::Load;
use nh_bench::report::{machine, median};

/// A key of the right form; the hub that it opens lives as long as this run.
const KEY: &str = "nh_0123456789abcdefghijklmnopqrstuvwx";

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

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    // Beside the checkout, not in /tmp: that may be memory, and then nothing
    // is durable.
    let directory = tempfile::tempdir_in("target")?;
    let key = baseline::with_checksum(KEY);
    let hub = Server::hub(&options.binary, directory.path(), "", &key)?;
    let headers = vec![("authorization".to_owned(), format!("Bearer {key}"))];
    let three_steps = Load {
        address: hub.address,
        path: "/v1/run".to_owned(),
        headers: headers.clone(),
        body: Bytes::from_static(
            br#"{"target":"agent_default","type":"agent","input":{"goal":"Calculate 17 * 23"}}"#,
        ),
        in_flight: options.in_flight,
        expect: StatusCode::OK,
    };
    let one_step = Load {
        body: Bytes::from_static(br#"{"target":"calculate","type":"tool","input":{"expression":"17 * 23"}}"#),
        in_flight: 1,
        ..three_steps.clone()
    };
    println!("machine: {}", machine());
    three_steps.run(1.0).await?;
    let (mut bare, mut runs, mut ratios, mut cpu, mut p50, mut p99) =
        (vec![], vec![], vec![], vec![], vec![], vec![]);
    for round in 1..=options.rounds {
        let base = baseline::runs_per_second(directory.path(), options.in_flight, options.seconds).await?;
        let before = hub.cpu_seconds()?;
        let loaded = three_steps.run(options.seconds).await?;
        let spent = hub.cpu_seconds()? - before;
        let single = one_step.run(options.seconds / 2.0).await?;
        println!(
            "round {round}: bare {base:.0} runs/s, hub {:.0} runs/s (p50 {:.1} ms, p99 {:.1} ms), one step p50 {:.2} ms p99 {:.2} ms",
            loaded.per_second(),
            loaded.latency_ms(0.5),
            loaded.latency_ms(0.99),
            single.latency_ms(0.5),
            single.latency_ms(0.99),
        );
        bare.push(base);
        ratios.push(loaded.per_second() / base);
        cpu.push(spent * 1000.0 / loaded.requests as f64);
        runs.push(loaded.per_second());
        p50.push(single.latency_ms(0.5));
        p99.push(single.latency_ms(0.99));
    }
    println!("bare loop            {:>8.0} runs/s", median(&bare));
    println!("hub, {:>3} in flight   {:>8.0} runs/s", options.in_flight, median(&runs));
    println!("hub / bare           {:>8.2}", median(&ratios));
    println!("hub CPU a run        {:>8.2} ms", median(&cpu));
    println!("one-step run p50     {:>8.2} ms", median(&p50));
    println!("one-step run p99     {:>8.2} ms", median(&p99));
    Ok(())
}
