//! How PostgreSQL finds the rows of a store that is new: nothing is known of its
//! tables yet, and statements are prepared while they are small.

use std::sync::Arc;

use nh_store::nodes;
use nh_store::runs::{Claim, RunChange, RunEnding, Send, SignalRow, Then};
use nh_testkit::TestStore;
use nh_types::run::RunState;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use crate::fixtures::{append, ending, insert, later, run, workspace};

const RUNS: i64 = 300;
const WRITES: i64 = 100;
const ENDS: u32 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_reads_the_runs_that_it_does_not_change() {
    let test_store = TestStore::postgres().await;
    let store = test_store.store();
    let ws = workspace(store, "acme").await;
    store.write(insert(run(&ws, 0))).await.expect("inserted");
    nodes::renew(store, "node", 60_000).await.expect("a lease");
    let claim = Claim { node: "node".to_owned(), limit: 1, after: None, shares: Arc::default() };
    let claimed = store.write(claim).await.expect("claimed").runs.remove(0);
    let mut seq = 1;
    let mut next = || {
        seq += 1;
        append(&claimed, claimed.epoch, seq, seq)
    };
    for _ in 0..10 {
        store.write(next()).await.expect("appended while there are few runs");
    }
    for number in 1..RUNS {
        store.write(insert(run(&ws, number as u64))).await.expect("inserted");
    }
    for number in 0..WRITES {
        store.write(next()).await.expect("appended");
        let signal = SignalRow {
            id: number.to_string(),
            name: "go".to_owned(),
            sent_by: "key:1".to_owned(),
            at: later(number),
            data: json!(1).into(),
            large: None,
        };
        let send = Send { workspace_id: ws.clone(), run_id: claimed.id, signal, most: 1000 };
        store.write(send).await.expect("sent");
    }
    let mut end = next();
    end.change =
        RunChange { state: RunState::Success, started_at: None, then: Then::End(Box::new(ending())) };
    store.write(end).await.expect("ended");
    let claim = Claim { node: "node".to_owned(), limit: ENDS, after: None, shares: Arc::default() };
    for run in store.write(claim).await.expect("claimed").runs {
        let mut end = append(&run, run.epoch, 2, 2);
        let ending = RunEnding { cancels_children: true, ..ending() };
        end.change =
            RunChange { state: RunState::Failed, started_at: None, then: Then::End(Box::new(ending)) };
        store.write(end).await.expect("ended with its children");
    }
    store.close().await;

    let mut connection =
        PgConnection::connect(&test_store.url().expect("PostgreSQL")).await.expect("a connection");
    // A connection's counts are there at its end at the latest.
    let sql = "select n_tup_ins, n_tup_upd, seq_tup_read, idx_tup_fetch from pg_stat_user_tables \
               where schemaname = current_schema() and relname = 'runs'";
    let (one_after_the_other, by_index) = loop {
        let (inserted, updated, sequential, by_index): (i64, i64, i64, i64) =
            sqlx::query_as(sql).fetch_one(&mut connection).await.expect("counts");
        if inserted == RUNS && updated == 12 + 2 * WRITES + 2 * i64::from(ENDS) {
            break (sequential, by_index);
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(one_after_the_other, 0);
    assert!(by_index < 10 * (RUNS + 2 * WRITES + i64::from(ENDS)), "{by_index} rows of `runs` were read");
}
