//! Cancel and time-outs.

use nh_engine::EngineSettings;
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
