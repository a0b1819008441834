//! Text that users choose comes back as it was, or is refused; it never breaks
//! a statement or another's write.

use nh_store::runs::{self, EventRow, Insert, RunFilter};
use nh_store::{StoreError, workspaces};
use nh_testkit::{TestStore, each_engine};
use nh_types::PageRequest;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::fixtures::{event, insert, run, run_id, workspace};

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("JSON has no such number", |number| number.is_finite())
            .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

each_engine! {
    async fn any_json_and_text_comes_back_as_it_was(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let mut runner = TestRunner::deterministic();
        for number in 0..60 {
            let mut draw = || any_json().new_tree(&mut runner).expect("a value").current();
            let mut new = run(&ws, number);
            (new.input, new.definition, new.result) = (draw(), draw(), Some(draw()));
            new.metadata = [("any".to_owned(), draw())].into_iter().collect();
            let events = vec![EventRow { data: draw().into(), ..event(1) }];
            let text = any::<String>().new_tree(&mut runner).expect("a text").current();
            new.target = text.replace('\0', "");
            store.store().write(Insert::new(new.clone(), events.clone())).await.expect("insert");
            new.last_seq = 1;
            assert_eq!(runs::events(store.store(), &ws, new.id, 0, 9).await.expect("events"), events);
            let filter = RunFilter { target: Some(new.target.clone()), ..RunFilter::default() };
            let page = runs::list(store.store(), &ws, &filter, &PageRequest::default()).await.expect("list");
            assert!(page.items.iter().any(|run| run.id == new.id));
            // A result of null is kept as one.
            assert_eq!(runs::find(store.store(), &ws, new.id).await.expect("read"), Some(new));
        }
    }

    async fn a_nul_character_is_refused_and_spoils_nothing(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let mut bad = run(&ws, 1);
        bad.target = "a\0b".to_owned();
        let (refused, kept) =
            tokio::join!(store.store().write(insert(bad)), store.store().write(insert(run(&ws, 2))));
        let error = refused.expect_err("it cannot be stored");
        assert!(matches!(&error, StoreError::Unstorable(text) if text.contains("U+0000")), "{error}");
        assert_eq!(kept.expect("kept"), run_id(2));
        let error = workspaces::find_by_name(store.store(), "\0").await.expect_err("it cannot be looked up");
        assert!(matches!(error, StoreError::Unstorable(_)));
        // Inside JSON it is escaped, and so is fine.
        let fine = Insert::new(run(&ws, 3), vec![EventRow { data: json!("\0").into(), ..event(1) }]);
        store.store().write(fine).await.expect("kept");
    }

    async fn quotes_and_wildcards_are_only_text(store: TestStore) {
        workspace(store.store(), "acme").await;
        for name in ["' or '1'='1", "acme'; drop table runs; --", "%", "_", "$1", "\\"] {
            assert_eq!(workspaces::find_by_name(store.store(), name).await.expect("read"), None);
            workspace(store.store(), name).await;
            let found = workspaces::find_by_name(store.store(), name).await.expect("read").expect("there");
            assert_eq!(found.name, name);
        }
    }
}
