use nh_store::sandboxes::{self, Forget, Hold, Meter, Started, Stop};
use nh_store::{Store, blobs, ledger, usage};
use nh_testkit::{TestStore, each_engine};
use nh_types::blob::{Access, BlobSource};
use nh_types::sandbox::StopReason;
use nh_types::usage::{UsageBy, UsageSum};
use nh_types::{Timestamp, WorkspaceId};

use crate::fixtures::{NOW, insert, later, run, run_id, workspace};
use crate::sandboxes::{begin, hold, id};

const SECOND: i64 = 1000;
const HOUR: i64 = 3600 * SECOND;

async fn sums(store: &Store, workspace_id: &WorkspaceId, by: &[UsageBy]) -> Vec<UsageSum> {
    let ever = (Timestamp::default(), later(1000 * HOUR));
    usage::sums(store, workspace_id, ever, by, 100).await.expect("sums")
}

async fn total(store: &Store, workspace_id: &WorkspaceId) -> UsageSum {
    sums(store, workspace_id, &[]).await.into_iter().next().unwrap_or_default()
}

/// A sandbox of key 1 and run 1 that runs from now on.
async fn running(store: &Store, workspace_id: &WorkspaceId, letter: char, hold_ms: i64) {
    let mut begin = begin(letter, "one", workspace_id, hold_ms);
    begin.sandbox.run_id = Some(run_id(1));
    store.write(begin).await.expect("begun");
    let started = Started { id: id(letter), at: NOW, expires_at: later(HOUR) };
    assert!(store.write(started).await.expect("started"));
}

fn meter(workspace_id: &WorkspaceId, letter: char, until: Timestamp) -> Meter {
    Meter {
        workspace_id: workspace_id.clone(),
        id: id(letter),
        until,
        price_per_hour: Some(3.6),
        accounts: vec!["key:1:2026-02".to_owned()],
    }
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

async fn put(store: &Store, workspace_id: &WorkspaceId, size: u64) {
    let blob = blobs::BlobRecord {
        pathname: "a".parse().expect("a name"),
        size,
        sha256: [1; 32],
        content_type: "text/plain".to_owned(),
        access: Access::Private,
        cache_seconds: None,
        uploaded_at: NOW,
        expires_at: None,
        source: BlobSource { created_by: "key:1".to_owned(), run_id: None, step: None },
    };
    let put = blobs::Put {
        workspace_id: workspace_id.clone(),
        blob,
        bytes_id: format!("{workspace_id}{size}"),
        bytes: blobs::NewBytes::Here("x".into()),
        condition: blobs::Condition::Any,
        quota: None,
    };
    store.write(put).await.expect("put");
}

each_engine! {
    async fn no_second_of_a_sandbox_counts_twice(test_store: TestStore) {
        let (store, other_node) = (test_store.store(), test_store.open_again().await);
        let (ws, theirs) = (workspace(store, "acme").await, workspace(store, "other").await);
        store.write(insert(run(&ws, 1))).await.expect("a run");
        running(store, &ws, 'a', 60_000).await;
        // However many say that it ran, and in whatever order they are heard.
        let said = [10, 60, 60, 30].map(|seconds| meter(&ws, 'a', later(seconds * SECOND)));
        let stores = [store, &other_node, store, &other_node];
        let all = said.into_iter().zip(stores).map(|(meter, store)| store.write(meter));
        futures_util::future::try_join_all(all).await.expect("metered");
        store.write(meter(&theirs, 'a', later(90 * SECOND))).await.expect("no sandbox of theirs");
        store.write(meter(&ws, 'b', later(90 * SECOND))).await.expect("no sandbox at all");
        let all = total(store, &ws).await;
        assert_eq!((all.sandbox_seconds, all.calls, all.unpriced_calls), (60.0, 1, 0));
        assert!(close(all.cost_usd, 0.06), "{all:?}");
        let spent = ledger::spent(store, &ws, "key:1:2026-02").await.expect("read").picodollars;
        assert!((60_000_000_000..60_000_000_010).contains(&spent), "{spent}");
        assert_eq!(total(store, &theirs).await, UsageSum::default());

        store.write(Stop { id: id('a'), reason: StopReason::Expired, at: later(70 * SECOND) }).await.expect("ended");
        store.write(meter(&ws, 'a', later(80 * SECOND))).await.expect("nothing to meter");
        assert_eq!(total(store, &ws).await.sandbox_seconds, 60.0);
        let by = [UsageBy::Key, UsageBy::Provider, UsageBy::Model, UsageBy::Agent, UsageBy::Kind];
        let sums = sums(store, &ws, &by).await;
        let [of] = sums.as_slice() else { panic!("{sums:?}") };
        let texts = [&of.provider, &of.model, &of.agent, &of.kind].map(|text| text.as_deref().unwrap_or("none"));
        assert_eq!((of.key_id, texts), (Some(1), ["neuralhub", "python", "agent_default", "sandbox"]));
    }

    async fn time_in_which_nobody_held_a_sandbox_costs_nothing(test_store: TestStore) {
        let store = test_store.store();
        let ws = workspace(store, "acme").await;
        running(store, &ws, 'a', 60_000).await;
        store.write(meter(&ws, 'a', later(20 * SECOND))).await.expect("metered");
        store.write(Hold { hold_ms: -1, ..hold("one", false) }).await.expect("a hold that is over");
        store.write(meter(&ws, 'a', later(500 * SECOND))).await.expect("nobody's");
        assert_eq!(total(store, &ws).await.sandbox_seconds, 20.0);
        // Its process comes back before anybody told it as lost.
        store.write(Hold { at: later(600 * SECOND), ..hold("one", false) }).await.expect("held");
        store.write(meter(&ws, 'a', later(605 * SECOND))).await.expect("metered");
        assert_eq!((total(store, &ws).await.sandbox_seconds, total(store, &ws).await.calls), (25.0, 1));
        // A clock that jumps ahead makes nobody poor, and one that jumps back nobody rich.
        store.write(meter(&ws, 'a', later(900 * HOUR))).await.expect("metered");
        store.write(meter(&ws, 'a', later(700 * SECOND))).await.expect("metered");
        assert_eq!(total(store, &ws).await.sandbox_seconds, 925.0);
        store.write(Forget { workspace_id: ws.clone(), id: id('a') }).await.expect("forgotten");
        assert_eq!(total(store, &ws).await.sandbox_seconds, 925.0, "what it took is remembered");
        assert!(sandboxes::live(store, &ws).await.expect("read").is_empty());
    }

    async fn without_a_price_there_are_seconds_and_no_cost(test_store: TestStore) {
        let store = test_store.store();
        let ws = workspace(store, "acme").await;
        running(store, &ws, 'a', 60_000).await;
        let meter = Meter { price_per_hour: None, accounts: Vec::new(), ..meter(&ws, 'a', later(1500)) };
        store.write(meter).await.expect("metered");
        let all = total(store, &ws).await;
        assert_eq!((all.sandbox_seconds, all.cost_usd, all.unpriced_calls, all.calls), (1.5, 0.0, 0, 1));
    }

    async fn what_is_stored_is_metered_once_an_hour_by_one_node(test_store: TestStore) {
        let (store, other_node) = (test_store.store(), test_store.open_again().await);
        let (ws, empty) = (workspace(store, "acme").await, workspace(store, "empty").await);
        put(store, &ws, 2_000_000_000).await;
        put(store, &empty, 0).await;
        let meter = |ms: i64| blobs::Meter { at: later(ms), price_per_gb_month: Some(7.3), limit: 10 };
        // From the first time on it counts.
        assert_eq!(store.write(meter(0)).await.expect("metered"), 2);
        assert_eq!(total(store, &ws).await, UsageSum::default());
        assert_eq!(store.write(meter(HOUR - 1)).await.expect("too early"), 0);
        let both = tokio::try_join!(store.write(meter(HOUR)), other_node.write(meter(HOUR)));
        let (one, other) = both.expect("metered");
        assert_eq!(one + other, 2);
        let all = total(store, &ws).await;
        assert_eq!((all.storage_gb_hours, all.calls, all.unpriced_calls), (2.0, 0, 0));
        assert!(close(all.cost_usd, 0.02), "{all:?}");
        assert_eq!(total(store, &empty).await, UsageSum::default());
        // Of a long time in which no hub ran, a day.
        assert_eq!(store.write(meter(100 * HOUR)).await.expect("metered"), 2);
        assert_eq!(total(store, &ws).await.storage_gb_hours, 2.0 + 48.0);
        put(store, &ws, 1_000_000_000).await;
        let unpriced = blobs::Meter { price_per_gb_month: None, ..meter(102 * HOUR) };
        store.write(unpriced).await.expect("metered");
        let kinds = sums(store, &ws, &[UsageBy::Kind, UsageBy::Key, UsageBy::Provider]).await;
        let [of] = kinds.as_slice() else { panic!("{kinds:?}") };
        assert_eq!((of.kind.as_deref(), of.key_id, of.provider.as_deref()), (Some("storage"), None, Some("neuralhub")));
        assert!(of.storage_gb_hours == 52.0 && close(of.cost_usd, 0.5), "{of:?}");
    }
}
