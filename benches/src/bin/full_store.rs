//! A hub on a full store (100,000 queued and 1,000,000 finished runs) beside one
//! on an empty store, in turns. Method and results: benches/README.md.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;
use http::{Method, StatusCode};
use nh_bench::hub::{self, Hub};
use nh_bench::report::{Figures, machine};
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection as _, Row as _};

#[derive(Parser)]
struct Options {
    /// The hub, built for release.
    #[arg(long, default_value = "target/release/neuralhub")]
    binary: PathBuf,
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    #[arg(long, default_value_t = 100_000)]
    queued: u64,
    #[arg(long, default_value_t = 1_000_000)]
    finished: u64,
}

#[tokio::main(flavor = "current_thread")]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    println!("machine: {}", machine());
    let directory = tempfile::tempdir_in("target")?;
    // A provider that never answers: the run that asks it holds the one place
    // that its key has, and all others of that key stay queued.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let config = format!(
        "[[providers]]\nname = \"silent\"\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\n\
         [[providers.models]]\nid = \"m\"\n",
        silent.local_addr()?
    );
    let home = directory.path().join("full");
    std::fs::create_dir_all(&home)?;
    fill(&options, &home, &config).await?;
    let full = Hub::start(&options.binary, &home, &config)?;
    let empty_home = directory.path().join("empty");
    std::fs::create_dir_all(&empty_home)?;
    let empty = Hub::start(&options.binary, &empty_home, &config)?;
    empty.make_chain(3).await?;

    let mut figures = Figures::default();
    for hub in [&empty, &full] {
        hub.runs(&hub::chain(), options.in_flight).run(1.0).await?;
    }
    for _ in 0..options.rounds {
        let mut rates = Vec::new();
        for (name, hub) in [("empty", &empty), ("full", &full)] {
            let before = hub.server.cpu_seconds()?;
            let loaded = hub.runs(&hub::chain(), options.in_flight).run(options.seconds).await?;
            let cpu = (hub.server.cpu_seconds()? - before) * 1000.0 / loaded.requests as f64;
            let one = hub.runs(&hub::tool(), 1).run(options.seconds / 3.0).await?;
            figures.add(&format!("{name}: runs/s"), loaded.per_second());
            figures.add(&format!("{name}: CPU ms a run"), cpu);
            figures.add(&format!("{name}: one-step run, p50 ms"), one.latency_ms(0.5));
            rates.push((loaded.per_second(), cpu, one.latency_ms(0.5)));
        }
        if let [empty, full] = rates[..] {
            figures.add("full / empty: runs/s", full.0 / empty.0);
            figures.add("full / empty: CPU a run", full.1 / empty.1);
            figures.add("full / empty: one-step p50", full.2 / empty.2);
        }
    }
    figures.print();
    Ok(())
}

/// Lets a hub make one run of each kind, and copies their rows.
async fn fill(options: &Options, home: &Path, config: &str) -> anyhow::Result<()> {
    let hub = Hub::start(&options.binary, home, config)?;
    hub.make_chain(3).await?;
    let (_, finished) = hub.call(Method::POST, "/v1/run", &hub::chain()).await?;
    let finished = finished["runId"].as_str().context("a run was refused")?.to_owned();
    let agent = json!({"id": "stuck", "name": "Stuck", "model_id": "silent/m", "limits": {"max_running": 1}});
    let (status, answer) = hub.call(Method::POST, "/v1/agents", &agent).await?;
    ensure!(status == StatusCode::CREATED, "the agent was refused: {answer}");
    let body = json!({"target": "stuck", "type": "agent", "input": {"goal": "Wait."}, "async": true});
    let mut queued = Value::Null;
    for _ in 0..2 {
        queued = hub.call(Method::POST, "/v1/run", &body).await?.1;
    }
    let queued = queued["runId"].as_str().context("a run was refused")?.to_owned();
    drop(hub);
    let options_of =
        SqliteConnectOptions::new().filename(home.join("hub/neuralhub.db")).disable_statement_logging();
    let mut connection = options_of.connect().await?;
    copy(&mut connection, &finished, "01900000-0000-7000-8000-", options.finished).await?;
    copy(&mut connection, &queued, "01900000-0000-7000-9000-", options.queued).await?;
    connection.close().await?;
    Ok(())
}

/// So many copies of a run and its journal, under older ids that begin so.
async fn copy(connection: &mut SqliteConnection, run: &str, begin: &str, count: u64) -> anyhow::Result<()> {
    let columns = sqlx::query("select name from pragma_table_info('runs') where name <> 'id'");
    let columns: Vec<String> =
        columns.fetch_all(&mut *connection).await?.iter().map(|row| row.get::<String, _>(0)).collect();
    let columns = columns.join(", ");
    let numbers = format!(
        "with recursive numbers (n) as (select 1 union all select n + 1 from numbers where n < {count})"
    );
    let id = format!("printf('{begin}%012x', n)");
    let runs = format!(
        "{numbers} insert into runs (id, {columns}) select {id}, {columns} from numbers, runs where id = $1"
    );
    let events = format!(
        "{numbers} insert into run_events (run_id, seq, kind, at, data) \
         select {id}, seq, kind, at, data from numbers, run_events where run_id = $1"
    );
    for statement in [runs, events] {
        sqlx::query(AssertSqlSafe(statement)).bind(run).execute(&mut *connection).await?;
    }
    Ok(())
}
