use nh_store::idempotency::{LIFE_MS, Purge};
use nh_store::{Idempotency, Once, StoreError, keys, runs};
use nh_testkit::{TestStore, each_engine};
use nh_types::key::KeyLimits;
use nh_types::{PageRequest, ScopeSet, Timestamp, WorkspaceId};

use crate::fixtures::{NOW, insert, later, run, run_id, workspace};

fn once(key: &str, body: u8, at: Timestamp) -> Option<Idempotency> {
    Some(Idempotency { owner: "ws/key:1".to_owned(), key: key.to_owned(), body_hash: [body; 32], at })
}

fn key(workspace_id: &WorkspaceId, hash: u8) -> keys::Create {
    keys::Create {
        workspace_id: workspace_id.clone(),
        name: "k".to_owned(),
        prefix: "nh_a1b2".to_owned(),
        hash: [hash; 32],
        scopes: ScopeSet::all(),
        created_at: NOW,
        expires_at: None,
        rate_limit: None,
        limits: KeyLimits::default(),
    }
}

each_engine! {
    async fn the_same_body_gives_the_first_answer_again(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let first = store.store().write_once(once("a", 1, NOW), key(&ws, 1)).await.expect("first");
        let Once::First(made) = first else { panic!("{first:?}") };
        let replay = store.store().write_once(once("a", 1, later(5)), key(&ws, 2)).await.expect("replay");
        assert_eq!(replay, Once::Replay(made));
        let mismatch = store.store().write_once(once("a", 2, later(5)), key(&ws, 3)).await.expect("mismatch");
        assert_eq!(mismatch, Once::Mismatch);
        let page = keys::list(store.store(), &ws, NOW, &PageRequest::default()).await.expect("list");
        assert_eq!(page.items.len(), 1);

        let other = once("a", 2, NOW).map(|once| Idempotency { owner: "ws/key:2".to_owned(), ..once });
        let other = store.store().write_once(other, key(&ws, 3)).await.expect("another owner");
        assert!(matches!(other, Once::First(_)));
        assert!(matches!(store.store().write_once(None, key(&ws, 4)).await, Ok(Once::First(_))));
    }

    async fn the_same_key_at_the_same_time_is_written_once(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let other = store.open_again().await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..40 {
            let store = if number % 2 == 0 { store.store().clone() } else { other.clone() };
            let new = insert(run(&ws, number));
            tasks.spawn(async move { store.write_once(once("a", 1, NOW), new).await.expect("answered") });
        }
        let answers = tasks.join_all().await;
        let firsts: Vec<_> = answers.iter().filter(|answer| matches!(answer, Once::First(_))).collect();
        assert_eq!(firsts.len(), 1, "{answers:?}");
        let Once::First(id) = firsts[0] else { panic!() };
        assert!(answers.iter().all(|answer| matches!(answer, Once::First(same) | Once::Replay(same) if same == id)));
        assert_eq!(runs::count_unfinished(store.store(), &ws).await.expect("count"), 1);
    }

    async fn a_write_that_fails_leaves_no_record(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        let failed = store.store().write_once(once("a", 1, NOW), insert(run(&ws, 1))).await;
        assert!(matches!(failed, Err(StoreError::Conflict(_))));
        let second = store.store().write_once(once("a", 2, NOW), insert(run(&ws, 2))).await.expect("first");
        assert_eq!(second, Once::First(run_id(2)));
    }

    async fn a_record_counts_for_a_day(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        store.store().write_once(once("a", 1, NOW), insert(run(&ws, 1))).await.expect("first");
        store.store().write_once(once("b", 1, NOW), insert(run(&ws, 2))).await.expect("first");
        let almost = store.store().write_once(once("a", 1, later(LIFE_MS - 1)), insert(run(&ws, 3))).await;
        assert_eq!(almost.expect("replay"), Once::Replay(run_id(1)));
        let anew = store.store().write_once(once("a", 9, later(LIFE_MS)), insert(run(&ws, 3))).await;
        assert_eq!(anew.expect("first"), Once::First(run_id(3)));
        assert_eq!(store.store().write(Purge { now: later(LIFE_MS) }).await.expect("purge"), 1);
        let replay = store.store().write_once(once("a", 9, later(LIFE_MS)), insert(run(&ws, 4))).await;
        assert_eq!(replay.expect("replay"), Once::Replay(run_id(3)));
    }
}
