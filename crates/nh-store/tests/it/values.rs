//! Values that are kept apart from the rows that refer to them.

use nh_store::StoreError;
use nh_store::runs::{
    self, Apart, Append, Appended, EventReference, EventRow, Insert, Kept, LargeValue, RemoveFinished,
    RemoveOrphans, Repair, RunFault, RunRecord, Send, Sent, Then,
};
use nh_testkit::{TestStore, each_engine};
use nh_types::run::RunState;
use nh_types::{JsonText, RunId, WorkspaceId};
use serde_json::json;

use crate::fixtures::{append, ending, event, insert, later, run, run_id, workspace};
use crate::signals::signal;

/// Longer than one statement writes, with letters of two to four bytes on
/// every border of its parts.
fn long_text(letter: char) -> String {
    let text: String = std::iter::repeat_n(letter, 5_000_000 / letter.len_utf8()).collect();
    json!(format!("a{text}\u{0}")).to_string()
}

async fn whole(store: &TestStore, ws: &WorkspaceId, id: RunId, name: &str) -> String {
    let mut bytes = Vec::new();
    loop {
        let more = runs::value_from(store.store(), ws, id, name, bytes.len() as u64).await.expect("a read");
        if more.is_empty() {
            return String::from_utf8(bytes).expect("text");
        }
        bytes.extend(more);
    }
}

/// A run whose input is kept apart, with an event whose output is.
fn large(ws: &WorkspaceId, number: u64, text: &str) -> Insert {
    let reference = EventReference { field: "output", bytes: text.len() as u64, rest: r#","step":"a"}"# };
    let data = JsonText::new(reference.write()).expect("json");
    let mut insert = Insert::new(run(ws, number), vec![event(1), EventRow { data, ..event(2) }]);
    insert.input = Kept::Apart(text.len() as u64);
    insert.large = vec![LargeValue::new("input", text), LargeValue::new("2.output", text)];
    insert
}

async fn faults_of(store: &TestStore) -> Vec<(RunId, RunFault)> {
    runs::check(store.store(), None).await.expect("a check").faults
}

async fn remove(store: &TestStore, limit: u32) -> u64 {
    store.store().write(RemoveOrphans { before: later(900_000_000), limit }).await.expect("a removal")
}

async fn end(store: &TestStore, run: &RunRecord, from: i64) -> Append {
    let mut last = append(run, 0, from, from);
    last.change.state = RunState::Success;
    last.change.then = Then::End(Box::new(ending()));
    assert_eq!(store.store().write(last.clone()).await.expect("append"), Appended::Done);
    last
}

each_engine! {
    async fn they_come_back_as_they_were(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for (number, letter) in [(1, 'é'), (2, '語'), (3, '🧮')] {
            let text = long_text(letter);
            store.store().write(large(&ws, number, &text)).await.expect("insert");
            let found = runs::find(store.store(), &ws, run_id(number)).await.expect("read").expect("there");
            let apart = Apart { input: Some(text.len() as u64), ..Apart::default() };
            assert_eq!((found.input, found.apart), (json!(null), apart));
            for name in ["input", "2.output"] {
                let bytes = runs::value_bytes(store.store(), &ws, run_id(number), name).await.expect("a read");
                assert_eq!(bytes, Some(text.len() as u64), "{name}");
                assert!(whole(&store, &ws, run_id(number), name).await == text, "{letter} in {name}");
            }
        }
        let from = runs::value_from(store.store(), &ws, run_id(1), "input", 300_001).await.expect("a read");
        assert!(from == long_text('é').as_bytes()[300_001..300_001 + from.len()]);
        let none = runs::value_bytes(store.store(), &ws, run_id(1), "result").await.expect("a read");
        assert_eq!(none, None);
        assert_eq!(faults_of(&store).await, []);
    }

    async fn another_workspace_does_not_see_them(store: TestStore) {
        let (mine, theirs) = (workspace(store.store(), "a").await, workspace(store.store(), "b").await);
        store.store().write(large(&mine, 1, &long_text('x'))).await.expect("insert");
        let bytes = runs::value_bytes(store.store(), &theirs, run_id(1), "input").await.expect("a read");
        assert_eq!(bytes, None);
        assert_eq!(whole(&store, &theirs, run_id(1), "input").await, "");
    }

    async fn what_only_looks_like_a_reference_is_a_value(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let mut new = run(&ws, 1);
        (new.input, new.definition) = (json!("@300000"), json!({"large": {"output": 300000}}));
        new.result = Some(json!("@1"));
        store.store().write(insert(new.clone())).await.expect("insert");
        new.last_seq = 1;
        assert_eq!(runs::find(store.store(), &ws, new.id).await.expect("read"), Some(new));
        assert_eq!(faults_of(&store).await, []);
    }

    async fn they_come_and_go_with_the_rows(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let new = run(&ws, 1);
        store.store().write(insert(new.clone())).await.expect("insert");
        let text = long_text('x');
        let told = signal("big", "go");
        let told = runs::SignalRow { large: Some(LargeValue::new(told.value_name(), text.as_str())), ..told };
        let send = Send { workspace_id: ws.clone(), run_id: new.id, signal: told, most: 9 };
        assert_eq!(store.store().write(send.clone()).await.expect("sent"), Sent::Done);
        assert_eq!(store.store().write(send).await.expect("sent"), Sent::Repeated);
        let waiting = runs::signals(store.store(), &ws, new.id).await.expect("signals").remove(0);
        assert_eq!(waiting.large.map(|large| large.bytes), Some(text.len() as u64));
        assert!(whole(&store, &ws, new.id, "signal.big").await == text);
        assert_eq!(faults_of(&store).await, []);

        // A driver of an older claim, or one that is late, leaves nothing.
        let value = || vec![LargeValue::new("result", text.as_str())];
        let zombie = Append { large: value(), gone: vec!["signal.big".to_owned()], ..append(&new, 7, 2, 2) };
        assert_eq!(store.store().write(zombie).await.expect("append"), Appended::Fenced);
        let late = Append { large: value(), ..append(&new, 0, 5, 5) };
        assert!(matches!(store.store().write(late).await, Err(StoreError::Conflict(_))));
        assert_eq!(faults_of(&store).await, []);

        let mut last = append(&new, 0, 2, 2);
        (last.large, last.gone, last.took) = (value(), vec!["signal.big".to_owned()], vec!["big".to_owned()]);
        last.change.state = RunState::Success;
        last.change.then = Then::End(Box::new(ending()));
        assert_eq!(store.store().write(last).await.expect("append"), Appended::Done);
        let found = runs::find(store.store(), &ws, new.id).await.expect("read").expect("there");
        assert_eq!((found.result, found.apart.result), (None, Some(text.len() as u64)));
        assert_eq!(whole(&store, &ws, new.id, "signal.big").await, "");
        assert_eq!(faults_of(&store).await, []);
    }

    async fn retention_removes_them_in_batches(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        let text = long_text('x');
        for number in [1, 2] {
            store.store().write(large(&ws, number, &text)).await.expect("insert");
        }
        end(&store, &run(&ws, 1), 3).await;
        assert_eq!(remove(&store, 100).await, 0, "their runs are there");
        let old = RemoveFinished { before: later(900_000_000), limit: 9, after: None };
        assert_eq!(store.store().write(old).await.expect("a removal").count, 1);
        assert_eq!(whole(&store, &ws, run_id(1), "input").await, "", "gone with the run");
        assert_eq!(faults_of(&store).await, [(run_id(1), RunFault::ValuesOrphaned)]);
        let parts = 2 * text.len().div_ceil(256 * 1024) as u64;
        assert_eq!((remove(&store, 30).await, remove(&store, 30).await, remove(&store, 30).await), (30, parts - 30, 0));
        assert!(whole(&store, &ws, run_id(2), "input").await == text);
        assert_eq!(faults_of(&store).await, []);
    }

    async fn a_check_finds_what_does_not_fit(store: TestStore) {
        let ws = workspace(store.store(), "acme").await;
        for number in 1..=4 {
            store.store().write(large(&ws, number, "\"a text\"")).await.expect("insert");
        }
        let gone = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let lost = Append { gone: gone(&["2.output"]), ..append(&run(&ws, 1), 0, 3, 3) };
        store.store().write(lost).await.expect("append");
        let value = LargeValue::new("9.output", "\"of nothing\"");
        let stray = Append { large: vec![value], ..append(&run(&ws, 2), 0, 3, 3) };
        store.store().write(stray).await.expect("append");
        end(&store, &run(&ws, 4), 3).await;
        let old = RemoveFinished { before: later(900_000_000), limit: 9, after: None };
        store.store().write(old).await.expect("a removal");
        let faults = [
            (run_id(1), RunFault::ValueMissing),
            (run_id(2), RunFault::ValueUnreferenced),
            (run_id(4), RunFault::ValuesOrphaned),
        ];
        let found = |left: Vec<(RunId, RunFault)>| left.into_iter().filter(|(_, fault)| *fault != RunFault::Stranded).collect::<Vec<_>>();
        assert_eq!(found(faults_of(&store).await), faults);
        store.store().write(Repair(faults.iter().map(|(id, _)| *id).collect())).await.expect("a repair");
        assert_eq!(found(faults_of(&store).await), faults[..2]);
    }
}
