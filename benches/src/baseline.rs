//! The bare loop: one task, one connection, no HTTP, no engine. It writes the
//! rows of agent runs of three steps (model, tool, model) as the hub does, in
//! four commits a run, with all runs in flight sharing each commit.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use nh_store::Store;
use nh_types::{Clock as _, Ids as _, SystemClock, SystemIds};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, PgConnection, Postgres, QueryBuilder, Sqlite, SqliteConnection};

const DEFINITION: &str = r#"{"kind":"agent","id":"agent_default","version":1,"agent":{"name":"Default agent","description":"Answers a goal with every built-in tool that the run's scopes allow.","model_id":null,"system_prompt":"You are a careful assistant. Use the tools where they help, check what they return, and answer the goal in plain words.","tools":["*"],"temperature":null,"max_steps":20},"model_id":"neuralhub/offline","tools":["calculate","current_time","http_fetch"]}"#;
const INPUT: &str = r#"{"goal":"Calculate 17 * 23"}"#;
const USAGE: &str =
    r#"{"input_tokens":0,"output_tokens":0,"cached_tokens":0,"reasoning_tokens":0,"cost_usd":0.0}"#;
const CREATED: &str = r#"{"target":"agent_default","run_type":"agent"}"#;
const MODEL_STARTED: &str = r#"{"step":"model:1","kind":"model","name":"neuralhub/offline"}"#;
const MODEL_DONE: &str = r#"{"step":"model:1","output":{"message":{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"calculate","arguments":"{\"expression\":\"17 * 23\"}"}}]},"finish_reason":"tool_calls"},"usage":{"input_tokens":0,"output_tokens":0,"cached_tokens":0,"reasoning_tokens":0,"cost_usd":0.0}}"#;
const TOOL_STARTED: &str =
    r#"{"step":"tool:1.1","kind":"tool","name":"calculate","arguments":{"expression":"17 * 23"}}"#;
const TOOL_DONE: &str = r#"{"step":"tool:1.1","output":{"text":"17 * 23 = 391","value":{"result":"391"}},"usage":{"input_tokens":0,"output_tokens":0,"cached_tokens":0,"reasoning_tokens":0,"cost_usd":0.0}}"#;
const SUCCEEDED: &str = r#"{"result":"17 * 23 = 391"}"#;
const RESULT: &str = r#""17 * 23 = 391""#;

/// `key` with its checksum made right: CRC-32 (IEEE) of the first 37
/// characters as six base62 digits.
pub fn with_checksum(key: &str) -> String {
    const DIGITS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut crc = !0_u32;
    for byte in key.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
        }
    }
    let (mut rest, mut tail) = (!crc, Vec::new());
    for _ in 0..6 {
        tail.push(char::from(DIGITS[(rest % 62) as usize]));
        rest /= 62;
    }
    key.chars().chain(tail.into_iter().rev()).collect()
}

/// How a loop writes the rows of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statements {
    /// One for all of them.
    ForAll,
    /// One for each.
    ForEach,
}

impl Statements {
    fn cut<T>(self, rows: &[T]) -> std::slice::Chunks<'_, T> {
        rows.chunks(if self == Self::ForAll { rows.len().max(1) } else { 1 })
    }
}

/// A connection to a new file in `directory`, with the hub's schema, durability
/// and settings.
async fn sqlite(directory: &Path) -> anyhow::Result<SqliteConnection> {
    let file = directory.join("bare.db");
    Store::open_sqlite(&file).await?.close().await;
    let options = SqliteConnectOptions::new()
        .filename(&file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("temp_store", "memory")
        .disable_statement_logging();
    Ok(options.connect().await?)
}

/// Drives the bare loop for about `seconds` on a new file in `directory`.
pub async fn runs_per_second(
    directory: &Path,
    statements: Statements,
    in_flight: usize,
    seconds: f64,
) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir_in(directory)?;
    let mut connection = sqlite(directory.path()).await?;
    let figure = on_sqlite::drive(&mut connection, statements, in_flight, seconds).await?;
    connection.close().await?;
    Ok(figure)
}

/// The same on a PostgreSQL that has the hub's schema.
pub async fn runs_per_second_on_postgres(
    url: &str,
    statements: Statements,
    in_flight: usize,
    seconds: f64,
) -> anyhow::Result<f64> {
    let mut connection = PgConnection::connect(url).await?;
    let figure = on_postgres::drive(&mut connection, statements, in_flight, seconds).await?;
    connection.close().await?;
    Ok(figure)
}

/// How long durable commits of one run's row take, one after the other; sorted.
pub async fn commits(directory: &Path, seconds: f64) -> anyhow::Result<Vec<Duration>> {
    let directory = tempfile::tempdir_in(directory)?;
    let mut connection = sqlite(directory.path()).await?;
    let started = Instant::now();
    let mut latencies = Vec::new();
    while started.elapsed().as_secs_f64() < seconds {
        let ids = [SystemIds.uuid_v7(SystemClock.now()).to_string()];
        let begun = Instant::now();
        let mut tx = connection.begin().await?;
        on_sqlite::insert_runs(&ids, SystemClock.now().as_millis()).build().execute(&mut *tx).await?;
        tx.commit().await?;
        latencies.push(begun.elapsed());
    }
    connection.close().await?;
    latencies.sort_unstable();
    Ok(latencies)
}

/// The loop for one engine: the same text, with that engine's types.
macro_rules! bare_loop {
    ($name:ident, $connection:ty, $database:ty) => {
        mod $name {
            use super::*;

            type Connection = $connection;
            type Db = $database;

            pub(super) async fn drive(
                connection: &mut Connection,
                statements: Statements,
                in_flight: usize,
                seconds: f64,
            ) -> anyhow::Result<f64> {
                let started = Instant::now();
                let mut runs = 0;
                while started.elapsed().as_secs_f64() < seconds {
                    let ids: Vec<String> =
                        (0..in_flight).map(|_| SystemIds.uuid_v7(SystemClock.now()).to_string()).collect();
                    for phase in 0..4 {
                        write_phase(connection, statements, &ids, phase).await.context("the bare loop")?;
                    }
                    runs += in_flight;
                }
                Ok(runs as f64 / started.elapsed().as_secs_f64())
            }

            async fn write_phase(
                connection: &mut Connection,
                statements: Statements,
                ids: &[String],
                phase: i64,
            ) -> anyhow::Result<()> {
                let mut tx = connection.begin().await?;
                let now = SystemClock.now().as_millis();
                for ids in statements.cut(ids) {
                    if phase == 0 {
                        insert_runs(ids, now).build().execute(&mut *tx).await?;
                    } else {
                        update_runs(ids, phase, now).build().execute(&mut *tx).await?;
                    }
                }
                let events = match phase {
                    0 => [("run.created", CREATED), ("step.started", MODEL_STARTED)],
                    1 => [("step.completed", MODEL_DONE), ("step.started", TOOL_STARTED)],
                    2 => [("step.completed", TOOL_DONE), ("step.started", MODEL_STARTED)],
                    _ => [("step.completed", MODEL_DONE), ("run.succeeded", SUCCEEDED)],
                };
                let rows: Vec<(&String, i64, (&str, &str))> = ids
                    .iter()
                    .flat_map(|id| (1..).zip(events).map(move |(offset, event)| (id, 2 * phase + offset, event)))
                    .collect();
                for rows in statements.cut(&rows) {
                    let mut insert: QueryBuilder<Db> =
                        QueryBuilder::new("insert into run_events (run_id, seq, kind, at, data) ");
                    insert.push_values(rows, |mut row, (id, seq, (kind, data))| {
                        row.push_bind(*id).push_bind(*seq).push_bind(*kind).push_bind(now).push_bind(*data);
                    });
                    insert.build().execute(&mut *tx).await?;
                }
                tx.commit().await?;
                Ok(())
            }

            pub(super) fn insert_runs(ids: &[String], now: i64) -> QueryBuilder<Db> {
                let mut insert = QueryBuilder::new(
                    "insert into runs (id, created_at, started_at, owner, usage, input, definition, workspace_id, target, \
                     run_type, state, scopes, created_by, epoch, cancel_requested, last_seq, metadata) ",
                );
                insert.push_values(ids, |mut row, id| {
                    row.push_bind(id.clone()).push_bind(now).push_bind(now).push_bind(id.clone());
                    row.push_bind(USAGE).push_bind(INPUT).push_bind(DEFINITION);
                    for word in ["ws_0123456789abcdefghij", "agent_default", "agent", "RUNNING", "*", "key:1"] {
                        row.push_bind(word);
                    }
                    row.push_bind(1_i64).push_bind(0_i64).push_bind(2_i64).push_bind("{}");
                });
                insert
            }

            fn update_runs(ids: &[String], phase: i64, now: i64) -> QueryBuilder<Db> {
                let (state, finished, result) =
                    if phase == 3 { ("SUCCESS", Some(now), Some(RESULT)) } else { ("RUNNING", None, None) };
                let mut update = QueryBuilder::new("with given (run_id, new_state, new_seq, ended, outcome, used) as (");
                update.push_values(ids, |mut row, id| {
                    row.push_bind(id.clone()).push_bind(state).push_bind(2 + 2 * phase);
                    row.push_bind(finished).push_bind(result).push_bind(USAGE);
                });
                update.push(
                    ") update runs set state = new_state, last_seq = new_seq, finished_at = ended, result = outcome, \
                     usage = used from given where id = run_id and epoch = 1",
                );
                update
            }
        }
    };
}

bare_loop!(on_sqlite, SqliteConnection, Sqlite);
bare_loop!(on_postgres, PgConnection, Postgres);
