//! How PostgreSQL finds the rows of a store that is new: nothing is known of its
//! tables yet, and statements are prepared while they are small.

use std::sync::Arc;

use nh_store::nodes;
use nh_store::runs::{self, Claim, Then};
use nh_testkit::TestStore;
use nh_types::run::RunState;
use sqlx::{Connection as _, PgConnection};

use crate::fixtures::{append, ending, insert, run, run_id, workspace};

const RUNS: i64 = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_table_is_read_whole_however_new_it_is() {
    let test_store = TestStore::postgres().await;
    let store = test_store.store();
    let ws = workspace(store, "acme").await;
    let inserts = (0..RUNS).map(|number| store.write(insert(run(&ws, number as u64))));
    futures_util::future::try_join_all(inserts).await.expect("inserted");
    nodes::renew(store, "node", 60_000).await.expect("a lease");
    let claim = Claim { node: "node".to_owned(), limit: 64, after: None, shares: Arc::default() };
    let claimed = store.write(claim).await.expect("claimed").runs;
    assert_eq!(claimed.len() as i64, RUNS);
    let goes_on = claimed.iter().map(|run| store.write(append(run, run.epoch, 2, 3)));
    futures_util::future::try_join_all(goes_on).await.expect("appended");
    let ends = claimed.iter().map(|run| {
        let mut end = append(run, run.epoch, 4, 4);
        (end.change.state, end.change.then) = (RunState::Success, Then::End(Box::new(ending())));
        store.write(end)
    });
    futures_util::future::try_join_all(ends).await.expect("ended");
    runs::events(store, &ws, run_id(7), 0, 100).await.expect("events");
    store.close().await;

    let mut connection =
        PgConnection::connect(&test_store.url().expect("PostgreSQL")).await.expect("a connection");
    // A connection's counts are there at its end at the latest.
    let sql = "select relname::text, n_tup_ins, seq_tup_read from pg_stat_user_tables \
               where schemaname = current_schema() and relname in ('runs', 'run_events')";
    loop {
        let counts: Vec<(String, i64, i64)> =
            sqlx::query_as(sql).fetch_all(&mut connection).await.expect("counts");
        let inserted = |table: &str, count: i64| counts.iter().any(|(name, ins, _)| name == table && *ins == count);
        if inserted("runs", RUNS) && inserted("run_events", 4 * RUNS) {
            let whole: Vec<_> = counts.iter().filter(|(.., read)| *read > 0).collect();
            assert!(whole.is_empty(), "(table, rows inserted, rows read one after the other): {whole:?}");
            return;
        }
        tokio::task::yield_now().await;
    }
}
