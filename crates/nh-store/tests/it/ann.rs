//! How PostgreSQL searches a large workspace: by pgvector's index, and where that
//! finds too few, exactly.

use nh_store::Store;
use nh_store::memories::{self, Add, Ann, CaughtUp, Delete, Near, NewMemory, Space, Vectors};
use nh_testkit::{SeededIds, TestStore};
use nh_types::{MemoryId, Timestamp, WorkspaceId};
use sqlx::{Connection as _, PgConnection};

use crate::fixtures::{NOW, workspace};

const COUNT: usize = 3000;
const MISSING: &str =
    "this PostgreSQL has no pgvector 0.8 or newer: `scripts/setup test` installs one that has it";

fn vector(number: usize) -> Vec<f32> {
    let angle = number as f32 * 0.37;
    let mut values = vec![angle.cos(), angle.sin(), (angle * 1.7).cos(), (angle * 2.3).sin()];
    let length = values.iter().map(|value| value * value).sum::<f32>().sqrt();
    values.iter_mut().for_each(|value| *value /= length);
    values
}

async fn add(store: &Store, ws: &WorkspaceId, numbers: std::ops::Range<usize>) -> Vec<MemoryId> {
    add_as(store, ws, numbers, vector).await
}

async fn add_as(
    store: &Store,
    ws: &WorkspaceId,
    numbers: std::ops::Range<usize>,
    vector: fn(usize) -> Vec<f32>,
) -> Vec<MemoryId> {
    let ids = SeededIds::new(numbers.start as u64 + 7);
    let adds = numbers.map(|number| {
        let id = MemoryId::generate(&ids);
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        let memory = NewMemory {
            workspace_id: ws.clone(),
            id: id.clone(),
            namespace: if number % 1000 == 0 { "rare" } else { "default" }.to_owned(),
            content: number.to_string(),
            hash,
            metadata: serde_json::Map::new(),
            expires_at: (number % 10 == 9).then_some(NOW),
            created_by: "key:1".to_owned(),
            run_id: None,
            step: None,
            at: NOW,
        };
        let values = vector(number);
        let dimensions = values.len() as u32;
        let vectors = Some(Vectors { model: "it's:a \\model".to_owned(), dimensions, values });
        async move {
            store.write(Add { memory, vectors }).await.expect("stored");
            id
        }
    });
    futures_util::future::join_all(adds).await
}

fn written(content: &str) -> Vec<i32> {
    content.parse::<i32>().map_or(Vec::new(), |number| vec![-number % 500, number % 2])
}

async fn ann(store: &Store, ws: &WorkspaceId) -> (Space, Ann) {
    let space = memories::space(store, ws).await.expect("a read").expect("a space");
    let pgvector =
        memories::pgvector(store).await.expect("an answer").unwrap_or_else(|why| panic!("{why}: {MISSING}"));
    let ann = pgvector.of(&space).expect("few dimensions");
    (space, ann)
}

fn near(vector: &[f32], count: usize) -> Near<'_> {
    Near { vector, namespace: None, at: NOW, among: None, count }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_workspace_is_searched_by_its_index() {
    let test_store = TestStore::postgres().await;
    let store = test_store.store();
    let ws = workspace(store, "acme").await;
    let ids = add(store, &ws, 0..COUNT).await;
    let (_, large) = ann(store, &ws).await;
    assert_eq!(large.catch_up(store, false, written).await.expect("an answer"), CaughtUp::Gone);
    assert!(large.build(store, written).await.expect("built"));
    assert!(large.build(store, written).await.expect("built already"));
    assert!(large.is_ready(store).await.expect("an answer"));

    let question = vector(1234);
    let (found, is_all) = large.nearest(store, &near(&question, 20)).await.expect("found");
    assert_eq!((found.len(), is_all), (20, false));
    assert!(found.iter().any(|(id, similarity)| *id == ids[1234] && *similarity > 0.999));
    assert!(found.iter().all(|(id, _)| ids.iter().position(|one| one == id).is_some_and(|at| at % 10 != 9)));
    // Few in a namespace, or among given ones: all of them.
    let rare = Near { namespace: Some("rare"), ..near(&question, 20) };
    let (found, is_all) = large.nearest(store, &rare).await.expect("found");
    assert_eq!((found.len(), is_all), (3, true));
    let among = Near { among: Some(&ids[100..110]), ..near(&question, 5) };
    let (found, is_all) = large.nearest(store, &among).await.expect("found");
    assert_eq!((found.len(), is_all), (5, false));
    assert!(found.iter().all(|(id, _)| ids[100..110].contains(id)));

    // Of the common one no more than what tells that it is common.
    let with = large.with(store, &[-77, 1, 9999], 65).await.expect("found");
    let mut rare: Vec<_> = with.iter().filter(|(print, _)| *print == -77).map(|(_, id)| id).collect();
    rare.sort();
    let mut expected: Vec<_> = ids.iter().skip(77).step_by(500).collect();
    expected.sort();
    assert_eq!(rare, expected);
    assert_eq!(with.len(), expected.len() + 65);
    store.close().await;

    let mut connection =
        PgConnection::connect(&test_store.url().expect("PostgreSQL")).await.expect("a connection");
    let sql = "select coalesce(sum(idx_scan) filter (where indexrelname like 'memory_ann________%' \
               and indexrelname not in ('memory_ann_written', 'memory_ann_namespace', 'memory_ann_expiring')), 0)::bigint, \
               coalesce(sum(idx_scan) filter (where indexrelname = 'memory_ann_written'), 0)::bigint \
               from pg_stat_user_indexes where schemaname = current_schema()";
    let (nearest, fingerprints) = loop {
        let counts: (i64, i64) = sqlx::query_as(sql).fetch_one(&mut connection).await.expect("counts");
        if counts.0 > 0 && counts.1 > 0 {
            break counts;
        }
        tokio::task::yield_now().await;
    };
    assert!(nearest >= 2 && fingerprints >= 3, "{nearest}, {fingerprints}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_follows_the_rows() {
    let test_store = TestStore::postgres().await;
    let store = test_store.store();
    let ws = workspace(store, "acme").await;
    let ids = add(store, &ws, 0..100).await;
    assert!(ann(store, &ws).await.1.build(store, written).await.expect("built"));
    let more = add(store, &ws, 100..1300).await;
    let (_, large) = ann(store, &ws).await;
    for expected in [CaughtUp::More, CaughtUp::More, CaughtUp::Done, CaughtUp::Done] {
        assert_eq!(large.catch_up(store, true, written).await.expect("an answer"), expected);
    }
    let all = |at| Near { at, ..near(&[1.0, 0.0, 0.0, 0.0], 2000) };
    let before = Timestamp::from_millis(NOW.as_millis() - 1);
    let (found, is_all) = large.nearest(store, &all(before)).await.expect("found");
    assert_eq!((found.len(), is_all), (1300, true));
    // What is there is not forgotten, whoever says so.
    store.write(Delete { workspace_id: ws.clone(), ids: more[..50].to_vec() }).await.expect("deleted");
    large.forget(store, &[&ids[..], &more[..]].concat()).await.expect("forgotten");
    assert_eq!(large.nearest(store, &all(before)).await.expect("found").0.len(), 1250);
    large.forget_expired(store, NOW).await.expect("forgotten");
    assert_eq!(large.nearest(store, &all(before)).await.expect("found").0.len(), 1125);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_that_was_broken_off_goes_on() {
    let test_store = TestStore::postgres().await;
    let store = test_store.store();
    let ws = workspace(store, "acme").await;
    add(store, &ws, 0..COUNT).await;
    let (_, large) = ann(store, &ws).await;
    for ms in [1, 30, 300] {
        // Ended wherever it is by then.
        let limit = std::time::Duration::from_millis(ms);
        drop(tokio::time::timeout(limit, large.build(store, written)).await);
    }
    // The server may still be at it.
    while !large.build(store, written).await.expect("an answer") {
        tokio::task::yield_now().await;
    }
    let (found, is_all) = large.nearest(store, &near(&vector(1234), 20)).await.expect("found");
    assert_eq!((found.len(), is_all), (20, false));
    let before = Near { at: Timestamp::from_millis(0), ..near(&[1.0, 0.0, 0.0, 0.0], 2 * COUNT) };
    assert_eq!(large.nearest(store, &before).await.expect("found").0.len(), COUNT);
}

/// At right angles to one another and to the common ones, but for the last.
fn apart(number: usize) -> Vec<f32> {
    let mut values = vec![0.0; 128];
    if number < 100 {
        values[..4].copy_from_slice(&vector(number));
    } else {
        values[number - 100 + 4] = 1.0;
    }
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_unlike_all_others_is_found() {
    let test_store = TestStore::postgres().await;
    let store = test_store.store();
    let ws = workspace(store, "acme").await;
    // Ten are there when the index is made, ten come later.
    let mut ids = add_as(store, &ws, 0..110, apart).await;
    assert!(ann(store, &ws).await.1.build(store, written).await.expect("built"));
    ids.extend(add_as(store, &ws, 110..120, apart).await);
    let (_, large) = ann(store, &ws).await;
    assert_eq!(large.catch_up(store, true, written).await.expect("an answer"), CaughtUp::Done);
    let before = Timestamp::from_millis(NOW.as_millis() - 1);
    for (number, id) in ids.iter().enumerate().skip(100) {
        let wanted = apart(number);
        let near = Near { at: before, ..near(&wanted, 40) };
        let (found, is_all) = large.nearest(store, &near).await.expect("found");
        assert!(!is_all);
        assert!(found.iter().any(|(one, similarity)| one == id && *similarity > 0.999), "{number}");
    }
    // What is gone is listed no longer.
    store.write(Delete { workspace_id: ws.clone(), ids: ids.clone() }).await.expect("deleted");
    large.forget(store, &ids).await.expect("forgotten");
    let (found, is_all) = large.nearest(store, &near(&apart(110), 40)).await.expect("found");
    assert_eq!((found.len(), is_all), (0, true));
}
