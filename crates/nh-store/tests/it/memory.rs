//! What the store without a file does on purpose: it fails where it is told
//! to. That it is a store like the others is what [`nh_testkit::each_engine!`]
//! shows.

use std::sync::{Arc, Mutex};

use nh_store::memory::{Fate, Faults, Memory, Moment, NoFaults};
use nh_store::{Store, StoreError, Tx, Write, runs};
use nh_testkit::FixedClock;
use nh_types::WorkspaceId;
use tokio::sync::Notify;

use crate::fixtures::{insert, run, run_id, workspace};

/// Fails or hangs once, at one moment.
struct Once(Mutex<Option<(Moment, Fate)>>);

impl Faults for Once {
    fn at(&self, moment: Moment) -> Fate {
        let mut planned = self.0.lock().expect("no panic holds it");
        match *planned {
            Some((then, fate)) if then == moment => {
                *planned = None;
                fate
            }
            _ => Fate::GoOn,
        }
    }
}

fn rows() -> Memory {
    Memory::new(Arc::new(FixedClock::default()), true).expect("rows in memory")
}

async fn open(memory: &Memory) -> Store {
    Store::open_memory(memory, Arc::new(NoFaults)).await.expect("a store")
}

async fn failing(memory: &Memory, moment: Moment, fate: Fate) -> Store {
    let once = Once(Mutex::new(Some((moment, fate))));
    Store::open_memory(memory, Arc::new(once)).await.expect("a store")
}

async fn is_there(store: &Store, ws: &WorkspaceId, number: u64) -> bool {
    runs::find(store, ws, run_id(number)).await.expect("a read").is_some()
}

#[tokio::test]
async fn a_failure_is_told_and_what_was_kept_depends_on_its_moment() {
    let memory = rows();
    let store = open(&memory).await;
    let ws = workspace(&store, "acme").await;
    for (number, moment, is_kept) in [(1, Moment::BeforeCommit, false), (2, Moment::AfterCommit, true)] {
        let failing = failing(&memory, moment, Fate::Fail).await;
        let answer = failing.write(insert(run(&ws, number))).await;
        assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{moment:?}: {answer:?}");
        assert_eq!(is_there(&store, &ws, number).await, is_kept, "{moment:?}");
    }
    let failing = failing(&memory, Moment::Begin, Fate::Fail).await;
    failing.write(insert(run(&ws, 3))).await.expect("the writer connects anew");
    assert!(is_there(&store, &ws, 3).await);
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_hangs_keeps_nobody_else_waiting() {
    let memory = rows();
    let store = open(&memory).await;
    let ws = workspace(&store, "acme").await;
    for (number, moment, is_kept) in [(1, Moment::BeforeCommit, false), (2, Moment::AfterCommit, true)] {
        let hanging = failing(&memory, moment, Fate::Hang).await;
        let write = hanging.write(insert(run(&ws, number)));
        tokio::time::timeout(std::time::Duration::from_secs(1), write).await.expect_err("no answer");
        assert_eq!(is_there(&store, &ws, number).await, is_kept, "{moment:?}");
    }
}

/// Inserts a run, says so, and never comes to an end.
struct Endless(runs::Insert, Arc<Notify>);

impl Write for Endless {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        self.0.apply(tx).await?;
        self.1.notify_one();
        std::future::pending().await
    }
}

#[test]
fn a_process_that_dies_in_a_transaction_leaves_nothing_of_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let memory = rows();
    let observer = runtime();
    let (store, ws) = observer.block_on(async {
        let store = open(&memory).await;
        let ws = workspace(&store, "acme").await;
        (store, ws)
    });
    let process = runtime();
    process.block_on(async {
        let store = open(&memory).await;
        let begun = Arc::new(Notify::new());
        let write = Box::pin(store.write(Endless(insert(run(&ws, 1)), begun.clone())));
        futures_util::future::select(write, Box::pin(begun.notified())).await;
    });
    let read = || {
        observer.block_on(async {
            let wait = std::time::Duration::from_millis(20);
            tokio::time::timeout(wait, is_there(&store, &ws, 1)).await
        })
    };
    read().expect_err("a read waits for the end of the transaction");
    drop(process);
    assert!(!read().expect("a read"), "it was rolled back");
}
