//! What happens when the connection or the commit itself fails. These need the
//! crate's inside to break it; all else is tested from outside, in `tests/it`.

use std::sync::{Mutex, mpsc};

use secrecy::{ExposeSecret as _, SecretString};

use tokio::sync::oneshot;

use crate::columns::Columns;
use crate::credentials::{epoch, raise_epoch};
use crate::sql::args;
use crate::{Store, StoreError, Tx, Write, schemas};

struct Raise;

impl Write for Raise {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        raise_epoch(tx).await
    }
}

/// Leaves behind what only the commit finds wrong.
struct BadAtCommit;

impl Write for BadAtCommit {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        tx.select("pragma defer_foreign_keys = on", args![]).await?;
        tx.execute(
            "insert into agents (workspace_id, id, version, created_at, updated_at) values ('none', 'a', 1, 0, 0)",
            args![],
        )
        .await
        .map(drop)
    }
}

/// Says that it is being applied, and keeps the writer until it is told to go on.
struct Hold {
    begun: Mutex<Option<oneshot::Sender<()>>>,
    release: Mutex<mpsc::Receiver<()>>,
}

impl Write for Hold {
    type Output = ();

    async fn apply<'t>(&'t self, _: &'t mut Tx) -> Result<(), StoreError> {
        self.begun.lock().expect("a lock").take().map(|begun| begun.send(()));
        let _ = self.release.lock().expect("a lock").recv();
        Ok(())
    }
}

struct Panics;

impl Write for Panics {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        raise_epoch(tx).await?;
        panic!("a fault in a write");
    }
}

/// The number of the server's process behind the writing connection.
struct Backend;

impl Write for Backend {
    type Output = i64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<i64, StoreError> {
        let rows = tx.select("select cast(pg_backend_pid() as bigint)", args![]).await?;
        Columns::of(&rows[0]).int()
    }
}

#[tokio::test]
async fn when_the_commit_fails_nobody_is_told_yes() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_sqlite(&directory.path().join("hub.db")).await.expect("a store");
    let before = epoch(&store).await.expect("epoch");
    let ((begun, has_begun), (go_on, release)) = (oneshot::channel(), mpsc::channel());
    let hold = Hold { begun: Mutex::new(Some(begun)), release: Mutex::new(release) };
    // They come while the writer is busy, so they share the next commit.
    let meanwhile = async {
        has_begun.await.expect("it is applied");
        let go_on = async { go_on.send(()).expect("it waits") };
        tokio::join!(store.write(Raise), store.write(BadAtCommit), store.write(Raise), go_on)
    };
    let (held, (good, bad, other, ())) = tokio::join!(store.write(hold), meanwhile);
    held.expect("held");
    for answer in [good, bad, other] {
        assert!(matches!(answer, Err(StoreError::Database(_))), "{answer:?}");
    }
    assert_eq!(epoch(&store).await.expect("epoch"), before, "nothing was kept");
    store.write(Raise).await.expect("the writer goes on");
    assert_eq!(epoch(&store).await.expect("epoch"), before + 1);
}

#[tokio::test]
async fn a_write_that_panics_keeps_no_other_from_the_store() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Store::open_sqlite(&directory.path().join("hub.db")).await.expect("a store");
    let before = epoch(&store).await.expect("epoch");
    assert!(store.write(Panics).await.is_err());
    store.write(Raise).await.expect("the writer goes on");
    assert_eq!(epoch(&store).await.expect("epoch"), before + 1, "what it did before it panicked is undone");
}

#[tokio::test]
async fn a_broken_connection_is_made_anew_without_losing_a_write() {
    let server = std::env::var("NEURALHUB_TEST_POSTGRES")
        .expect("NEURALHUB_TEST_POSTGRES is not set: run the tests through scripts/with-postgres");
    let server = SecretString::from(server);
    let schema = format!("test_writer_{}", std::process::id());
    schemas::create(&server, &schema).await.expect("a schema");
    let url = format!("{}?options=-csearch_path%3D{schema}", server.expose_secret());
    let store = Store::open_postgres(&url.into()).await.expect("a store");

    let backend = store.write(Backend).await.expect("a process");
    let before = epoch(&store).await.expect("epoch");
    store.fetch("select pg_terminate_backend(cast($1 as integer))", args![backend]).await.expect("ended");
    let (one, two) = tokio::join!(store.write(Raise), store.write(Raise));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert_eq!(epoch(&store).await.expect("epoch"), before + 2);
    assert_ne!(store.write(Backend).await.expect("a process"), backend);

    store.close().await;
    schemas::remove(&server, &schema).await.expect("removed");
}
