//! What is owed for the ends of runs, and who sees to it.

use nh_store::runs::{
    self, CancelOutcome, CancelUnowned, EventRow, RemoveFinished, RunEnding, RunRecord, Then,
};
use nh_store::webhooks::{self, Attempt, Claim, ClaimedDelivery, DeliveryRecord, Redeliver, Tried};
use nh_testkit::{TestStore, each_engine};
use nh_types::run::RunState;
use nh_types::webhook::DeliveryState;
use nh_types::{RunId, WorkspaceId};

use crate::fixtures::{append, ending, event, insert, later, run, run_id, workspace};
use crate::signals::signal;

const URL: &str = "https://a.example/hook";

async fn stored(store: &TestStore, ws: &WorkspaceId, number: u64, url: Option<&str>) -> RunRecord {
    let new = RunRecord { webhook_url: url.map(str::to_owned), ..run(ws, number) };
    store.store().write(insert(new.clone())).await.expect("insert");
    new
}

async fn end(store: &TestStore, run: &RunRecord) {
    let mut last = append(run, run.epoch, 2, 2);
    last.change.state = RunState::Success;
    let webhook_url = run.webhook_url.clone();
    last.change.then = Then::End(Box::new(RunEnding { webhook_url, ..ending() }));
    store.store().write(last).await.expect("append");
}

async fn found(store: &TestStore, ws: &WorkspaceId, id: RunId) -> Option<DeliveryRecord> {
    webhooks::find(store.store(), ws, id).await.expect("a read")
}

async fn claim(store: &TestStore, at_ms: i64, most: u32) -> Vec<ClaimedDelivery> {
    let lanes = webhooks::lanes(store.store(), "", 9).await.expect("lanes");
    let from = lanes.into_iter().map(|lane| (lane.name, most)).collect();
    let claim = Claim { from, now: later(at_ms), until: later(at_ms + 100) };
    store.store().write(claim).await.expect("a claim")
}

fn tried(of: &ClaimedDelivery, state: DeliveryState) -> Tried {
    let error = (state != DeliveryState::Delivered).then(|| "no".to_owned());
    Tried {
        workspace_id: of.workspace_id.clone(),
        run_id: of.run_id,
        epoch: of.epoch,
        attempt: Attempt { at: later(20), duration_ms: 3, status_code: Some(500), error, response: None },
        state,
        next_at: (state == DeliveryState::Pending).then(|| later(500)),
    }
}

each_engine! {
    async fn only_the_end_of_a_run_that_tells_is_owed(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let (telling, quiet) = (stored(&store, &ws, 1, Some(URL)).await, stored(&store, &ws, 2, None).await);
        assert_eq!(found(&store, &ws, telling.id).await, None);
        end(&store, &telling).await;
        end(&store, &quiet).await;
        let owed = found(&store, &ws, telling.id).await.expect("owed");
        assert_eq!((owed.run_state, owed.state, owed.url.as_str()), (RunState::Success, DeliveryState::Pending, URL));
        assert_eq!(found(&store, &ws, quiet.id).await, None);
        let other = workspace(store.store(), "other").await;
        assert_eq!(found(&store, &other, telling.id).await, None);
        // An end that is fenced off owes nothing.
        let late = stored(&store, &ws, 3, Some(URL)).await;
        end(&store, &RunRecord { epoch: 7, ..late.clone() }).await;
        assert_eq!(found(&store, &ws, late.id).await, None);
        assert_eq!(claim(&store, 50, 9).await.len(), 1);
    }

    async fn a_run_cancelled_in_the_queue_is_owed_too(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let new = stored(&store, &ws, 1, Some(URL)).await;
        let event = EventRow { kind: "run.cancelled".to_owned(), ..event(0) };
        let cancel = CancelUnowned {
            seen_seq: 1,
            usage: nh_types::model::Usage::NONE,
            workspace_id: ws.clone(), run_id: new.id, at: later(7), event, tells: signal("end", "end"),
        };
        assert_eq!(store.store().write(cancel).await.expect("a cancel"), CancelOutcome::Cancelled);
        let owed = found(&store, &ws, new.id).await.expect("owed");
        assert_eq!((owed.run_state, owed.created_at), (RunState::Cancelled, later(7)));
    }

    async fn a_claim_is_one_process_for_a_while(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for number in 1..=3 {
            let url = if number == 3 { "https://b.example:8443/" } else { URL };
            end(&store, &stored(&store, &ws, number, Some(url)).await).await;
        }
        assert!(claim(&store, 8, 9).await.is_empty(), "not due yet");
        let first = claim(&store, 10, 1).await;
        assert_eq!(first.len(), 2, "one of each lane");
        assert_eq!(claim(&store, 11, 9).await.len(), 1, "what is left");
        let again = claim(&store, 110, 9).await;
        assert_eq!(again.len(), 2, "whoever had them is taken for dead");
        // The first one is late: its try is kept, and decides nothing.
        store.store().write(tried(&first[0], DeliveryState::Failed)).await.expect("a write");
        let delivery = found(&store, &ws, first[0].run_id).await.expect("owed");
        assert_eq!((delivery.state, delivery.attempt_count), (DeliveryState::Pending, 1));
        let second = again.iter().find(|one| one.run_id == first[0].run_id).expect("claimed");
        store.store().write(tried(second, DeliveryState::Delivered)).await.expect("a write");
        let delivery = found(&store, &ws, first[0].run_id).await.expect("owed");
        assert_eq!((delivery.state, delivery.attempt_count, delivery.next_at), (DeliveryState::Delivered, 2, None));
        let attempts = webhooks::attempts(store.store(), &ws, delivery.run_id).await.expect("attempts");
        assert_eq!(attempts.iter().map(|one| one.error.as_deref()).collect::<Vec<_>>(), [Some("no"), None]);
    }

    async fn a_delivery_asked_for_again_outlives_the_try_under_way(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let run = stored(&store, &ws, 1, Some(URL)).await;
        end(&store, &run).await;
        let under_way = claim(&store, 10, 9).await.remove(0);
        let redeliver = |ws: &WorkspaceId| Redeliver { workspace_id: ws.clone(), run_id: run.id, now: later(11) };
        assert!(store.store().write(redeliver(&ws)).await.expect("a write").is_some());
        store.store().write(tried(&under_way, DeliveryState::Delivered)).await.expect("a write");
        assert_eq!(found(&store, &ws, run.id).await.expect("owed").next_at, Some(later(11)));
        let mut number = 1;
        while let Some(next) = claim(&store, 1000 * number, 9).await.pop() {
            let state = if number < 60 { DeliveryState::Pending } else { DeliveryState::Delivered };
            store.store().write(tried(&next, state)).await.expect("a write");
            number += 1;
        }
        let attempts = webhooks::attempts(store.store(), &ws, run.id).await.expect("attempts");
        assert!((49..=50).contains(&attempts.len()), "{} are kept", attempts.len());
        let other = workspace(store.store(), "other").await;
        assert_eq!(store.store().write(redeliver(&other)).await.expect("a write"), None);
    }

    async fn a_run_stays_until_it_is_told(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for number in 1..=2 {
            end(&store, &stored(&store, &ws, number, Some(URL)).await).await;
        }
        let claimed = claim(&store, 10, 1).await.remove(0);
        store.store().write(tried(&claimed, DeliveryState::Failed)).await.expect("a write");
        let remove = RemoveFinished { before: later(100_000), limit: 9, after: None };
        assert_eq!(store.store().write(remove).await.expect("a write").count, 1);
        assert_eq!(found(&store, &ws, claimed.run_id).await, None);
        assert!(webhooks::attempts(store.store(), &ws, claimed.run_id).await.expect("none").is_empty());
        let left = claim(&store, 500, 9).await.remove(0);
        assert!(runs::find(store.store(), &ws, left.run_id).await.expect("a read").is_some());
        store.store().write(tried(&left, DeliveryState::Delivered)).await.expect("a write");
        assert_eq!(store.store().write(remove).await.expect("a write").count, 1);
        // What came of a try after that is nothing.
        store.store().write(tried(&left, DeliveryState::Pending)).await.expect("a write");
        assert_eq!(found(&store, &ws, run_id(2)).await, None);
    }
}
