//! The local model, and what is told when it is not there.

use std::fs;

use nh_memory::{LOCAL_MODEL, MemoryError, MemorySettings};
use nh_testkit::TestStore;
use nh_types::memory::CreateMemory;
use nh_types::{ApiError, ErrorCode};

use crate::fixtures::Hub;

async fn refused(hub: &Hub) -> ApiError {
    let ws = hub.workspace("acme").await;
    let new = CreateMemory { content: "one".to_owned(), metadata: None, namespace: None, expires_at: None };
    match hub.memories.add(hub.author(&ws), new, None).await {
        Err(MemoryError::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn hub(store: &TestStore, weights: &std::path::Path) -> Hub {
    Hub::with(store.store(), 1, weights.to_owned(), LOCAL_MODEL, &MemorySettings::default())
}

#[tokio::test]
async fn a_missing_or_damaged_file_is_told_with_its_remedy() {
    let store = TestStore::memory().await;
    let empty = tempfile::tempdir().expect("a directory");
    let error = refused(&hub(&store, empty.path())).await;
    assert_eq!(error.code, ErrorCode::EmbedderUnavailable);
    assert!(error.message.contains("model.safetensors is missing"), "{error}");
    assert!(error.message.contains("neuralhub setup"), "{error}");

    let store = TestStore::memory().await;
    for name in ["model.safetensors", "tokenizer.json"] {
        fs::write(empty.path().join(name), "not it").expect("a file");
    }
    let error = refused(&hub(&store, empty.path())).await;
    assert_eq!(error.code, ErrorCode::EmbedderUnavailable);
    assert!(error.message.contains("is damaged") && error.message.contains("neuralhub setup"), "{error}");
}

#[tokio::test]
async fn more_than_may_wait_is_refused_and_questions_are_answered() {
    let store = TestStore::memory().await;
    let settings = MemorySettings { max_waiting_texts: 4, ..MemorySettings::default() };
    let hub = Hub::with(store.store(), 1, nh_testkit::weights(), LOCAL_MODEL, &settings);
    hub.memories.embed_locally(vec!["load it".to_owned()]).await.expect("loaded");
    let many = (0..60).map(|number| hub.memories.embed_locally(vec![format!("text {number}"); 2]));
    let answers = futures_util::future::join_all(many).await;
    let refused = answers.iter().filter_map(|answer| answer.as_ref().err()).collect::<Vec<_>>();
    assert!(!refused.is_empty() && refused.len() < 60, "{} were refused", refused.len());
    assert!(
        refused.iter().all(|error| error.code == ErrorCode::QueueFull && error.retry_after_seconds.is_some())
    );
}
