//! What a new store needs before its first request.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nh_server::auth::api_key::ApiKey;
use nh_server::{FirstKey, FirstStart, first_start};
use nh_store::keys;
use nh_testkit::{FixedClock, SeededIds, TestStore};
use nh_types::{Clock, PageRequest, ScopeSet, SystemIds};
use secrecy::{ExposeSecret, SecretString};

async fn start(store: &TestStore, bootstrap: Option<&str>, file: &Path) -> FirstStart {
    let bootstrap = bootstrap.map(SecretString::from);
    let (clock, ids) = (FixedClock::default(), SeededIds::new(1));
    let started = first_start(store.store(), &clock, &ids, bootstrap.as_ref(), file);
    started.await.expect("started")
}

async fn works(store: &TestStore, key: &str) -> bool {
    let hash = ApiKey::parse(key).expect("key").hash();
    let found = keys::find_by_hash(store.store(), &hash).await.expect("read");
    found.is_some_and(|key| key.revoked_at.is_none() && key.scopes == ScopeSet::all())
}

#[tokio::test]
async fn the_first_start_writes_a_key_that_works_and_the_second_leaves_it() {
    let store = TestStore::sqlite().await;
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("first-key");
    let first = start(&store, None, &file).await;
    let FirstKey::Created { key, path } = first.first_key else { panic!("{first:?}") };
    assert_eq!(path, file);
    assert_eq!(std::fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o600);
    let written = std::fs::read_to_string(&file).expect("file");
    assert_eq!(written.trim(), key.expose_secret());
    assert!(works(&store, written.trim()).await);

    let second = start(&store, None, &file).await;
    assert!(matches!(second.first_key, FirstKey::Present));
    assert_eq!(second.workspace_id, first.workspace_id);
    std::fs::remove_file(&file).expect("removed");
    assert!(matches!(start(&store, None, &file).await.first_key, FirstKey::Present));
    assert!(!file.exists());
}

#[tokio::test]
async fn a_start_that_was_cut_short_is_finished_by_the_next() {
    let store = TestStore::sqlite().await;
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("first-key");
    // The file was written, the store was not.
    let key = ApiKey::generate(&SystemIds);
    std::fs::write(&file, key.expose()).expect("written");
    assert!(matches!(start(&store, None, &file).await.first_key, FirstKey::Installed));
    assert!(works(&store, key.expose()).await);
    std::fs::write(&file, "nonsense").expect("written");
    let clock = FixedClock::default();
    assert!(first_start(store.store(), &clock, &SeededIds::new(1), None, &file).await.is_err());
}

#[tokio::test]
async fn a_bootstrap_key_is_installed_once_and_stays_revoked() {
    let store = TestStore::sqlite().await;
    let directory = tempfile::tempdir().expect("directory");
    let file = directory.path().join("first-key");
    let key = ApiKey::generate(&SystemIds);
    let first = start(&store, Some(key.expose()), &file).await;
    assert!(matches!(first.first_key, FirstKey::Installed));
    assert!(!file.exists());
    assert!(works(&store, key.expose()).await);
    assert!(matches!(start(&store, Some(key.expose()), &file).await.first_key, FirstKey::Present));

    let listed =
        keys::list(store.store(), &first.workspace_id, FixedClock::default().now(), &PageRequest::default())
            .await
            .expect("keys");
    let at = FixedClock::default().now();
    let revoke = keys::Revoke { workspace_id: first.workspace_id, id: listed.items[0].id, at };
    assert!(store.store().write(revoke).await.expect("revoked"));
    assert!(matches!(start(&store, Some(key.expose()), &file).await.first_key, FirstKey::BootstrapRevoked));
    assert!(!works(&store, key.expose()).await);
    let wrong = SecretString::from("nh_wrong");
    let clock = FixedClock::default();
    let refused = first_start(store.store(), &clock, &SeededIds::new(1), Some(&wrong), &file).await;
    let text = refused.expect_err("refused").to_string();
    assert!(text.contains("NEURALHUB_BOOTSTRAP_KEY") && !text.contains("nh_wrong"), "{text}");
}
