//! The bare loop: one task, one connection, no HTTP, no engine. It writes the
//! rows of agent runs of three steps (model, tool, model) as the hub does, in
//! four commits a run, with all runs in flight sharing each commit.

use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use nh_store::Store;
use nh_types::{Clock as _, Ids as _, SystemClock, SystemIds};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _, SqliteConnection};

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

/// Drives the bare loop for about `seconds` on a new file in `directory`.
pub async fn runs_per_second(directory: &Path, in_flight: usize, seconds: f64) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir_in(directory)?;
    let file = directory.path().join("bare.db");
    Store::open_sqlite(&file).await?.close().await;
    let mut connection = SqliteConnectOptions::new()
        .filename(&file)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging()
        .connect()
        .await?;
    let started = Instant::now();
    let mut runs = 0;
    while started.elapsed().as_secs_f64() < seconds {
        let ids: Vec<String> =
            (0..in_flight).map(|_| SystemIds.uuid_v7(SystemClock.now()).to_string()).collect();
        for phase in 0..4 {
            write_phase(&mut connection, &ids, phase).await.context("the bare loop")?;
        }
        runs += in_flight;
    }
    let elapsed = started.elapsed().as_secs_f64();
    connection.close().await?;
    Ok(runs as f64 / elapsed)
}

async fn write_phase(connection: &mut SqliteConnection, ids: &[String], phase: i64) -> anyhow::Result<()> {
    let mut tx = connection.begin_with("begin immediate").await?;
    let now = SystemClock.now().as_millis();
    for id in ids {
        if phase == 0 {
            sqlx::query(
                "insert into runs (id, workspace_id, target, run_type, state, scopes, created_by, created_at, \
                 started_at, owner, epoch, cancel_requested, last_seq, usage, metadata, input, definition) \
                 values ($1, 'ws_0123456789abcdefghij', 'agent_default', 'agent', 'RUNNING', '*', 'key:1', $2, \
                 $2, $3, 1, 0, 2, $4, '{}', $5, $6)",
            )
            .bind(id).bind(now).bind(id).bind(USAGE).bind(INPUT).bind(DEFINITION)
            .execute(&mut *tx).await?;
        } else {
            let (state, finished, result) =
                if phase == 3 { ("SUCCESS", Some(now), Some(RESULT)) } else { ("RUNNING", None, None) };
            sqlx::query(
                "update runs set state = $2, last_seq = $3, finished_at = $4, result = $5, usage = $6 \
                 where id = $1 and epoch = 1",
            )
            .bind(id)
            .bind(state)
            .bind(2 + 2 * phase)
            .bind(finished)
            .bind(result)
            .bind(USAGE)
            .execute(&mut *tx)
            .await?;
        }
        let events = match phase {
            0 => [("run.created", CREATED), ("step.started", MODEL_STARTED)],
            1 => [("step.completed", MODEL_DONE), ("step.started", TOOL_STARTED)],
            2 => [("step.completed", TOOL_DONE), ("step.started", MODEL_STARTED)],
            _ => [("step.completed", MODEL_DONE), ("run.succeeded", SUCCEEDED)],
        };
        for (offset, (kind, data)) in (1..).zip(events) {
            sqlx::query("insert into run_events (run_id, seq, kind, at, data) values ($1, $2, $3, $4, $5)")
                .bind(id)
                .bind(2 * phase + offset)
                .bind(kind)
                .bind(now)
                .bind(data)
                .execute(&mut *tx)
                .await?;
        }
    }
    tx.commit().await?;
    Ok(())
}
