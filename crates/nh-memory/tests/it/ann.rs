//! Large workspaces, searched by pgvector: what is found there is what a search in
//! memory finds. These need a PostgreSQL with pgvector.

use std::collections::HashSet;

use nh_memory::filter::Filter;
use nh_memory::{MemorySettings, Query};
use nh_store::Store;
use nh_testkit::TestStore;
use nh_types::memory::{ChangeMemory, CreateMemory, MemoryHit};
use nh_types::{Clock, WorkspaceId};
use serde_json::{Value, json};

use crate::fixtures::Hub;
use crate::models::{until_model_is, while_kept};

const NOISE: &str = "fake/noise-64";
const WORDS: &str = "fake/words-256";
const MISSING: &str = "large workspaces are searched in memory here: this PostgreSQL has no pgvector (0.8 or newer). \
    `scripts/setup test` installs one that has it, and scripts/with-postgres runs that; or install Debian's \
    postgresql-NN-pgvector beside yours";

/// A process for which workspaces with more than 50 memories are large.
fn hub(store: &Store, seed: u64, model: &str) -> Hub {
    let settings = MemorySettings { pgvector_above: 50, ..MemorySettings::default() };
    Hub::with(store, seed, nh_testkit::weights(), model, &settings)
}

/// One that searches everything in memory.
fn in_memory(store: &Store, seed: u64, model: &str) -> Hub {
    Hub::with(store, seed, nh_testkit::weights(), model, &MemorySettings::default())
}

async fn prepare(hub: &Hub, expected: usize) {
    assert_eq!(hub.memories.prepare_large().await.expect("prepared"), expected, "{MISSING}");
}

/// In words alone: identifiers and names would be found by what they are.
fn words(number: usize) -> String {
    let digit = |of: usize| char::from(b'a' + (of % 10) as u8);
    format!(
        "group{} units{} tens{} hundreds{}",
        digit(number / 7),
        digit(number),
        digit(number / 10),
        digit(number / 100)
    )
}

async fn import(hub: &Hub, ws: &WorkspaceId, lines: impl IntoIterator<Item = Value>) {
    let mut importing = hub.memories.import(hub.author(ws));
    for line in lines {
        importing.line(line.to_string().as_bytes()).await.expect("stored");
    }
    importing.finish().await.expect("stored");
}

fn contents(hits: &[MemoryHit]) -> Vec<&str> {
    hits.iter().map(|hit| hit.content.as_str()).collect()
}

fn query(text: &str, limit: usize) -> Query {
    Query { text: text.to_owned(), limit, min_similarity: None, namespace: None, filter: None }
}

async fn find(hub: &Hub, ws: &WorkspaceId, query: Query) -> Vec<MemoryHit> {
    hub.memories.search(hub.author(ws), query).await.expect("hits")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_finds_what_an_exact_search_finds() {
    let store = TestStore::postgres().await;
    let (hub, exact) = (hub(store.store(), 1, NOISE), in_memory(&store.open_again().await, 2, NOISE));
    let ws = hub.workspace("acme").await;
    let line = |number: usize| json!({"content": format!("{} in {}", words(number), words(number / 50))});
    import(&hub, &ws, (0..2000).map(line)).await;
    prepare(&hub, 1).await;
    let (mut same, mut least) = (0, HashSet::new());
    for number in 0..50 {
        let question = format!("group{} asked {}", char::from(b'a' + number % 10), words(number.into()));
        let (found, expected) =
            (hub.search(&ws, &question, 10).await, exact.search(&ws, &question, 10).await);
        assert_eq!(found.len(), 10);
        assert!(found.is_sorted_by(|one, other| one.similarity >= other.similarity));
        let expected: HashSet<&str> = contents(&expected).into_iter().collect();
        same += contents(&found).into_iter().filter(|content| expected.contains(content)).count();
        least.insert(found[9].id.clone());
    }
    assert!(same >= 475, "recall@10 is {}", same as f64 / 500.0);
    println!("recall@10 is {}", same as f64 / 500.0);
    assert!(least.len() > 10, "the questions are too much alike");
    // All that are similar enough, and no more.
    let wanted = |least| Query { min_similarity: Some(least), ..query("groupa asked", 100) };
    let similar = find(&exact, &ws, wanted(-1.0)).await;
    assert_eq!(find(&hub, &ws, wanted(similar[29].similarity)).await, similar[..30]);
    assert_eq!(find(&hub, &ws, wanted(0.99)).await, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_is_seen_at_once_by_every_process() {
    let store = TestStore::postgres().await;
    let (one, other) = (hub(store.store(), 1, WORDS), hub(&store.open_again().await, 2, WORDS));
    let ws = one.workspace("acme").await;
    import(&one, &ws, (0..100).map(|number| json!({"content": words(number)}))).await;
    prepare(&one, 1).await;
    // Another, or the same after a restart, goes on with what is there.
    assert_eq!(other.search(&ws, "unitsa", 100).await.len(), 100);
    prepare(&other, 1).await;
    let id = one.add(&ws, "the cat sleeps").await;
    assert_eq!(other.best(&ws, "cat").await, "the cat sleeps");
    let change = ChangeMemory { content: Some("the dog sleeps".to_owned()), ..ChangeMemory::default() };
    other.memories.change(other.author(&ws), &id, change).await.expect("changed").expect("there");
    assert_eq!(one.best(&ws, "dog").await, "the dog sleeps");
    let found = one.search(&ws, "the cat sleeps", 100).await;
    assert_eq!(found.iter().filter(|hit| hit.id == id).count(), 1);
    assert!(one.memories.delete(&ws, &id).await.expect("deleted"));
    for hub in [&one, &other] {
        assert!(hub.search(&ws, "dog sleeps", 100).await.iter().all(|hit| hit.id != id));
    }
    let again = other.add(&ws, "the dog sleeps").await;
    assert_ne!(again, id);
    assert_eq!(one.best(&ws, "dog").await, "the dog sleeps");
    // What is named is found by its name, wherever it is.
    other.add(&ws, "units and tens of order NH-4711").await;
    assert_eq!(one.best(&ws, "unitsb NH-4711").await, "units and tens of order NH-4711");
    // Many write and search at the same time.
    let busy = (0..26).map(|number| {
        let (hub, ws) = (if number % 2 == 0 { &one } else { &other }, &ws);
        async move {
            let word = format!("busy{}", char::from(b'a' + number));
            hub.add(ws, &format!("{word} writer")).await;
            assert!(hub.search(ws, &word, 30).await.iter().any(|hit| hit.content.starts_with(&word)));
        }
    });
    futures_util::future::join_all(busy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn namespaces_filters_and_expiry_are_exact() {
    let store = TestStore::postgres().await;
    let hub = hub(store.store(), 1, WORDS);
    let ws = hub.workspace("acme").await;
    let line = |number: usize| {
        json!({
            "content": words(number),
            "metadata": {"number": number},
            "namespace": if number.is_multiple_of(500) { "rare" } else { "default" },
        })
    };
    import(&hub, &ws, (0..2000).map(line)).await;
    let expires_at = hub.clock.now().plus_millis(60_000);
    let new = CreateMemory {
        content: "soon over".to_owned(),
        metadata: None,
        namespace: None,
        expires_at: Some(expires_at),
    };
    hub.memories.add(hub.author(&ws), new, None).await.expect("stored");
    prepare(&hub, 1).await;
    let rare = find(&hub, &ws, Query { namespace: Some("rare".to_owned()), ..query(&words(123), 10) }).await;
    assert_eq!(rare.len(), 4);
    assert!(rare.iter().all(|hit| hit.namespace == "rare"));
    assert_eq!(
        find(&hub, &ws, Query { namespace: Some("none".to_owned()), ..query("unitsa", 10) }).await,
        []
    );
    let filtered = |filter: Value| {
        let filter = Filter::read("filter", &filter).expect("a filter");
        Query { filter: Some(filter), ..query(&words(123), 10) }
    };
    let one = find(&hub, &ws, filtered(json!({"number": 1877}))).await;
    assert_eq!(contents(&one), [words(1877)]);
    assert_eq!(find(&hub, &ws, filtered(json!({"number": 4000}))).await, []);
    let most = find(&hub, &ws, filtered(json!({"number": {"$gte": 10}}))).await;
    assert_eq!((most.len(), most[0].content.clone()), (10, words(123)));
    assert_eq!(hub.best(&ws, "soon over").await, "soon over");
    hub.clock.set(expires_at);
    assert!(hub.search(&ws, "soon over", 100).await.iter().all(|hit| hit.content != "soon over"));
    prepare(&hub, 1).await;
    assert_eq!(hub.search(&ws, "soon over", 100).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_workspaces_never_see_each_others_memories() {
    let store = TestStore::postgres().await;
    let hub = hub(store.store(), 1, WORDS);
    let (one, other) = (hub.workspace("one").await, hub.workspace("other").await);
    import(&hub, &one, (0..60).map(|number| json!({"content": format!("{} one", words(number))}))).await;
    prepare(&hub, 1).await;
    // This one grows while the first is searched by pgvector already.
    import(&hub, &other, (0..40).map(|number| json!({"content": format!("{} other", words(number))}))).await;
    prepare(&hub, 1).await;
    assert_eq!(hub.search(&other, "unitsa", 100).await.len(), 40);
    import(&hub, &other, (40..80).map(|number| json!({"content": format!("{} other", words(number))}))).await;
    prepare(&hub, 2).await;
    for (ws, name, count) in [(&one, "one", 60), (&other, "other", 80)] {
        let found = hub.search(ws, "unitsa tensa one other", 100).await;
        assert_eq!(found.len(), count);
        assert!(found.iter().all(|hit| hit.content.ends_with(name)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_model_has_an_index_of_its_own() {
    let store = TestStore::postgres().await;
    let hub = hub(store.store(), 1, WORDS);
    let ws = hub.workspace("acme").await;
    import(&hub, &ws, (0..100).map(|number| json!({"content": words(number)}))).await;
    prepare(&hub, 1).await;
    let (long, longer) = ("fake/words-3000", "fake/words-4096");
    // There and back, by half precision and in memory, where pgvector takes no more.
    for (model, large) in [(long, 1), (longer, 0), (WORDS, 1)] {
        hub.memories.change_model(hub.author(&ws), model).await.expect("changed");
        while_kept(&hub, async || until_model_is(&hub, &ws, model).await).await;
        let content = format!("written by {}", model.replace(|letter: char| !letter.is_alphabetic(), " "));
        hub.add(&ws, &content).await;
        assert_eq!(hub.best(&ws, &content).await, content);
        prepare(&hub, large).await;
        assert_eq!(hub.best(&ws, &content).await, content);
        assert_eq!(hub.best(&ws, &words(42)).await, words(42));
    }
    assert_eq!(hub.search(&ws, "unitsa", 100).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_pgvector_all_is_searched_in_memory() {
    let store = TestStore::sqlite().await;
    let hub = hub(store.store(), 1, WORDS);
    let ws = hub.workspace("acme").await;
    import(&hub, &ws, (0..100).map(|number| json!({"content": words(number)}))).await;
    for _ in 0..2 {
        assert_eq!(hub.memories.prepare_large().await.expect("an answer"), 0);
        assert_eq!(hub.search(&ws, &words(42), 100).await.len(), 100);
    }
    assert_eq!(hub.best(&ws, &words(42)).await, words(42));
}
