//! How nodes that share PostgreSQL wait for each other's locks.

use std::sync::Arc;

use nh_store::ledger::{Amount, Bid, Limits, Reserve, Reserved, Settle};
use nh_store::nodes;
use nh_store::runs::{Claim, Group, RunRecord};
use nh_store::usage::RecordMany;
use nh_testkit::TestStore;
use nh_types::WorkspaceId;
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use crate::fixtures::{insert, later, run, run_id, workspace};
use crate::usage::call;

/// Another node, in the middle of a transaction.
struct Other {
    connection: PgConnection,
    pid: i32,
}

impl Other {
    async fn holding(store: &TestStore, sql: &str, bound: &[&str]) -> Self {
        let url = store.url().expect("PostgreSQL");
        let mut connection = PgConnection::connect(&url).await.expect("a connection");
        let pid =
            sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await.expect("pid");
        sqlx::query("begin").execute(&mut connection).await.expect("begun");
        let sql = sqlx::AssertSqlSafe(sql);
        let query = bound.iter().fold(sqlx::query(sql), |query, value| query.bind(*value));
        assert_eq!(query.fetch_all(&mut connection).await.expect("a lock").len(), 1);
        Self { connection, pid }
    }

    /// Until somebody waits for it.
    async fn awaited(&self, watch: &mut PgConnection) {
        let sql = "select count(*) from pg_stat_activity where $1 = any(pg_blocking_pids(pid))";
        while sqlx::query_scalar::<_, i64>(sql).bind(self.pid).fetch_one(&mut *watch).await.expect("a count")
            == 0
        {
            tokio::task::yield_now().await;
        }
    }

    async fn end(mut self) {
        sqlx::query("commit").execute(&mut self.connection).await.expect("ended");
    }
}

fn reserve(ws: &WorkspaceId, token: &str, account: &str) -> Reserve {
    Reserve {
        room: 1,
        workspace_id: ws.clone(),
        id: token.to_owned(),
        token: token.to_owned(),
        accounts: vec![(account.to_owned(), Limits::default())],
        bid: Bid { fixed: Amount::ONE_STEP, per_unit: Amount::default(), least_units: 0, most_units: 0 },
        now: later(0),
        expires_at: later(1_000),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_waits_for_an_account_holds_none_behind_it() {
    let store = TestStore::postgres().await;
    let ws = workspace(store.store(), "acme").await;
    for account in ["a", "b", "c"] {
        store.store().write(reserve(&ws, account, account)).await.expect("reserved");
    }
    let lock = "select 1 from budget_accounts where workspace_id = $1 and account = $2 for update nowait";
    let other = Other::holding(&store, lock, &[ws.as_str(), "a"]).await;
    let settled = vec![Settle {
        workspace_id: ws.clone(),
        token: "c".to_owned(),
        accounts: vec!["c".to_owned()],
        cost: Amount::ONE_STEP,
    }];
    let mut batch = JoinSet::new();
    let (writing, of) = (store.store().clone(), ws.clone());
    batch.spawn(async move {
        tokio::join!(
            writing.write(reserve(&of, "b again", "b")),
            writing.write(RecordMany { calls: Vec::new(), settled }),
            writing.write(reserve(&of, "a again", "a")),
        )
    });
    let mut watch = PgConnection::connect(&store.url().expect("PostgreSQL")).await.expect("a connection");
    other.awaited(&mut watch).await;
    for account in ["b", "c"] {
        Other::holding(&store, lock, &[ws.as_str(), account]).await.end().await;
    }
    other.end().await;
    let (b, c, a) = batch.join_next().await.expect("a batch").expect("it goes on");
    assert_eq!((a.expect("reserved"), b.expect("reserved")), (Reserved::Units(0), Reserved::Units(0)));
    c.expect("settled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_passes_over_a_bounded_workspace_in_which_another_node_claims() {
    let store = TestStore::postgres().await;
    let (held, free) = (workspace(store.store(), "held").await, workspace(store.store(), "free").await);
    let groups = vec![Group { name: "agent:a".to_owned(), most: 1 }];
    for (number, ws) in [(1, &held), (2, &free)] {
        let queued = RunRecord { groups: groups.clone(), ready: true, ..run(ws, number) };
        store.store().write(insert(queued)).await.expect("insert");
    }
    nodes::renew(store.store(), "node", 60_000).await.expect("a lease");
    let claim = async || {
        let claim = Claim { node: "node".to_owned(), limit: 9, after: None, shares: Arc::default() };
        let claimed = store.store().write(claim).await.expect("claimed").runs;
        claimed.into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    let lock = "select 1 from workspaces where id = $1 for no key update";
    let other = Other::holding(&store, lock, &[held.as_str()]).await;
    assert_eq!(claim().await, [run_id(2)]);
    other.end().await;
    assert_eq!(claim().await, [run_id(1)]);
}

/// Makes PostgreSQL answer writes of usage with an error code.
async fn refuse_usage(store: &TestStore, code: &str) {
    let mut connection =
        PgConnection::connect(&store.url().expect("PostgreSQL")).await.expect("a connection");
    let sql = format!(
        "create function refuse() returns trigger language plpgsql as $$ begin \
         raise exception using errcode = '{code}'; end $$; \
         create trigger refuse before insert on model_calls for each row execute function refuse()"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.expect("a trigger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_race_and_a_time_out_may_pass_and_a_bad_row_does_not() {
    for (code, may_pass) in [("40P01", true), ("40001", true), ("57014", true), ("22003", false)] {
        let store = TestStore::postgres().await;
        let ws = workspace(store.store(), "acme").await;
        refuse_usage(&store, code).await;
        let record = RecordMany { calls: vec![call(&ws, later(0), "a", None)], settled: Vec::new() };
        let error = store.store().write(record).await.expect_err("refused");
        assert_eq!(error.may_pass(), may_pass, "{code}: {error:?}");
    }
}
