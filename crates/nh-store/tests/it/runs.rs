use nh_store::runs::{
    self, Append, Appended, CancelOutcome, CancelUnowned, Claim, EventRow, Insert, QueueDepth, ReleaseAll,
    RemoveFinished, Repair, RunFault, RunFilter, RunRecord, Then, WakeDue,
};
use nh_store::{Store, StoreError, nodes};
use nh_testkit::{TestStore, each_engine};
use nh_types::model::Usage;
use nh_types::run::{RunError, RunState, RunType};
use nh_types::{PageRequest, RunId, WorkspaceId};
use serde_json::json;

use crate::fixtures::{NOW, append, ending, event, has_leases, insert, later, run, run_id, workspace};
use crate::signals::signal;

fn cancel(workspace_id: &WorkspaceId, run_id: RunId) -> CancelUnowned {
    let event = EventRow { kind: "run.cancelled".to_owned(), ..event(0) };
    let tells = signal("end", "end");
    let workspace_id = workspace_id.clone();
    CancelUnowned { workspace_id, run_id, at: later(5), seen_seq: 1, usage: Usage::NONE, event, tells }
}

async fn claim(store: &Store, node: &str, limit: u32) -> Vec<RunRecord> {
    store
        .write(Claim { node: node.to_owned(), limit, after: None, shares: Default::default() })
        .await
        .expect("claim")
        .runs
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
        let claimed = claim(store.store(), "node", 10).await;
        assert_eq!((claimed.len(), claimed[0].epoch, claimed[0].owner.as_deref()), (1, 1, Some("node")));

        let first = append(&claimed[0], 1, 2, 3);
        assert_eq!(store.store().write(first).await.expect("append"), Appended::Done);
        let mut last = append(&claimed[0], 1, 4, 4);
        last.change.state = RunState::Success;
        last.change.started_at = None;
        last.change.then = Then::End(Box::new(ending()));
        assert_eq!(store.store().write(last.clone()).await.expect("append"), Appended::Done);

        let found = runs::find(store.store(), &ws, run_id(1)).await.expect("read").expect("there");
        assert_eq!((found.state, found.owner, found.last_seq), (RunState::Success, None, 4));
        assert_eq!((found.started_at, found.finished_at), (Some(later(1)), Some(later(9))));
        assert_eq!((found.result, found.usage.input_tokens), (Some(json!("391")), 7));
        // It has ended: nothing more can be appended, nor can it be claimed.
        assert_eq!(store.store().write(append(&claimed[0], 1, 5, 5)).await.expect("append"), Appended::Fenced);
        assert_eq!(store.store().write(last).await.expect("append"), Appended::Fenced);
        assert!(claim(store.store(), "node", 10).await.is_empty());
        assert_eq!(runs::count_unfinished(store.store(), &ws).await.expect("count"), 0);
        let journal = runs::events(store.store(), &ws, run_id(1), 2, 1).await.expect("events");
        assert_eq!(journal, [event(3)]);
    }

    async fn an_older_epoch_changes_nothing(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "old").await;
        join(&store, "new").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        let zombie = claim(store.store(), "old", 1).await.remove(0);
        let mut release = append(&zombie, zombie.epoch, 2, 2);
        release.change.then = Then::Queue;
        assert_eq!(store.store().write(release).await.expect("append"), Appended::Done);
        let owner = claim(store.store(), "new", 1).await.remove(0);
        assert_eq!((owner.epoch, owner.state, owner.last_seq), (2, RunState::Running, 2));

        let before = runs::find(store.store(), &ws, run_id(1)).await.expect("read");
        let mut late = append(&zombie, zombie.epoch, 3, 3);
        late.change.state = RunState::Failed;
        late.change.then = Then::End(Box::new(ending()));
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
        (waiting.state, waiting.ready) = (RunState::Waiting, false);
        store.store().write(insert(waiting)).await.expect("insert");

        let first = claim(store.store(), "a", 2).await;
        assert_eq!(first.iter().map(|run| run.id).collect::<Vec<_>>(), [run_id(1), run_id(2)]);
        let other = store.open_again().await;
        let (a, b) = tokio::join!(claim(store.store(), "a", 2), claim(&other, "b", 2));
        let mut ids: Vec<RunId> = a.into_iter().chain(b).map(|run| run.id).collect();
        ids.sort();
        ids.dedup();
        // Under PostgreSQL one claim passes over what the other holds, so the
        // two may leave a run for the next claim, but never share one.
        ids.extend(claim(store.store(), "a", 9).await.into_iter().map(|run| run.id));
        ids.sort();
        assert_eq!(ids, [run_id(3), run_id(4), run_id(5)]);
    }

    async fn workspaces_have_their_turns_and_the_urgent_of_each_come_first(store: TestStore) {
        let mut workspaces = Vec::new();
        for name in ["one", "two", "three"] {
            workspaces.push(workspace(store.store(), name).await);
        }
        workspaces.sort();
        join(&store, "node").await;
        // Twelve queued runs of the first, then two of each other one.
        for number in 0..12 {
            let mut new = run(&workspaces[0], number);
            new.priority = if number == 7 { 5 } else { 0 };
            store.store().write(insert(new)).await.expect("insert");
        }
        for number in 12..16 {
            let which = 1 + (number as usize) % 2;
            store.store().write(insert(run(&workspaces[which], number))).await.expect("insert");
        }
        let mut after = None;
        let mut next = async |limit: u32| {
            let claim = Claim { node: "node".to_owned(), limit, after: after.clone(), shares: Default::default() };
            let claimed = store.store().write(claim).await.expect("claim");
            after = claimed.last;
            let place = |run: &RunRecord| workspaces.iter().position(|id| *id == run.workspace_id).expect("known");
            claimed.runs.iter().map(|run| (place(run), run.id)).collect::<Vec<_>>()
        };
        // One at a time: nobody waits for the first one's queue, and the
        // urgent run overtakes the older ones of its own workspace only.
        assert_eq!(next(1).await, [(0, run_id(7))]);
        assert_eq!(next(1).await, [(1, run_id(12))]);
        assert_eq!(next(1).await, [(2, run_id(13))]);
        assert_eq!(next(1).await, [(0, run_id(0))]);
        // Several at once are shared out, and what one cannot use others get.
        let many: Vec<usize> = next(9).await.into_iter().map(|(place, _)| place).collect();
        assert_eq!(many.iter().filter(|place| **place == 0).count(), 7, "{many:?}");
        assert_eq!(next(9).await.len(), 3);
        assert!(next(9).await.is_empty());
    }

    async fn what_is_due_becomes_ready_and_what_is_overdue_is_taken(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        let asleep = |number, wake_ms, deadline_ms: Option<i64>| {
            let mut new = run(&ws, number);
            (new.ready, new.wake_at, new.deadline_at) = (false, Some(later(wake_ms)), deadline_ms.map(later));
            new
        };
        for new in [asleep(1, 10, None), asleep(2, 20, Some(50)), asleep(3, 15, Some(15))] {
            store.store().write(insert(new)).await.expect("insert");
        }
        assert!(claim(store.store(), "node", 9).await.is_empty(), "all of them sleep");
        let depth = async || runs::queue_depth(store.store()).await.expect("read");
        let of = QueueDepth { unfinished: 3, ..QueueDepth::default() };
        assert_eq!(depth().await, QueueDepth { asleep: 3, ..of });
        let wake = async |now_ms| {
            let write = WakeDue { node: "node".to_owned(), now: later(now_ms) };
            let woken = store.store().write(write).await.expect("wake");
            (woken.ready, woken.overdue.into_iter().map(|run| run.id).collect::<Vec<_>>(), woken.next)
        };
        assert_eq!(wake(9).await, (0, vec![], Some(later(10))));
        assert_eq!(wake(15).await, (1, vec![run_id(3)], Some(later(20))));
        let woken = QueueDepth { ready: 1, oldest_ready: Some(run_id(1)), asleep: 1, running: 1, ..of };
        assert_eq!(depth().await, woken);
        assert_eq!(runs::next_wake(store.store()).await.expect("read"), Some(later(20)));
        // A ready run with a deadline is looked at again then.
        assert_eq!(wake(20).await, (1, vec![], Some(later(50))));
        let mut ready: Vec<RunId> = claim(store.store(), "node", 1).await.iter().map(|run| run.id).collect();
        assert_eq!(wake(50).await, (0, vec![run_id(2)], None));
        ready.extend(claim(store.store(), "node", 9).await.iter().map(|run| run.id));
        assert_eq!(ready, [run_id(1)]);
        // A run that is given back sleeps or waits as its owner says.
        let owned = runs::find(store.store(), &ws, run_id(1)).await.expect("read").expect("there");
        let mut rest = append(&owned, owned.epoch, 2, 2);
        rest.change.then = Then::Sleep { wake_at: Some(later(70)) };
        store.store().write(rest).await.expect("append");
        assert!(claim(store.store(), "node", 9).await.is_empty());
        assert_eq!(wake(70).await.0, 1);
        assert_eq!(claim(store.store(), "node", 9).await.len(), 1);
    }

    async fn runs_that_ended_long_ago_are_removed_with_their_journals(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for number in 1..=4 {
            let mut old = run(&ws, number);
            (old.state, old.finished_at, old.ready) = (RunState::Success, Some(later(number as i64)), false);
            store.store().write(insert(old)).await.expect("insert");
        }
        // As old as they are, but not ended.
        store.store().write(insert(run(&ws, 5))).await.expect("insert");
        // The fixtures' ids are as old as ids can be.
        let remove = async |before_ms, limit| {
            let write = RemoveFinished { before: later(before_ms), limit, after: None };
            store.store().write(write).await.expect("remove").count
        };
        assert_eq!(remove(3, 10).await, 2);
        assert_eq!(remove(3, 10).await, 0);
        let mut left = Vec::new();
        for number in 1..=5 {
            let found = runs::find(store.store(), &ws, run_id(number)).await.expect("read");
            let journal = runs::events(store.store(), &ws, run_id(number), 0, 9).await.expect("events");
            assert_eq!(found.is_some(), !journal.is_empty());
            left.extend(found.map(|_| number));
        }
        assert_eq!(left, [3, 4, 5]);
        assert_eq!((remove(100, 1).await, remove(100, 1).await, remove(100, 1).await), (1, 1, 0));
    }

    async fn a_check_finds_what_nothing_would_take_up_and_mends_it(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let check = async || runs::check(store.store(), None).await.expect("check");
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        let mut waiting = run(&ws, 2);
        (waiting.state, waiting.ready) = (RunState::Waiting, false);
        store.store().write(insert(waiting)).await.expect("insert");
        assert_eq!((check().await.count, check().await.faults), (2, vec![]));

        let mut stranded = run(&ws, 3);
        stranded.ready = false;
        let mut undead = run(&ws, 4);
        (undead.state, undead.finished_at) = (RunState::Failed, Some(later(1)));
        let mut endless = run(&ws, 5);
        (endless.state, endless.ready) = (RunState::Success, false);
        for new in [stranded, undead, endless] {
            store.store().write(insert(new)).await.expect("insert");
        }
        let gaps = Insert::new(run(&ws, 6), vec![event(1), event(3)]);
        store.store().write(gaps).await.expect("insert");
        let beyond_repair = [(run_id(5), RunFault::HalfEnded), (run_id(6), RunFault::JournalBroken)];
        let mut all = vec![(run_id(3), RunFault::Stranded), (run_id(4), RunFault::Undead)];
        all.extend(beyond_repair);
        assert_eq!(check().await.faults, all);
        let found = check().await.faults.into_iter().map(|(id, _)| id).collect();
        store.store().write(Repair(found)).await.expect("repair");
        assert_eq!(check().await.faults, beyond_repair);
        join(&store, "node").await;
        let taken: Vec<RunId> = claim(store.store(), "node", 9).await.iter().map(|run| run.id).collect();
        assert_eq!(taken, [run_id(1), run_id(3), run_id(6)]);
    }

    async fn what_a_dead_node_owned_is_claimed_by_another(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "dead").await;
        join(&store, "alive").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        claim(store.store(), "dead", 1).await;
        assert!(claim(store.store(), "alive", 1).await.is_empty());

        if has_leases(&store) {
            // Its lease ran out.
            nodes::renew(store.store(), "dead", 0).await.expect("renew");
            assert_eq!(nodes::live(store.store()).await.expect("live"), ["alive"]);
        } else {
            assert_eq!(store.store().write(ReleaseAll).await.expect("release"), 1);
        }
        let taken = claim(store.store(), "alive", 1).await;
        // What a dead node may still write is fenced from when it is released.
        let released = i64::from(has_leases(&store));
        assert_eq!((taken.len(), taken[0].epoch), (1, 2 + released));

        if has_leases(&store) {
            store.store().write(nodes::Leave { node: "alive".to_owned() }).await.expect("leave");
            join(&store, "third").await;
            assert_eq!(claim(store.store(), "third", 1).await[0].epoch, 5);
            assert_eq!(nodes::live(store.store()).await.expect("live"), ["third"]);
        }
    }

    async fn cancelling_ends_what_nobody_runs_and_asks_the_owner_of_the_rest(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        let owned = claim(store.store(), "node", 1).await.remove(0);
        store.store().write(insert(run(&ws, 2))).await.expect("insert");

        let late = CancelUnowned { seen_seq: 0, ..cancel(&ws, run_id(2)) };
        let unseen = store.store().write(late).await.expect_err("its journal has grown");
        assert!(matches!(unseen, StoreError::Conflict(_)), "{unseen}");
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

    async fn a_wish_to_cancel_is_not_slept_over(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        join(&store, "node").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        let owned = claim(store.store(), "node", 1).await.remove(0);
        let asked = store.store().write(cancel(&ws, owned.id)).await.expect("cancel");
        assert_eq!(asked, CancelOutcome::Requested);
        let mut rest = append(&owned, owned.epoch, 2, 2);
        (rest.change.state, rest.change.then) = (RunState::Waiting, Then::Sleep { wake_at: None });
        store.store().write(rest).await.expect("append");
        let again = claim(store.store(), "node", 1).await.remove(0);
        assert!(again.cancel_requested, "whoever takes it up ends it");
    }

    async fn a_failed_run_keeps_its_reason(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let new = run(&ws, 1);
        store.store().write(insert(new.clone())).await.expect("insert");
        let mut last = append(&new, 0, 2, 2);
        last.change.state = RunState::Failed;
        let error = RunError::new("timeout", "The run took longer than 5 s.");
        last.change.then =
            Then::End(Box::new(runs::RunEnding { result: None, error: Some(error.clone()), ..ending() }));
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
