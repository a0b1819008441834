use std::os::unix::fs::PermissionsExt as _;

use nh_store::{EngineKind, Store, StoreError, StoreSettings, runs, workspaces};
use nh_testkit::{TestStore, each_engine};
use nh_types::PageRequest;
use secrecy::SecretString;

use crate::fixtures::{insert, run, run_id, workspace};

each_engine! {
    async fn what_was_written_is_there_when_the_store_is_opened_again(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        store.store().write(insert(run(&ws, 1))).await.expect("insert");
        store.store().ping().await.expect("answers");
        store.store().close().await;
        let again = store.open_again().await;
        assert!(runs::find(&again, &ws, run_id(1)).await.expect("read").is_some());
    }

    async fn stores_opened_at_the_same_time_share_one_schema(store: TestStore) {
        let opened = tokio::join!(store.open_again(), store.open_again(), store.open_again());
        workspace(&opened.0, "acme").await;
        for other in [&opened.1, &opened.2, store.store()] {
            let page = workspaces::list(other, &PageRequest::default()).await.expect("list");
            assert_eq!(page.items.len(), 1);
        }
    }
}

#[tokio::test]
async fn the_file_is_for_its_owner_alone() {
    let store = TestStore::sqlite().await;
    workspace(store.store(), "acme").await;
    assert_eq!(store.store().engine(), EngineKind::Sqlite);
    let file = store.path().expect("a file");
    let directory = std::fs::read_dir(file.parent().expect("a directory")).expect("listed");
    let mut files = 0;
    for entry in directory {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        files += 1;
    }
    assert_eq!(files, 3, "the file, its log and the log's index");
    store.store().close().await;
    assert!(file.exists() && !file.with_extension("db-wal").exists(), "the log was written back");
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_may_make_the_same_file_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("hub.db");
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..12 {
        let path = path.clone();
        opening.spawn(async move { Store::open_sqlite(&path).await.expect("opens") });
    }
    let stores = opening.join_all().await;
    workspace(&stores[0], "acme").await;
    for store in &stores {
        assert!(workspaces::find_by_name(store, "acme").await.expect("read").is_some());
    }
}

#[tokio::test]
async fn what_is_no_store_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("notes.txt");
    std::fs::write(&text, "these are notes, and more than a hundred bytes of them. ".repeat(40))
        .expect("written");
    let error = Store::open_sqlite(&text).await.expect_err("not a database");
    assert!(matches!(error, StoreError::Settings(_)) && error.to_string().contains("notes.txt"), "{error}");
    let error = Store::open_sqlite(&directory.path().join("no/such/hub.db")).await.expect_err("no directory");
    assert!(error.to_string().contains("cannot be made"), "{error}");
}

#[tokio::test]
async fn a_bad_url_is_refused_without_repeating_it() {
    for url in ["mysql://u:hunter2@h/d", "postgres://u:hunter2@h:port/d", "hunter2", ""] {
        let error = Store::open_postgres(&SecretString::from(url)).await.expect_err("refused");
        assert!(matches!(error, StoreError::Settings(_)), "{error:?}");
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    }
    let nobody = SecretString::from("postgres://u:hunter2@%2Fnowhere/d");
    let error = Store::open_postgres(&nobody).await.expect_err("nobody there");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
}

#[test]
fn settings_never_print_the_url() {
    let settings: StoreSettings =
        serde_json::from_str(r#"{"url": "postgres://u:hunter2@h/d"}"#).expect("read");
    let printed = format!("{settings:?} {}", serde_json::to_string(&settings).expect("printed"));
    assert!(!printed.contains("hunter2") && printed.contains("[redacted]"), "{printed}");
    let empty: StoreSettings = serde_json::from_str("{}").expect("read");
    assert!(empty.url.is_none());
    assert!(serde_json::from_str::<StoreSettings>(r#"{"uri": "x"}"#).is_err());
}
