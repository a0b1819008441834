//! The hub as a gateway to models, beside nginx as a plain proxy before the same
//! upstream. Method and results: benches/gateway/README.md.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use nh_bench::gateway::bench::{Asked, Bench};
use nh_bench::gateway::upstream::{self, Pace};
use nh_bench::load::{Load, quantile_ms};
use nh_bench::report::{Figures, machine};

#[derive(Parser)]
struct Options {
    /// What is measured; all of it unless something is named.
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// The hub, built for release.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    /// Where the hub's data are: on a disk, not in memory.
    #[arg(long, default_value = "target")]
    directory: PathBuf,
    /// Each of nginx and hub in turns.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Of each measurement.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Of each measurement at a pace.
    #[arg(long, default_value_t = 10.0)]
    paced_seconds: f64,
    /// Pairs with and without a budget.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 100.0)]
    per_second: f64,
    #[arg(long, default_value_t = 256)]
    many_streams: usize,
    /// Be the upstream, at this address.
    #[arg(long, hide = true)]
    upstream: Option<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Whole answers, as many as can be had: processor time a request.
    Plain,
    /// Whole answers at a pace: latency.
    Latency,
    /// Steady streams: time to the first frame, processor time a stream, streams a second.
    Streams,
    /// Streams as fast as they go: processor time a stream.
    Unpaced,
    /// How soon the upstream sees that the client of a stream went away.
    Left,
    /// What a budget costs, and whether the ledger has what the upstream answered.
    Ledger,
}

impl Part {
    async fn measure(self, bench: &Bench, options: &Options) -> anyhow::Result<Figures> {
        match self {
            Part::Plain => plain(bench, options).await,
            Part::Latency => latency(bench, options).await,
            Part::Streams => streams(bench, options).await,
            Part::Unpaced => unpaced(bench, options).await,
            Part::Left => left(bench, options).await,
            Part::Ledger => ledger(bench, options).await,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(address) = options.upstream {
        return upstream::serve(address).await;
    }
    std::fs::create_dir_all(&options.directory)?;
    let directory = tempfile::tempdir_in(&options.directory)?;
    let bench = Bench::start(&options.binary, directory.path()).await?;
    println!("machine: {}", machine());
    println!("hub idle: {:.1} MB resident", bench.hub.server.resident_mb()?);
    for asked in [Asked::Upstream, Asked::Nginx, Asked::Hub, Asked::HubBudget, Asked::HubLimits] {
        bench.plain(asked, options.connections, None).run(1.0).await?;
        bench.streams(asked, options.connections, Pace::AtOnce).run(0.5).await?;
    }
    for part in Part::value_variants() {
        if options.parts.is_empty() || options.parts.contains(part) {
            bench.hub.server.forget_peak()?;
            let mut figures = part.measure(&bench, &options).await?;
            figures.add("hub, MB resident at most", bench.hub.server.peak_resident_mb()?);
            println!("\n{part:?}");
            figures.print();
        }
    }
    Ok(())
}

/// Microseconds of the server's processor for each of what `run` says it was asked.
async fn cpu_us<T>(
    bench: &Bench,
    asked: Asked,
    run: impl Future<Output = anyhow::Result<T>>,
    count: impl Fn(&T) -> f64,
) -> anyhow::Result<(f64, T)> {
    let server = bench.server(asked);
    let before = server.cpu_seconds()?;
    let done = run.await?;
    let spent = server.cpu_seconds()? - before;
    Ok((spent * 1e6 / count(&done), done))
}

/// Adds a figure of each, and how it is to nginx's; nginx is the first.
fn add_beside_nginx(figures: &mut Figures, of: &str, each: &[(Asked, f64)]) {
    for (asked, figure) in each {
        figures.add(&format!("{}: {of}", asked.name()), *figure);
    }
    for (asked, figure) in each.iter().skip(1) {
        figures.add(&format!("{} / nginx: {of}", asked.name()), figure / each[0].1);
    }
}

async fn plain(bench: &Bench, options: &Options) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for _ in 0..options.rounds {
        let (mut costs, mut rates) = (Vec::new(), Vec::new());
        for asked in [Asked::Nginx, Asked::Hub, Asked::HubBudget, Asked::HubLimits] {
            let load = bench.plain(asked, options.connections, None);
            let (us, loaded) =
                cpu_us(bench, asked, load.run(options.seconds), |loaded| loaded.requests as f64).await?;
            costs.push((asked, us));
            rates.push((asked, loaded.per_second()));
        }
        add_beside_nginx(&mut figures, "CPU us a request", &costs);
        add_beside_nginx(&mut figures, "requests a second", &rates);
    }
    Ok(figures)
}

async fn latency(bench: &Bench, options: &Options) -> anyhow::Result<Figures> {
    const ASKED: [Asked; 5] = [Asked::Upstream, Asked::Nginx, Asked::Hub, Asked::HubBudget, Asked::HubLimits];
    let mut figures = Figures::default();
    let mut all: Vec<Vec<_>> = vec![Vec::new(); ASKED.len()];
    for _ in 0..options.rounds {
        for (asked, all) in ASKED.iter().zip(&mut all) {
            let load: Load = bench.plain(*asked, options.connections, Some(options.per_second));
            all.extend(load.run(options.paced_seconds).await?.latencies);
        }
    }
    for (asked, all) in ASKED.iter().zip(&mut all) {
        all.sort_unstable();
        figures.add(&format!("{}: latency p50, ms", asked.name()), quantile_ms(all, 0.5));
        figures.add(&format!("{}: latency p99, ms", asked.name()), quantile_ms(all, 0.99));
    }
    Ok(figures)
}

async fn streams(bench: &Bench, options: &Options) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for at_once in [options.connections, options.many_streams] {
        for _ in 0..options.rounds {
            stream_round(bench, options, Pace::Steady, at_once, &mut figures).await?;
        }
    }
    Ok(figures)
}

async fn unpaced(bench: &Bench, options: &Options) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for pace in [Pace::AtOnce, Pace::OneWrite] {
        for _ in 0..options.rounds {
            stream_round(bench, options, pace, options.connections, &mut figures).await?;
        }
    }
    Ok(figures)
}

/// nginx and then the hub, with so many streams at once.
async fn stream_round(
    bench: &Bench,
    options: &Options,
    pace: Pace,
    at_once: usize,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let load = format!("{} × {}", at_once, pace.model());
    let (mut costs, mut rates, mut firsts) = (Vec::new(), Vec::new(), Vec::new());
    for asked in [Asked::Nginx, Asked::Hub, Asked::HubBudget] {
        let streams = bench.streams(asked, at_once, pace);
        let (us, streamed) =
            cpu_us(bench, asked, streams.run(options.seconds), |streamed| streamed.streams as f64).await?;
        costs.push((asked, us));
        rates.push((asked, streamed.per_second()));
        firsts.push((asked, streamed.first_frame_ms(0.5), streamed.first_frame_ms(0.99)));
    }
    add_beside_nginx(figures, &format!("CPU us a stream, {load}"), &costs);
    add_beside_nginx(figures, &format!("streams a second, {load}"), &rates);
    if pace == Pace::Steady {
        let direct = bench.streams(Asked::Upstream, at_once, pace).run(options.seconds).await?;
        let (p50, p99) = (direct.first_frame_ms(0.5), direct.first_frame_ms(0.99));
        firsts.insert(0, (Asked::Upstream, p50, p99));
        for (asked, of_p50, of_p99) in firsts {
            let name = asked.name();
            figures.add(&format!("{name}: first frame p50 ms, {load}"), of_p50);
            figures.add(&format!("{name}: first frame p99 ms, {load}"), of_p99);
            figures.add(&format!("{name}: added to first frame p50 ms, {load}"), of_p50 - p50);
        }
    }
    Ok(())
}

async fn left(bench: &Bench, options: &Options) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for _ in 0..options.rounds * 4 {
        for asked in [Asked::Nginx, Asked::Hub, Asked::HubBudget] {
            let before = bench.left_streams().await?;
            bench.streams(asked, 1, Pace::Steady).leave().await?;
            let from = Instant::now();
            while bench.left_streams().await? == before {
                anyhow::ensure!(from.elapsed().as_secs() < 10, "{}: the upstream writes on", asked.name());
            }
            let ms = from.elapsed().as_secs_f64() * 1e3;
            figures.add(&format!("{}: until the upstream sees it, ms", asked.name()), ms);
        }
    }
    Ok(figures)
}

async fn ledger(bench: &Bench, options: &Options) -> anyhow::Result<Figures> {
    const ASKED: [Asked; 3] = [Asked::Hub, Asked::HubBudget, Asked::HubLimits];
    let mut figures = Figures::default();
    let rows_before = bench.ledger_rows(None).await?;
    let count_before = bench.upstream_count().await?;
    for pair in 0..options.pairs {
        let mut costs = Vec::new();
        // Whoever comes first has no advantage of it over all pairs.
        for asked in ASKED.into_iter().cycle().skip(pair % ASKED.len()).take(ASKED.len()) {
            let load = bench.plain(asked, options.connections, None);
            let (us, _) =
                cpu_us(bench, asked, load.run(options.seconds), |loaded| loaded.requests as f64).await?;
            figures.add(&format!("{}: CPU us a request", asked.name()), us);
            costs.push((asked, us));
        }
        let cost_of =
            |of: Asked| costs.iter().find(|(asked, _)| *asked == of).map_or(f64::NAN, |cost| cost.1);
        figures.add("more with a budget, CPU us a request", cost_of(Asked::HubBudget) - cost_of(Asked::Hub));
        figures
            .add("more with limits too, CPU us a request", cost_of(Asked::HubLimits) - cost_of(Asked::Hub));
    }
    for asked in ASKED {
        bench.streams(asked, options.connections, Pace::Steady).run(1.0).await?;
    }
    let answered = bench.upstream_count().await? - count_before;
    let rows = bench.ledger_rows(Some(rows_before + answered)).await? - rows_before;
    figures.add("answers that the upstream counted", answered as f64);
    figures.add("rows in the ledger", rows as f64);
    figures.add("rows that are missing or too many", (rows - answered) as f64);
    Ok(figures)
}
