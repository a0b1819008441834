//! Runs that a lost answer, a crash or a long queue left behind.

use nh_engine::{EngineSettings, Event};
use nh_store::runs::{self, CancelOutcome, EventRow, RunRecord};
use nh_testkit::{TestStore, each_engine};
use nh_types::run::RunState;
use nh_types::{Clock, RunId};
use serde_json::{Value, json};

use crate::script::{Process, started};

/// A row as a commit leaves it whose answer was lost: owned, and known to
/// nobody.
async fn strand(process: &Process, like: RunId, owner: Option<String>, events: &[Event]) -> RunId {
    let now = process.clock.now();
    let found = runs::find(&process.store, &process.workspace_id, like).await.unwrap().unwrap();
    let id = RunId::generate(&nh_testkit::SeededIds::new(77), now);
    let run = RunRecord {
        id,
        ready: owner.is_none(),
        owner,
        epoch: 1,
        state: RunState::Running,
        input: json!([["a"], ["b"]]),
        result: None,
        finished_at: None,
        ..found
    };
    let events = events.iter().zip(1..).map(|(event, seq)| row(event, seq, process)).collect();
    process.store.write(runs::Insert::new(run, events)).await.unwrap();
    id
}

fn row(event: &Event, seq: i64, process: &Process) -> EventRow {
    let tagged = serde_json::to_value(event).unwrap();
    let kind = tagged["type"].as_str().unwrap().to_owned();
    EventRow { seq, kind, at: process.clock.now(), data: tagged["data"].clone().into() }
}

fn created() -> Event {
    Event::Created { target: "script".to_owned(), run_type: "tool".to_owned() }
}

async fn owner_of(process: &Process, id: RunId) -> Option<String> {
    runs::find(&process.store, &process.workspace_id, id).await.unwrap().unwrap().owner
}

each_engine! {
    async fn a_run_that_this_node_owns_and_nobody_drives_goes_on(store: TestStore) {
        let process = Process::start(&store).await;
        let held = process.submit(json!([["hold"]])).await;
        process.script.until_begun(1).await;
        let node = owner_of(&process, held).await;
        assert!(node.is_some());
        let stranded = strand(&process, held, node, &[created()]).await;
        assert_eq!(process.ended(stranded).await.state, RunState::Success);
        process.script.release();
        assert_eq!(process.ended(held).await.state, RunState::Success);
        process.stop().await;
    }

    async fn a_cancel_of_a_run_that_nobody_drives_is_not_lost(store: TestStore) {
        let process = Process::start(&store).await;
        let held = process.submit(json!([["hold"]])).await;
        process.script.until_begun(1).await;
        let node = owner_of(&process, held).await;
        let stranded = strand(&process, held, node, &[created()]).await;
        let outcome = process.engine.cancel(&process.workspace_id, stranded).await.unwrap();
        assert_eq!(outcome, CancelOutcome::Requested);
        assert_eq!(process.ended(stranded).await.state, RunState::Cancelled);
        process.script.release();
        process.ended(held).await;
        process.stop().await;
    }

    async fn a_deadline_that_passed_in_the_queue_ends_a_run_before_it_does_anything(store: TestStore) {
        let process = Process::with(store.store(), 1, EngineSettings { max_running: 1, ..Default::default() }).await;
        let held = process.submit(json!([["hold"]])).await;
        process.script.until_begun(1).await;
        let mut late = process.new_run(json!([["a"]]));
        late.timeout_ms = Some(50);
        let late = started(process.engine.submit(late, None).await.unwrap());
        process.clock.advance_ms(50);
        // At its time, although the one slot is taken.
        let run = process.ended(late).await;
        assert_eq!((run.error.unwrap().code.as_str(), run.started_at), ("timeout", None));
        process.script.release();
        assert_eq!(process.journal(late).await, ["run.created", "run.failed"]);
        process.ended(held).await;
        process.stop().await;
    }

    async fn runs_that_ended_long_ago_are_removed_at_the_next_start(store: TestStore) {
        let process = Process::start(&store).await;
        let young = process.submit(json!([["a"]])).await;
        process.ended(young).await;
        process.clock.advance_ms(-31 * 24 * 3600 * 1000);
        let old = process.submit(json!([["a"]])).await;
        process.ended(old).await;
        process.stop_with_runs_left().await;

        let next = Process::with(store.store(), 2, EngineSettings::default()).await;
        next.stop_with_runs_left().await;
        let there = async |id| runs::find(&next.store, &next.workspace_id, id).await.unwrap().is_some();
        assert_eq!((there(old).await, there(young).await), (false, true));
    }

    async fn a_run_that_takes_its_process_down_is_given_up(store: TestStore) {
        let process = Process::start(&store).await;
        let first = process.submit(json!([["a"]])).await;
        process.ended(first).await;
        let step = json!({"step": "0.a", "kind": "test", "name": "a"});
        let mut events = vec![created(), Event::StepStarted(serde_json::from_value(step).unwrap())];
        events.extend((0..5).map(|_| Event::Resumed { again: vec!["0.a".to_owned()] }));
        let deadly = strand(&process, first, None, &events).await;
        process.stop_with_runs_left().await;

        let next = Process::with(store.store(), 2, EngineSettings::default()).await;
        let run = next.ended(deadly).await;
        assert_eq!((run.state, run.error.unwrap().code.as_str()), (RunState::Failed, "crash_loop"));
        let begun: Vec<Value> = next.script.begun().into_iter().map(Value::from).collect();
        assert!(begun.is_empty(), "{begun:?}");
        next.stop().await;
    }
}
