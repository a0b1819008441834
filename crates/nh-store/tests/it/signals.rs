use nh_store::runs::{self, Append, RunChange, RunEnding, RunFilter, Send, Sent, SignalRow, Then};
use nh_testkit::{TestStore, each_engine};
use nh_types::run::RunState;
use nh_types::{JsonText, PageRequest, RunId, WorkspaceId};
use serde_json::json;

use crate::fixtures::{append, ending, event, insert, later, run, run_id, workspace};

pub(crate) fn signal(id: &str, name: &str) -> SignalRow {
    let data = JsonText::from(json!({"id": id}));
    SignalRow {
        id: id.to_owned(),
        name: name.to_owned(),
        sent_by: "key:1".to_owned(),
        at: later(3),
        data,
        large: None,
    }
}

fn send(workspace_id: &WorkspaceId, run_id: RunId, id: &str) -> Send {
    Send { workspace_id: workspace_id.clone(), run_id, signal: signal(id, "go"), most: 2 }
}

fn change(state: RunState, then: Then) -> RunChange {
    RunChange { state, started_at: None, then }
}

async fn find(store: &TestStore, ws: &WorkspaceId, id: RunId) -> runs::RunRecord {
    runs::find(store.store(), ws, id).await.expect("a read").expect("the run")
}

each_engine! {
    async fn a_signal_wakes_what_waits_and_only_that(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let mut asleep = run(&ws, 1);
        (asleep.state, asleep.ready) = (RunState::Waiting, false);
        let mut delayed = run(&ws, 2);
        (delayed.ready, delayed.wake_at) = (false, Some(later(60_000)));
        let mut owned = run(&ws, 3);
        (owned.owner, owned.epoch, owned.ready) = (Some("node".to_owned()), 1, false);
        for new in [&asleep, &delayed, &owned] {
            store.store().write(insert(new.clone())).await.expect("insert");
            assert_eq!(store.store().write(send(&ws, new.id, "s")).await.expect("a write"), Sent::Done);
        }
        let ready: Vec<_> = [find(&store, &ws, asleep.id).await, find(&store, &ws, delayed.id).await,
            find(&store, &ws, owned.id).await].into_iter().map(|run| (run.ready, run.signals)).collect();
        assert_eq!(ready, [(true, 1), (false, 1), (false, 1)]);
    }

    async fn signals_are_told_apart_bounded_and_the_workspaces_own(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let other = workspace(store.store(), "other").await;
        let new = run(&ws, 1);
        store.store().write(insert(new.clone())).await.expect("insert");
        for (workspace, id, sent) in [
            (&other, "s1", Sent::Missing),
            (&ws, "s1", Sent::Done),
            (&ws, "s1", Sent::Repeated),
            (&ws, "s2", Sent::Done),
            (&ws, "s3", Sent::Full),
        ] {
            assert_eq!(store.store().write(send(workspace, new.id, id)).await.expect("a write"), sent);
        }
        let ids = |rows: Vec<SignalRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
        assert_eq!(ids(runs::signals(store.store(), &ws, new.id).await.expect("a read")), ["s1", "s2"]);
        assert!(runs::signals(store.store(), &other, new.id).await.expect("a read").is_empty());
    }

    async fn a_run_that_would_sleep_on_a_signal_stays_awake(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let mut new = run(&ws, 1);
        (new.owner, new.epoch, new.ready) = (Some("node".to_owned()), 1, false);
        store.store().write(insert(new.clone())).await.expect("insert");
        store.store().write(send(&ws, new.id, "s1")).await.expect("a write");
        let sleep = |took: Vec<String>, from| Append {
            took,
            change: change(RunState::Waiting, Then::Sleep { wake_at: None }),
            ..append(&new, 1, from, from)
        };
        store.store().write(sleep(Vec::new(), 2)).await.expect("append");
        let woken = find(&store, &ws, new.id).await;
        assert_eq!((woken.owner, woken.ready, woken.signals), (None, true, 1));

        // Whoever has taken it sleeps.
        let claim = runs::Claim { node: "node".to_owned(), limit: 1, after: None, shares: Default::default() };
        assert_eq!(store.store().write(claim).await.expect("a claim").runs.len(), 1);
        let took = sleep(vec!["s1".to_owned()], 3);
        store.store().write(Append { epoch: 2, ..took }).await.expect("append");
        let asleep = find(&store, &ws, new.id).await;
        assert_eq!((asleep.ready, asleep.signals), (false, 0));
        assert!(runs::signals(store.store(), &ws, new.id).await.expect("a read").is_empty());
        assert_eq!(store.store().write(send(&ws, new.id, "s1")).await.expect("a write"), Sent::Repeated);
    }

    async fn a_zombie_takes_no_signal_and_begins_no_child(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let mut new = run(&ws, 1);
        (new.owner, new.epoch) = (Some("node".to_owned()), 2);
        store.store().write(insert(new.clone())).await.expect("insert");
        store.store().write(send(&ws, new.id, "s1")).await.expect("a write");
        let late = Append {
            took: vec!["s1".to_owned()],
            children: vec![insert(run(&ws, 9))],
            ..append(&new, 1, 2, 2)
        };
        assert_eq!(store.store().write(late).await.expect("append"), runs::Appended::Fenced);
        assert_eq!(runs::signals(store.store(), &ws, new.id).await.expect("a read").len(), 1);
        assert_eq!(runs::find(store.store(), &ws, run_id(9)).await.expect("a read"), None);
    }

    async fn children_are_begun_listed_told_of_and_cancelled_with_their_parent(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let mut parent = run(&ws, 1);
        (parent.owner, parent.epoch, parent.ready) = (Some("node".to_owned()), 1, false);
        store.store().write(insert(parent.clone())).await.expect("insert");
        let child = |number| runs::RunRecord {
            parent: Some(runs::Parent { run_id: parent.id, step: "s".to_owned() }),
            ..run(&ws, number)
        };
        let begin = Append {
            children: vec![insert(child(2)), insert(child(3))],
            change: change(RunState::Waiting, Then::Sleep { wake_at: None }),
            ..append(&parent, 1, 2, 2)
        };
        store.store().write(begin).await.expect("append");
        let listed = |of: Option<RunId>| {
            let (store, ws) = (store.store(), &ws);
            async move {
                let filter = RunFilter { parent: of, ..RunFilter::default() };
                let page = PageRequest { limit: 10, after: None };
                let found = runs::list(store, ws, &filter, &page).await.expect("a list");
                found.items.into_iter().map(|run| run.id).collect::<Vec<_>>()
            }
        };
        assert_eq!(listed(None).await, [parent.id]);
        assert_eq!(listed(Some(parent.id)).await, [run_id(3), run_id(2)]);

        // A child's end, and the word of it, are one commit.
        let claim = || runs::Claim { node: "node".to_owned(), limit: 9, after: None, shares: Default::default() };
        assert_eq!(store.store().write(claim()).await.expect("a claim").runs.len(), 2);
        let tells = Some((parent.id, signal("end", "end")));
        let ended = Append {
            change: change(RunState::Success, Then::End(Box::new(RunEnding { tells, ..ending() }))),
            events: vec![event(2)],
            ..append(&child(2), 1, 2, 2)
        };
        store.store().write(ended).await.expect("append");
        let woken = find(&store, &ws, parent.id).await;
        assert_eq!((woken.ready, woken.signals), (true, 1));

        // The end of the parent reaches the child that goes on.
        assert_eq!(store.store().write(claim()).await.expect("a claim").runs.len(), 1);
        let failed = RunEnding { cancels_children: true, ..ending() };
        let end = Append { change: change(RunState::Failed, Then::End(Box::new(failed))), ..append(&parent, 2, 3, 3) };
        store.store().write(end).await.expect("append");
        let left = find(&store, &ws, run_id(3)).await;
        assert!(left.cancel_requested);
        assert!(!find(&store, &ws, run_id(2)).await.cancel_requested, "it had ended");
    }
}
