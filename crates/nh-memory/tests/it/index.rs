//! Searches hold what the store holds, whoever wrote it and when.

use std::collections::HashSet;

use nh_testkit::{TestStore, each_engine};
use nh_types::memory::{ChangeMemory, CreateMemory};

use crate::fixtures::Hub;

/// Words that say where a content is in a list of a thousand; no identifiers,
/// which would lift it.
fn numbered(number: usize) -> String {
    let digit = |of: usize| char::from(b'a' + (of % 10) as u8);
    format!("units{} tens{} hundreds{}", digit(number), digit(number / 10), digit(number / 100))
}

each_engine! {
    async fn another_process_sees_each_change_at_once(store: TestStore) {
        let (one, other) = (Hub::new(store.store(), 1), Hub::new(&store.open_again().await, 2));
        let ws = one.workspace("acme").await;
        assert_eq!(other.search(&ws, "anything", 5).await, []);
        let id = one.add(&ws, "the cat sleeps").await;
        assert_eq!(other.best(&ws, "cat").await, "the cat sleeps");
        let change = ChangeMemory { content: Some("the dog sleeps".to_owned()), ..ChangeMemory::default() };
        other.memories.change(other.author(&ws), &id, change).await.expect("changed").expect("there");
        assert_eq!(one.best(&ws, "dog").await, "the dog sleeps");
        assert_eq!(one.search(&ws, "cat", 5).await.len(), 1);
        assert!(one.memories.delete(&ws, &id).await.expect("deleted"));
        assert_eq!(other.search(&ws, "dog", 5).await, []);
        assert_eq!(one.search(&ws, "dog", 5).await, []);
        let again = other.add(&ws, "the dog sleeps").await;
        assert_ne!(again, id);
        assert_eq!(one.search(&ws, "dog", 5).await.len(), 1);
    }

    async fn many_writers_of_one_content_make_one_memory(store: TestStore) {
        let (one, other) = (Hub::new(store.store(), 1), Hub::new(&store.open_again().await, 2));
        let ws = one.workspace("acme").await;
        let adds = (0..40).map(|number| {
            let hub = if number % 2 == 0 { &one } else { &other };
            let ws = &ws;
            async move { hub.add(ws, &format!("content {}", number % 4)).await }
        });
        let ids: HashSet<_> = futures_util::future::join_all(adds).await.into_iter().collect();
        assert_eq!(ids.len(), 4);
        assert_eq!(one.search(&ws, "content", 100).await.len(), 4);
        assert_eq!(other.search(&ws, "content", 100).await.len(), 4);
    }

    async fn what_the_codes_find_is_what_an_exact_comparison_finds(store: TestStore) {
        let hub = Hub::new(store.store(), 1);
        let ws = hub.workspace("acme").await;
        let lines: Vec<String> = (0..1000).map(numbered).collect();
        let mut importing = hub.memories.import(hub.author(&ws));
        for line in &lines {
            let line = serde_json::json!({"content": line}).to_string();
            importing.line(line.as_bytes()).await.expect("stored");
        }
        assert_eq!(importing.finish().await.expect("stored").created, 1000);
        for number in [0, 7, 123, 555, 999] {
            let hits = hub.search(&ws, &numbered(number), 10).await;
            assert_eq!(hits[0].content, numbered(number));
            assert!((hits[0].similarity - 1.0).abs() < 1e-5, "{}", hits[0].similarity);
            assert!(hits.is_sorted_by(|one, next| one.similarity >= next.similarity));
            // 27 others have two of its three words.
            assert!(hits.iter().all(|hit| hit.similarity > 0.6), "{hits:?}");
        }
        let deleted = hub.memories.delete_which(&ws, &nh_memory::Which::default()).await.expect("deleted");
        assert_eq!(deleted, 1000);
        assert_eq!(hub.search(&ws, "alpha1", 10).await, []);
    }

    async fn an_index_without_room_still_finds_all(store: TestStore) {
        let settings = nh_memory::MemorySettings { max_index_mib: 0, ..Default::default() };
        let weights = nh_testkit::weights();
        let hub = Hub::with(store.store(), 1, weights, crate::fixtures::MODEL, &settings);
        let (acme, other) = (hub.workspace("acme").await, hub.workspace("other").await);
        hub.add(&acme, "red boats").await;
        hub.add(&other, "blue boats").await;
        for _ in 0..3 {
            assert_eq!(hub.best(&acme, "boats").await, "red boats");
            assert_eq!(hub.best(&other, "boats").await, "blue boats");
        }
    }

    async fn a_merge_lasts_as_long_as_the_longer(store: TestStore) {
        let hub = Hub::new(store.store(), 1);
        let ws = hub.workspace("acme").await;
        let add = |expires_at: Option<i64>| {
            let new = CreateMemory {
                content: "lasting".to_owned(),
                metadata: None,
                namespace: None,
                expires_at: expires_at.map(|ms| nh_types::Clock::now(&hub.clock).plus_millis(ms)),
            };
            hub.memories.add(hub.author(&ws), new, None)
        };
        add(Some(1000)).await.expect("stored");
        add(Some(5000)).await.expect("stored");
        hub.clock.advance_ms(2000);
        assert_eq!(hub.search(&ws, "lasting", 1).await.len(), 1);
        hub.clock.advance_ms(4000);
        assert_eq!(hub.search(&ws, "lasting", 1).await.len(), 0);
        add(Some(1000)).await.expect("stored");
        add(None).await.expect("stored");
        hub.clock.advance_ms(1_000_000);
        assert_eq!(hub.search(&ws, "lasting", 1).await.len(), 1);
    }
}
