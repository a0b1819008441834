//! Cancel and time-outs.

use nh_engine::{EngineError, EngineSettings};
use nh_store::runs::CancelOutcome;
use nh_testkit::{TestStore, each_engine};
use nh_types::run::RunState;
use serde_json::json;

use crate::script::{Process, new_workspace, started};

each_engine! {
    async fn cancel_drops_what_is_in_flight(store: TestStore) {
        let process = Process::start(&store).await;
        let id = process.submit(json!([["hold_a", "hold_b"]])).await;
        process.script.until_begun(2).await;

        let other = new_workspace(&process.store, "other", 99).await;
        assert_eq!(process.engine.cancel(&other, id).await.unwrap(), CancelOutcome::Missing);
        assert!(process.script.dropped().is_empty(), "another workspace cancels nothing");

        assert_eq!(process.engine.cancel(&process.workspace_id, id).await.unwrap(), CancelOutcome::Cancelled);
        let mut dropped = process.script.dropped();
        dropped.sort();
        assert_eq!(dropped, ["hold_a", "hold_b"]);
        assert_eq!(process.journal(id).await.last().unwrap(), "run.cancelled");
        let again = process.engine.cancel(&process.workspace_id, id).await.unwrap();
        assert_eq!(again, CancelOutcome::Finished(RunState::Cancelled));
        process.stop().await;
    }

    async fn a_queued_run_is_cancelled_before_it_begins(store: TestStore) {
        let process = Process::with(store.store(), 1, EngineSettings { max_running: 1, ..EngineSettings::default() }).await;
        let first = process.submit(json!([["hold"]])).await;
        process.script.until_begun(1).await;
        let queued = process.submit(json!([["a"]])).await;
        let outcome = process.engine.cancel(&process.workspace_id, queued).await.unwrap();
        assert_eq!(outcome, CancelOutcome::Cancelled);
        process.script.release();
        assert_eq!(process.ended(first).await.state, RunState::Success);
        assert_eq!(process.ended(queued).await.state, RunState::Cancelled);
        assert_eq!(process.journal(queued).await, ["run.created", "run.cancelled"]);
        assert_eq!(process.script.begun().len(), 1);
        process.stop().await;
    }

    async fn a_delayed_run_begins_when_its_time_has_come(store: TestStore) {
        let process = Process::start(&store).await;
        let mut later = process.new_run(json!([["a"]]));
        (later.delay_ms, later.timeout_ms) = (60, Some(1000));
        let later = started(process.engine.submit(later, None).await.unwrap());
        let sooner = process.submit(json!([["b"]])).await;
        assert_eq!(process.ended(sooner).await.state, RunState::Success);
        let begun_before = process.script.begun().len();
        process.clock.advance_ms(60);
        let run = process.ended(later).await;
        assert_eq!((begun_before, run.state), (1, RunState::Success));
        assert_eq!(run.started_at.unwrap().millis_since(run.created_at), 60);
        assert_eq!(run.deadline_at.unwrap().millis_since(run.created_at), 1060);
        process.stop().await;
    }

    async fn a_delayed_run_can_be_cancelled_and_survives_a_restart(store: TestStore) {
        let process = Process::start(&store).await;
        let delayed = |ms| {
            let mut run = process.new_run(json!([["a"]]));
            run.delay_ms = ms;
            run
        };
        let never = started(process.engine.submit(delayed(60), None).await.unwrap());
        let kept = started(process.engine.submit(delayed(70), None).await.unwrap());
        let outcome = process.engine.cancel(&process.workspace_id, never).await.unwrap();
        assert_eq!(outcome, CancelOutcome::Cancelled);
        process.stop_with_runs_left().await;
        let next = Process::with(store.store(), 2, EngineSettings::default()).await;
        next.clock.advance_ms(70);
        assert_eq!(next.ended(kept).await.state, RunState::Success);
        assert_eq!(next.ended(never).await.state, RunState::Cancelled);
        next.stop().await;
    }

    async fn a_full_queue_takes_no_more_until_some_have_begun(store: TestStore) {
        let settings = EngineSettings { max_running: 1, max_queued_per_workspace: 2, ..Default::default() };
        let process = Process::with(store.store(), 1, settings).await;
        let held = process.submit(json!([["hold"]])).await;
        process.script.until_begun(1).await;
        let mut queued = vec![process.submit(json!([["a"]])).await];
        let mut later = process.new_run(json!([["a"]]));
        later.delay_ms = 60;
        queued.push(started(process.engine.submit(later, None).await.unwrap()));
        let refused = process.engine.submit(process.new_run(json!([])), None).await;
        assert!(matches!(refused, Err(EngineError::QueueFull { most: 2 })), "the queue is full");
        // Of this workspace only.
        let other = new_workspace(&process.store, "other", 99).await;
        let theirs = nh_engine::NewRun { workspace_id: other, ..process.new_run(json!([])) };
        started(process.engine.submit(theirs, None).await.unwrap());

        process.script.release();
        process.clock.advance_ms(1000);
        for id in queued.into_iter().chain([held]) {
            assert_eq!(process.ended(id).await.state, RunState::Success);
        }
        let next = process.submit(json!([["a"]])).await;
        assert_eq!(process.ended(next).await.state, RunState::Success);
        process.stop().await;
    }

    async fn the_urgent_overtake_in_the_queue(store: TestStore) {
        let process = Process::with(store.store(), 1, EngineSettings { max_running: 1, ..EngineSettings::default() }).await;
        let held = process.submit(json!([["hold"]])).await;
        process.script.until_begun(1).await;
        let mut queued = Vec::new();
        for priority in [0, -1, 3, 0] {
            let mut run = process.new_run(json!([["a"]]));
            run.priority = priority;
            queued.push(started(process.engine.submit(run, None).await.unwrap()));
        }
        process.script.release();
        for id in &queued {
            process.ended(*id).await;
        }
        process.ended(held).await;
        let begun: Vec<_> = process.script.begun().into_iter().skip(1).collect();
        let order = [2, 0, 3, 1].map(|place| format!("{}:0.a", queued[place]));
        assert_eq!(begun, order);
        process.stop().await;
    }

    async fn a_run_fails_at_its_deadline(store: TestStore) {
        let process = Process::start(&store).await;
        let mut run = process.new_run(json!([["hold"]]));
        run.timeout_ms = Some(300);
        let id = started(process.engine.submit(run, None).await.unwrap());
        process.script.until_begun(1).await;
        let run = process.ended(id).await;
        assert_eq!((run.state, run.error.unwrap().code.as_str()), (RunState::Failed, "timeout"));
        assert_eq!(process.script.dropped(), ["hold"]);
        process.stop().await;
    }
}
