use nh_store::runs::{
    self, Append, Appended, CancelOutcome, CancelUnowned, Claim, EventRow, ReleaseAll, RunFilter,
};
use nh_store::{StoreError, nodes};
use nh_testkit::{TestStore, each_engine};
use nh_types::run::{RunError, RunState, RunType};
use nh_types::{PageRequest, RunId, WorkspaceId};
use serde_json::json;

use crate::fixtures::{NOW, append, ending, event, insert, is_postgres, later, run, run_id, workspace};

fn cancel(workspace_id: &WorkspaceId, run_id: RunId) -> CancelUnowned {
    let event = EventRow { kind: "run.cancelled".to_owned(), ..event(0) };
    CancelUnowned { workspace_id: workspace_id.clone(), run_id, at: later(5), event }
}

fn claim(node: &str, limit: u32) -> Claim {
    Claim { node: node.to_owned(), limit }
}

/// What a node does before it claims.
async fn join(store: &TestStore, node: &str) {
    nodes::renew(store.store(), node, 600_000).await.expect("a lease");
}

each_engine! {
    async fn a_run_comes_back_as_it_was_stored(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let mut new = run(&ws, 1);
        new.deadline_at = Some(later(60_000));
        store.store().write(insert(new.clone())).await.expect("insert");
        new.last_seq = 1;
        assert_eq!(runs::find(store.store(), &ws, new.id).await.expect("read"), Some(new));
    }

    async fn a_run_lives_from_claim_to_end(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        let claimed = store.store().write(claim("node", 10)).await.expect("claim");
        assert_eq!((claimed.len(), claimed[0].epoch, claimed[0].owner.as_deref()), (1, 1, Some("node")));

        let first = append(&claimed[0], 1, 2, 3);
        assert_eq!(store.store().write(first).await.expect("append"), Appended::Done);
        let mut last = append(&claimed[0], 1, 4, 4);
        last.change.state = RunState::Success;
        last.change.started_at = None;
        last.change.ending = Some(ending());
        assert_eq!(store.store().write(last.clone()).await.expect("append"), Appended::Done);

        let found = runs::find(store.store(), &ws, run_id(1)).await.expect("read").expect("there");
        assert_eq!((found.state, found.owner, found.last_seq), (RunState::Success, None, 4));
        assert_eq!((found.started_at, found.finished_at), (Some(later(1)), Some(later(9))));
        assert_eq!((found.result, found.usage.input_tokens), (Some(json!("391")), 7));
        // It has ended: nothing more can be appended, nor can it be claimed.
        assert_eq!(store.store().write(append(&claimed[0], 1, 5, 5)).await.expect("append"), Appended::Fenced);
        assert_eq!(store.store().write(last).await.expect("append"), Appended::Fenced);
        assert!(store.store().write(claim("node", 10)).await.expect("claim").is_empty());
        assert_eq!(runs::count_unfinished(store.store(), &ws).await.expect("count"), 0);
        let journal = runs::events(store.store(), &ws, run_id(1), 2, 1).await.expect("events");
        assert_eq!(journal, [event(3)]);
    }

    async fn an_older_epoch_changes_nothing(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "old").await;
        join(&store, "new").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        let zombie = store.store().write(claim("old", 1)).await.expect("claim").remove(0);
        let mut release = append(&zombie, zombie.epoch, 2, 2);
        release.change.release = true;
        assert_eq!(store.store().write(release).await.expect("append"), Appended::Done);
        let owner = store.store().write(claim("new", 1)).await.expect("claim").remove(0);
        assert_eq!((owner.epoch, owner.state, owner.last_seq), (2, RunState::Running, 2));

        let before = runs::find(store.store(), &ws, run_id(1)).await.expect("read");
        let mut late = append(&zombie, zombie.epoch, 3, 3);
        late.change.state = RunState::Failed;
        late.change.ending = Some(ending());
        assert_eq!(store.store().write(late).await.expect("append"), Appended::Fenced);
        assert_eq!(runs::find(store.store(), &ws, run_id(1)).await.expect("read"), before);
        assert_eq!(store.store().write(append(&owner, 2, 3, 3)).await.expect("append"), Appended::Done);
    }

    async fn of_two_writers_of_the_same_event_one_wins(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let (mut new, other) = (run(&ws, 1), run(&ws, 2));
        new.epoch = 1;
        store.store().write(insert(new.clone())).await.expect("insert");
        store.store().write(insert(other.clone())).await.expect("insert");
        let (one, two, bystander) = tokio::join!(
            store.store().write(append(&new, 1, 2, 2)),
            store.store().write(append(&new, 1, 2, 2)),
            store.store().write(append(&other, 0, 2, 2)),
        );
        assert_eq!(bystander.expect("append"), Appended::Done);
        let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
        assert_eq!(won.expect("append"), Appended::Done);
        let error = lost.expect_err("the event is there");
        assert!(matches!(&error, StoreError::Conflict(text) if text.contains("is at event 2")), "{error}");
        // A gap is refused as well.
        let gap = store.store().write(append(&new, 1, 4, 4)).await.expect_err("event 3 is missing");
        assert!(matches!(gap, StoreError::Conflict(_)), "{gap}");
    }

    async fn appends_of_one_run_in_one_batch_follow_each_other(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let new = run(&ws, 1);
        store.store().write(insert(new.clone())).await.expect("insert");
        let (two, three) = tokio::join!(
            store.store().write(append(&new, 0, 2, 2)),
            store.store().write(append(&new, 0, 3, 3)),
        );
        assert_eq!((two.expect("two"), three.expect("three")), (Appended::Done, Appended::Done));
    }

    async fn a_change_without_events_keeps_the_journal(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let new = run(&ws, 1);
        store.store().write(insert(new.clone())).await.expect("insert");
        let quiet = Append { events: Vec::new(), ..append(&new, 0, 2, 2) };
        assert_eq!(store.store().write(quiet).await.expect("append"), Appended::Done);
        let found = runs::find(store.store(), &ws, new.id).await.expect("read").expect("there");
        assert_eq!((found.last_seq, found.state), (1, RunState::Running));
    }

    async fn claims_go_from_the_oldest_and_never_twice(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "a").await;
        join(&store, "b").await;
        for number in [3, 1, 2, 4, 5] {
            store.store().write(insert(run(&ws, number))).await.expect("insert");
        }
        let mut waiting = run(&ws, 6);
        waiting.state = RunState::Waiting;
        store.store().write(insert(waiting)).await.expect("insert");

        let first = store.store().write(claim("a", 2)).await.expect("claim");
        assert_eq!(first.iter().map(|run| run.id).collect::<Vec<_>>(), [run_id(1), run_id(2)]);
        let other = store.open_again().await;
        let (a, b) = tokio::join!(store.store().write(claim("a", 2)), other.write(claim("b", 2)));
        let mut ids: Vec<RunId> = a.expect("a").into_iter().chain(b.expect("b")).map(|run| run.id).collect();
        ids.sort();
        ids.dedup();
        // Under PostgreSQL one claim passes over what the other holds, so the
        // two may leave a run for the next claim, but never share one.
        ids.extend(store.store().write(claim("a", 9)).await.expect("claim").into_iter().map(|run| run.id));
        ids.sort();
        assert_eq!(ids, [run_id(3), run_id(4), run_id(5)]);
    }

    async fn what_a_dead_node_owned_is_claimed_by_another(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "dead").await;
        join(&store, "alive").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        store.store().write(claim("dead", 1)).await.expect("claim");
        assert!(store.store().write(claim("alive", 1)).await.expect("claim").is_empty());

        if is_postgres(&store) {
            // Its lease ran out.
            nodes::renew(store.store(), "dead", 0).await.expect("renew");
            assert_eq!(nodes::live(store.store()).await.expect("live"), ["alive"]);
        } else {
            assert_eq!(store.store().write(ReleaseAll).await.expect("release"), 1);
        }
        let taken = store.store().write(claim("alive", 1)).await.expect("claim");
        assert_eq!((taken.len(), taken[0].epoch), (1, 2));

        if is_postgres(&store) {
            store.store().write(nodes::Leave { node: "alive".to_owned() }).await.expect("leave");
            join(&store, "third").await;
            assert_eq!(store.store().write(claim("third", 1)).await.expect("claim")[0].epoch, 3);
            assert_eq!(nodes::live(store.store()).await.expect("live"), ["third"]);
        }
    }

    async fn cancelling_ends_what_nobody_runs_and_asks_the_owner_of_the_rest(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        let owned = store.store().write(claim("node", 1)).await.expect("claim").remove(0);
        store.store().write(insert(run(&ws, 2))).await.expect("insert");

        let free = store.store().write(cancel(&ws, run_id(2))).await.expect("cancel");
        assert_eq!(free, CancelOutcome::Cancelled);
        let found = runs::find(store.store(), &ws, run_id(2)).await.expect("read").expect("there");
        assert_eq!((found.state, found.finished_at, found.epoch), (RunState::Cancelled, Some(later(5)), 1));
        let journal = runs::events(store.store(), &ws, run_id(2), 1, 10).await.expect("events");
        assert_eq!((journal.len(), journal[0].seq, journal[0].kind.as_str()), (1, 2, "run.cancelled"));
        let again = store.store().write(cancel(&ws, run_id(2))).await.expect("cancel");
        assert_eq!(again, CancelOutcome::Finished(RunState::Cancelled));

        let asked = store.store().write(cancel(&ws, owned.id)).await.expect("cancel");
        assert_eq!(asked, CancelOutcome::Requested);
        let mine = runs::owned(store.store(), "node").await.expect("read");
        let wanted = mine.iter().find(|run| run.id == owned.id).expect("owned");
        assert!(wanted.cancel_requested);
        assert!(runs::owned(store.store(), "other").await.expect("read").is_empty());
        // The owner goes on until it hears of it.
        assert_eq!(store.store().write(append(&owned, 1, 2, 2)).await.expect("append"), Appended::Done);
        let found = runs::find(store.store(), &ws, owned.id).await.expect("read").expect("there");
        assert!(found.cancel_requested);
        let missing = store.store().write(cancel(&ws, run_id(9))).await.expect("cancel");
        assert_eq!(missing, CancelOutcome::Missing);
    }

    async fn a_failed_run_keeps_its_reason(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let new = run(&ws, 1);
        store.store().write(insert(new.clone())).await.expect("insert");
        let mut last = append(&new, 0, 2, 2);
        last.change.state = RunState::Failed;
        let error = RunError::new("timeout", "The run took longer than 5 s.");
        last.change.ending =
            Some(runs::RunEnding { result: None, error: Some(error.clone()), ..ending() });
        store.store().write(last).await.expect("append");
        let page = runs::list(store.store(), &ws, &RunFilter::default(), &PageRequest::default()).await;
        assert_eq!(page.expect("list").items[0].error, Some(error));
    }

    async fn lists_are_filtered_and_paged_from_the_newest(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for number in 1..=5 {
            let mut new = run(&ws, number);
            if number == 3 {
                new.run_type = RunType::Tool;
                new.target = "calculate".to_owned();
                new.state = RunState::Running;
            }
            store.store().write(insert(new)).await.expect("insert");
        }
        let mut page = PageRequest { limit: 2, after: None };
        let mut seen = Vec::new();
        loop {
            let answer = runs::list(store.store(), &ws, &RunFilter::default(), &page).await.expect("list");
            seen.extend(answer.items.iter().map(|run| run.id));
            match answer.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        assert_eq!(seen, (1..=5).rev().map(run_id).collect::<Vec<_>>());

        let matching = async |filter: RunFilter| -> Vec<RunId> {
            let page = runs::list(store.store(), &ws, &filter, &PageRequest::default()).await;
            page.expect("list").items.iter().map(|run| run.id).collect()
        };
        let only = RunFilter::default;
        assert_eq!(matching(RunFilter { state: Some(RunState::Running), ..only() }).await, [run_id(3)]);
        assert_eq!(matching(RunFilter { target: Some("calculate".to_owned()), ..only() }).await, [run_id(3)]);
        assert_eq!(matching(RunFilter { run_type: Some(RunType::Tool), ..only() }).await, [run_id(3)]);
        assert_eq!(matching(RunFilter { created_after: Some(later(5)), ..only() }).await, [run_id(5)]);
        assert_eq!(matching(RunFilter { created_before: Some(later(2)), ..only() }).await, [run_id(1)]);
        assert!(matching(RunFilter { created_before: Some(NOW), ..only() }).await.is_empty());

        let bad = PageRequest { limit: 2, after: Some("x' or 1=1".to_owned()) };
        let error = runs::list(store.store(), &ws, &RunFilter::default(), &bad).await.expect_err("no cursor");
        assert!(matches!(error, StoreError::InvalidCursor(_)));
    }

    async fn another_workspace_sees_and_changes_nothing(store: TestStore) {
        let mine = workspace(store.store(), "mine").await;
        let theirs = workspace(store.store(), "theirs").await;
        let new = run(&mine, 1);
        store.store().write(insert(new.clone())).await.expect("insert");

        assert_eq!(runs::find(store.store(), &theirs, new.id).await.expect("read"), None);
        assert!(runs::events(store.store(), &theirs, new.id, 0, 10).await.expect("events").is_empty());
        let page = runs::list(store.store(), &theirs, &RunFilter::default(), &PageRequest::default()).await;
        assert!(page.expect("list").items.is_empty());
        assert_eq!(runs::count_unfinished(store.store(), &theirs).await.expect("count"), 0);
        let cancelled = store.store().write(cancel(&theirs, new.id)).await.expect("cancel");
        assert_eq!(cancelled, CancelOutcome::Missing);
        let forged = Append { workspace_id: theirs.clone(), ..append(&new, 0, 2, 2) };
        assert_eq!(store.store().write(forged).await.expect("append"), Appended::Fenced);
        let found = runs::find(store.store(), &mine, new.id).await.expect("read").expect("there");
        assert_eq!((found.state, found.last_seq), (RunState::Pending, 1));
    }
}
