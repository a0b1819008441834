use std::sync::Arc;

use nh_store::runs::{self, Appended, Insert};
use nh_store::{StoreError, Tx, Write, keys, workspaces};
use nh_testkit::{TestStore, each_engine};
use nh_types::key::KeyLimits;
use nh_types::{PageRequest, ScopeSet, WorkspaceId};
use tokio::sync::Notify;

use crate::fixtures::{NOW, append, event, insert, run, run_id, workspace};

/// Inserts a run, and then fails.
struct Half(Insert);

impl Write for Half {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        self.0.apply(tx).await?;
        Err(StoreError::Missing("the other half".to_owned()))
    }
}

fn key(workspace_id: &WorkspaceId, number: u8) -> keys::Create {
    keys::Create {
        workspace_id: workspace_id.clone(),
        name: format!("key {number}"),
        prefix: "nh_a1b2".to_owned(),
        hash: [number; 32],
        scopes: ScopeSet::all(),
        created_at: NOW,
        expires_at: None,
        rate_limit: None,
        limits: KeyLimits::default(),
    }
}

each_engine! {
    async fn many_writers_at_once_lose_nothing(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let (store, ws) = (Arc::new(store), Arc::new(ws));
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..200 {
            let (store, ws) = (Arc::clone(&store), Arc::clone(&ws));
            tasks.spawn(async move {
                let mut new = run(&ws, number);
                (new.owner, new.epoch) = (Some("node".to_owned()), 1);
                let new_insert = insert(new.clone());
                assert_eq!(store.store().write(new_insert).await.expect("insert"), new.id);
                for seq in 2..=4 {
                    let appended = store.store().write(append(&new, 1, seq, seq)).await;
                    assert_eq!(appended.expect("append"), Appended::Done);
                    // Whoever was answered can read what was written.
                    let journal = runs::events(store.store(), &ws, new.id, 0, 100).await.expect("events");
                    assert_eq!(journal.len() as i64, seq);
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(runs::count_unfinished(store.store(), &ws).await.expect("count"), 200);
        for number in 0..200 {
            let journal = runs::events(store.store(), &ws, run_id(number), 0, 100).await.expect("events");
            assert_eq!(journal.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
        }
    }

    async fn a_bad_write_fails_alone(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        store.store().write(insert(run(&ws, 0))).await.expect("the first of its id");
        let (good, bad, half) = tokio::join!(
            futures_all((1..60).map(|number| store.store().write(insert(run(&ws, number))))),
            futures_all((0..5).map(|_| store.store().write(insert(run(&ws, 0))))),
            futures_all((90..95).map(|number| store.store().write(Half(insert(run(&ws, number)))))),
        );
        assert!(good.iter().all(Result::is_ok), "{good:?}");
        assert!(bad.iter().all(|answer| matches!(answer, Err(StoreError::Conflict(_)))), "{bad:?}");
        assert!(half.iter().all(|answer| matches!(answer, Err(StoreError::Missing(_)))), "{half:?}");
        assert_eq!(runs::count_unfinished(store.store(), &ws).await.expect("count"), 60);
    }

    async fn a_write_that_changed_nothing_is_refused_without_spoiling_its_batch(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let taken = || workspaces::Create {
            workspace: workspaces::Workspace {
                id: "ws_00000000000000000000".parse().expect("an id"),
                name: "acme".to_owned(),
                created_at: NOW,
            },
            default_agent: nh_types::agent::AgentDefinition::default_agent(),
        };
        let (keys, refused) = tokio::join!(
            futures_all((1..30).map(|number| store.store().write(key(&ws, number)))),
            futures_all((0..30).map(|_| store.store().write(taken()))),
        );
        let mut ids: Vec<i64> = keys.into_iter().map(|key| key.expect("a key").id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..30).collect::<Vec<i64>>());
        for answer in refused {
            let error = answer.expect_err("the name is taken");
            assert_eq!(error.to_string(), "there is a workspace named `acme` already");
        }
    }

    async fn a_caller_that_goes_away_does_not_take_its_write_back(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        {
            let mut write = Box::pin(store.store().write(insert(run(&ws, 1))));
            // Polled once, so that it is queued.
            tokio::select! {
                biased;
                _ = &mut write => {}
                () = std::future::ready(()) => {}
            }
        }
        store.store().write(insert(run(&ws, 2))).await.expect("a later one");
        assert!(runs::find(store.store(), &ws, run_id(1)).await.expect("read").is_some());
    }

    async fn closing_commits_what_is_queued_and_refuses_the_rest(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let handle = store.store().clone();
        let (written, ()) = tokio::join!(
            futures_all((0..40).map(|number| store.store().write(insert(run(&ws, number))))),
            handle.close(),
        );
        let kept = written.iter().filter(|answer| answer.is_ok()).count() as i64;
        let refused = handle.write(insert(run(&ws, 99))).await.expect_err("closed");
        assert!(matches!(refused, StoreError::Closed), "{refused:?}");
        assert!(handle.ping().await.is_err());
        let again = store.open_again().await;
        assert_eq!(runs::count_unfinished(&again, &ws).await.expect("count"), kept);
    }

    async fn a_big_batch_goes_into_several_statements(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let big = Insert::new(run(&ws, 1), (1..=1300).map(event).collect());
        store.store().write(big).await.expect("insert");
        let journal = runs::events(store.store(), &ws, run_id(1), 0, 5000).await.expect("events");
        assert_eq!(journal.len(), 1300);
        let found = runs::find(store.store(), &ws, run_id(1)).await.expect("read").expect("there");
        assert_eq!(found.last_seq, 1300);
    }

    async fn two_stores_on_the_same_rows_wait_for_each_other(store: TestStore) {
        let other = store.open_again().await;
        let ws = workspace(store.store(), "acme").await;
        let (mine, theirs) = tokio::join!(
            futures_all((1..40).map(|number| store.store().write(key(&ws, number)))),
            futures_all((101..140).map(|number| other.write(key(&ws, number)))),
        );
        let mut ids: Vec<i64> = mine.into_iter().chain(theirs).map(|key| key.expect("a key").id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (1..=78).collect::<Vec<i64>>());
        let page = keys::list(&other, &ws, NOW, &PageRequest::default()).await.expect("list");
        assert_eq!(page.items.len(), 78);
    }
}

/// All answers, in order; the writes are under way at the same time.
async fn futures_all<F: Future>(writes: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut writes: Vec<_> = writes.map(Box::pin).collect();
    let mut answers: Vec<Option<F::Output>> = writes.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (write, answer) in writes.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let std::task::Poll::Ready(output) = write.as_mut().poll(context)
            {
                *answer = Some(output);
            }
        }
        match answers.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// Inserts a run, says so, and never comes to an end.
struct Endless(Insert, Arc<Notify>);

impl Write for Endless {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        self.0.apply(tx).await?;
        self.1.notify_one();
        std::future::pending().await
    }
}

/// A test that is over takes no notice of what its hub still does. Here the
/// writer can do nothing more: its thread is the one that removes the schema.
#[tokio::test]
async fn a_test_store_can_be_dropped_in_the_middle_of_a_write() {
    let store = TestStore::postgres().await;
    let ws = workspace(store.store(), "acme").await;
    let (writer, begun) = (store.store().clone(), Arc::new(Notify::new()));
    let endless = Endless(insert(run(&ws, 1)), begun.clone());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { writer.write(endless).await });
    begun.notified().await;
    drop(store);
}
