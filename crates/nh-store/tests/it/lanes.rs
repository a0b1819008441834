//! Bounds, weights and threads: which queued runs may begin.

use std::collections::HashMap;
use std::sync::Arc;

use nh_store::nodes;
use nh_store::runs::{
    self, Append, Appended, CancelOutcome, CancelUnowned, Claim, Group, RemoveFinished, RunChange, RunEnding,
    RunRecord, Share, Shares, Then, ThreadPlace, Turn,
};
use nh_testkit::{TestStore, each_engine};
use nh_types::model::Usage;
use nh_types::run::RunState;
use nh_types::{RunId, WorkspaceId};
use serde_json::json;

use crate::fixtures::{append, ending, insert, later, run, run_id, workspace};

async fn join(store: &TestStore, node: &str) {
    nodes::renew(store.store(), node, 60_000).await.expect("a lease");
}

fn group(name: &str, most: u32) -> Group {
    Group { name: name.to_owned(), most }
}

struct Claims {
    store: TestStore,
    after: Option<Turn>,
    shares: Arc<Shares>,
}

impl Claims {
    fn new(store: TestStore) -> Self {
        Self { store, after: None, shares: Arc::default() }
    }

    async fn next(&mut self, limit: u32) -> Vec<RunRecord> {
        let (after, shares) = (self.after.clone(), self.shares.clone());
        let claim = Claim { node: "node".to_owned(), limit, after, shares };
        let claimed = self.store.store().write(claim).await.expect("claim");
        self.after = claimed.last;
        claimed.runs
    }

    async fn ids(&mut self, limit: u32) -> Vec<RunId> {
        self.next(limit).await.into_iter().map(|run| run.id).collect()
    }

    async fn end(&self, run: &RunRecord) {
        let ending =
            RunEnding { thread_id: run.thread.as_ref().map(|thread| thread.thread_id.clone()), ..ending() };
        self.change(run, RunState::Success, Then::End(Box::new(ending))).await;
    }

    async fn change(&self, run: &RunRecord, state: RunState, then: Then) {
        let change = RunChange { state, started_at: None, then };
        let write = Append { events: Vec::new(), change, ..append(run, run.epoch, 2, 1) };
        assert_eq!(self.store.store().write(write).await.expect("a change"), Appended::Done);
    }

    async fn put(&self, run: RunRecord) {
        self.store.store().write(insert(run)).await.expect("insert");
    }
}

fn queued(ws: &WorkspaceId, number: u64, groups: &[Group]) -> RunRecord {
    RunRecord { groups: groups.to_vec(), ready: true, ..run(ws, number) }
}

fn place(thread: &str, seq: i64) -> ThreadPlace {
    ThreadPlace { thread_id: thread.to_owned(), seq }
}

fn on_thread(ws: &WorkspaceId, number: u64, thread: &str) -> RunRecord {
    RunRecord { thread: Some(place(thread, 0)), ready: true, ..run(ws, number) }
}

each_engine! {
    async fn a_group_has_no_more_under_way_than_it_may(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        for number in 0..4 {
            claims.put(queued(&ws, number, &[group("agent:a", 2)])).await;
        }
        claims.put(queued(&ws, 4, &[group("agent:a", 2), group("key:1", 1)])).await;
        claims.put(queued(&ws, 5, &[group("key:1", 1)])).await;
        claims.put(queued(&ws, 6, &[])).await;
        let first = claims.next(9).await;
        let ids: Vec<_> = first.iter().map(|run| run.id).collect();
        assert_eq!(ids, [run_id(0), run_id(1), run_id(5), run_id(6)], "what is bounded holds nobody else up");
        assert_eq!(first[0].groups, [group("agent:a", 2)]);
        assert!(claims.ids(9).await.is_empty());
        claims.end(&first[0]).await;
        assert_eq!(claims.ids(9).await, [run_id(2)]);
        claims.end(&first[1]).await;
        claims.end(&first[2]).await;
        assert_eq!(claims.ids(9).await, [run_id(3)], "the oldest of the group first");
    }

    async fn a_blocked_queue_of_one_workspace_keeps_no_other_waiting(store: TestStore) {
        let mut workspaces = Vec::new();
        for name in ["one", "two"] {
            workspaces.push(workspace(store.store(), name).await);
        }
        workspaces.sort();
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        for number in 0..50 {
            let groups = [group(&format!("agent:a{number}"), 1), group("key:1", 1)];
            claims.put(queued(&workspaces[0], number, &groups)).await;
        }
        claims.put(queued(&workspaces[1], 50, &[])).await;
        assert_eq!(claims.ids(1).await, [run_id(0)]);
        assert_eq!(claims.ids(1).await, [run_id(50)]);
        assert!(claims.ids(9).await.is_empty());
    }

    async fn a_workspace_keeps_to_its_bound(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        let share = Share { weight: 1, max_running: Some(2) };
        claims.shares = Arc::new(Shares(HashMap::from([(ws.clone(), share)])));
        for number in 0..5 {
            claims.put(queued(&ws, number, &[])).await;
        }
        let first = claims.next(9).await;
        assert_eq!(first.len(), 2);
        claims.end(&first[1]).await;
        assert_eq!(claims.ids(9).await, [run_id(2)]);
    }

    async fn workspaces_have_turns_by_their_weights(store: TestStore) {
        let mut workspaces = Vec::new();
        for name in ["one", "two", "three"] {
            workspaces.push(workspace(store.store(), name).await);
        }
        workspaces.sort();
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        let share = Share { weight: 3, max_running: None };
        claims.shares = Arc::new(Shares(HashMap::from([(workspaces[1].clone(), share)])));
        for number in 0..60 {
            claims.put(queued(&workspaces[number as usize % 3], number, &[])).await;
        }
        let mut places = Vec::new();
        for limit in [1, 1, 1, 1, 1, 1, 1, 2, 3, 4] {
            let claimed = claims.next(limit).await;
            assert_eq!(claimed.len() as u32, limit);
            places.extend(claimed.iter().map(|run| workspaces.iter().position(|ws| *ws == run.workspace_id).expect("known")));
        }
        let turns: Vec<_> = places[..10].to_vec();
        assert_eq!(turns, [0, 1, 1, 1, 2, 0, 1, 1, 1, 2]);
        let count = |place| places.iter().filter(|at| **at == place).count();
        assert!(count(1) >= 8 && count(0) >= 3, "{places:?}");
        // Many at once are shared out in the same way.
        let many = claims.next(30).await;
        let of_second = many.iter().filter(|run| run.workspace_id == workspaces[1]).count();
        assert!((8..=18).contains(&of_second), "{of_second} of 30");
    }

    async fn runs_of_a_thread_follow_each_other(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let other = workspace(store.store(), "other").await;
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        for number in 0..3 {
            claims.put(on_thread(&ws, number, "t")).await;
        }
        claims.put(on_thread(&ws, 3, "u")).await;
        claims.put(on_thread(&other, 4, "t")).await;
        let first = claims.next(9).await;
        let mut ids: Vec<_> = first.iter().map(|run| run.id).collect();
        ids.sort();
        assert_eq!(ids, [run_id(0), run_id(3), run_id(4)]);
        let of = |id| first.iter().find(|run| run.id == id).expect("claimed");
        claims.change(of(run_id(0)), RunState::Waiting, Then::Sleep { wake_at: None }).await;
        assert!(claims.ids(9).await.is_empty(), "one that waits is not over");
        let checked = runs::check(claims.store.store(), None).await.expect("a check");
        assert!(checked.faults.iter().all(|(id, _)| *id != run_id(1)), "held is not stranded: {checked:?}");
        claims.end(of(run_id(0))).await;
        let second = claims.next(9).await;
        assert_eq!(second.iter().map(|run| run.id).collect::<Vec<_>>(), [run_id(1)]);
        claims.end(&second[0]).await;
        assert_eq!(claims.ids(9).await, [run_id(2)]);
        // What succeeded before it is what it sees.
        let turns = runs::thread_turns(claims.store.store(), &ws, &place("t", 3), 10).await.expect("turns");
        assert_eq!(turns.iter().map(|turn| turn.run_id).collect::<Vec<_>>(), [run_id(0), run_id(1)]);
        let last = runs::thread_turns(claims.store.store(), &ws, &place("t", 3), 1).await.expect("turns");
        assert_eq!(last[0].run_id, run_id(1));
        assert!(runs::thread_turns(claims.store.store(), &other, &place("t", 3), 9).await.expect("turns").is_empty());
    }

    async fn runs_of_a_thread_that_come_in_one_commit_follow_each_other(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        let put = |number| claims.put(on_thread(&ws, number, "t"));
        tokio::join!(put(0), put(1), put(2));
        // Which is the first is not said of writes that come at the same time.
        for turn in 1..=3 {
            let next = claims.next(9).await;
            assert_eq!(next.iter().map(|run| run.thread.clone()).collect::<Vec<_>>(), [Some(place("t", turn))]);
            assert!(claims.ids(9).await.is_empty(), "it goes on");
            claims.end(&next[0]).await;
        }
    }

    async fn a_run_cancelled_in_its_thread_does_not_let_the_next_overtake(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        for number in 0..3 {
            claims.put(on_thread(&ws, number, "t")).await;
        }
        let first = claims.next(9).await;
        let event = runs::EventRow { seq: 0, kind: "run.cancelled".to_owned(), at: later(9), data: json!({}).into() };
        let tells = runs::SignalRow {
            id: "x".to_owned(), name: "x".to_owned(), sent_by: "x".to_owned(), at: later(9), data: json!({}).into(),
            large: None,
        };
        let (workspace_id, usage) = (ws.clone(), Usage::NONE);
        let cancel = CancelUnowned { workspace_id, run_id: run_id(1), at: later(9), seen_seq: 1, usage, event, tells };
        assert_eq!(claims.store.store().write(cancel).await.expect("cancel"), CancelOutcome::Cancelled);
        assert!(claims.ids(9).await.is_empty(), "the first goes on");
        claims.end(&first[0]).await;
        assert_eq!(claims.ids(9).await, [run_id(2)]);
    }

    async fn runs_of_a_thread_that_end_together_let_the_next_begin(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        let first = on_thread(&ws, 0, "t");
        let second = RunRecord { deadline_at: Some(later(50)), wake_at: Some(later(50)), ..on_thread(&ws, 1, "t") };
        for run in [first, second, on_thread(&ws, 2, "t")] {
            claims.put(run).await;
        }
        let first = claims.next(9).await.remove(0);
        // Its deadline has come before its turn.
        let wake = runs::WakeDue { node: "node".to_owned(), now: later(60) };
        let second = claims.store.store().write(wake).await.expect("wake").overdue.remove(0);
        tokio::join!(claims.end(&first), claims.end(&second));
        assert_eq!(claims.ids(9).await, [run_id(2)]);
    }

    async fn who_comes_behind_a_run_that_never_began_waits_for_the_one_before(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        claims.put(on_thread(&ws, 0, "t")).await;
        let first = claims.next(9).await.remove(0);
        let late = RunRecord { deadline_at: Some(later(50)), wake_at: Some(later(50)), ..on_thread(&ws, 1, "t") };
        claims.put(late).await;
        let wake = runs::WakeDue { node: "node".to_owned(), now: later(60) };
        let late = claims.store.store().write(wake.clone()).await.expect("wake").overdue.remove(0);
        // Whoever was to end it gives it back: its turn has not come by that.
        claims.change(&late, RunState::Pending, Then::Queue).await;
        assert!(claims.ids(9).await.is_empty());
        let late = claims.store.store().write(wake).await.expect("wake").overdue.remove(0);
        claims.end(&late).await;
        claims.put(on_thread(&ws, 2, "t")).await;
        assert!(claims.ids(9).await.is_empty(), "the first goes on");
        claims.end(&first).await;
        assert_eq!(claims.ids(9).await, [run_id(2)]);
    }

    async fn a_delay_on_a_thread_holds_back_those_behind_it(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        let mut claims = Claims::new(store);
        claims.put(on_thread(&ws, 0, "t")).await;
        claims.put(RunRecord { ready: false, wake_at: Some(later(50)), ..on_thread(&ws, 1, "t") }).await;
        let first = claims.next(9).await;
        let wake = |ms| runs::WakeDue { node: "node".to_owned(), now: later(ms) };
        assert_eq!(claims.store.store().write(wake(60)).await.expect("wake").overdue.len(), 0);
        assert!(claims.ids(9).await.is_empty(), "its time has come, but not its turn");
        claims.end(&first[0]).await;
        assert_eq!(claims.ids(9).await, [run_id(1)]);
        claims.put(RunRecord { ready: false, wake_at: Some(later(90)), ..on_thread(&ws, 2, "t") }).await;
        assert!(claims.ids(9).await.is_empty());
        let left = runs::find(claims.store.store(), &ws, run_id(1)).await.expect("read").expect("there");
        claims.end(&left).await;
        assert!(claims.ids(9).await.is_empty(), "its turn has come, but not its time");
        claims.store.store().write(wake(90)).await.expect("wake");
        assert_eq!(claims.ids(9).await, [run_id(2)]);
    }

    async fn a_thread_goes_with_its_last_run(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let ended = |number, finished_ms, thread: &str| RunRecord {
            state: RunState::Success,
            finished_at: Some(later(finished_ms)),
            ready: false,
            ..on_thread(&ws, number, thread)
        };
        // The second was cancelled while the first went on.
        for old in [ended(1, 20, "a"), ended(2, 10, "a"), ended(3, 10, "b"), ended(4, 90, "b")] {
            store.store().write(insert(old)).await.expect("insert");
        }
        for (before_ms, count) in [(15, 2), (30, 1)] {
            let remove = RemoveFinished { before: later(before_ms), limit: 10, after: None };
            assert_eq!(store.store().write(remove).await.expect("removed").count, count);
        }
        for (number, thread, seq) in [(5, "a", 1), (6, "b", 3)] {
            store.store().write(insert(on_thread(&ws, number, thread))).await.expect("insert");
            let next = runs::find(store.store(), &ws, run_id(number)).await.expect("read").expect("there");
            assert_eq!(next.thread, Some(place(thread, seq)));
        }
    }
}
