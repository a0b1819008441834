//! Runs that outlive their process.

use nh_engine::{EngineError, EngineSettings};
use nh_store::runs::CancelOutcome;
use nh_testkit::{TestStore, each_engine};
use nh_types::run::RunState;
use serde_json::json;

use crate::script::{Process, counts};

each_engine! {
    async fn a_parked_run_goes_on_in_the_next_process(store: TestStore) {
        let first = Process::start(&store).await;
        let id = first.submit(json!([["a"], ["hold"], ["b"]])).await;
        first.script.until_begun(2).await;
        let begun = first.script.begun();
        first.park().await;

        let second = Process::with(store.store(), 2, EngineSettings::default()).await;
        second.script.release();
        assert_eq!(second.ended(id).await.result, Some(json!(3)));
        assert_eq!(second.script.begun()[0], begun[1], "the step in flight runs again under its key");
        let all = [begun, second.script.begun()].concat();
        let counts = counts(&all);
        assert_eq!(counts[format!("{id}:0.a").as_str()], 1, "what was recorded is not done again");
        assert_eq!(counts[format!("{id}:1.hold").as_str()], 2);
        let journal = second.journal(id).await;
        assert_eq!(journal[4..6], ["run.resumed", "step.completed 1.hold"]);
        second.stop().await;
    }

    async fn a_step_that_must_not_be_repeated_makes_its_run_wait(store: TestStore) {
        let first = Process::start(&store).await;
        let id = first.submit(json!([["once"], ["b"]])).await;
        first.script.until_begun(1).await;
        first.park().await;

        let second = Process::with(store.store(), 2, EngineSettings::default()).await;
        let mut watch = second.engine.watch(id);
        while second.journal(id).await.last().unwrap() != "run.waiting 0.once" {
            watch.changed().await;
        }
        assert!(second.script.begun().is_empty());
        let outcome = second.engine.cancel(&second.workspace_id, id).await.unwrap();
        assert_eq!(outcome, CancelOutcome::Cancelled);
        assert_eq!(second.ended(id).await.state, RunState::Cancelled);
        second.stop().await;
    }

    async fn queued_runs_are_taken_up_by_the_next_process(store: TestStore) {
        let first = Process::with(store.store(), 1, EngineSettings { max_running: 1, ..EngineSettings::default() }).await;
        let mut ids = vec![first.submit(json!([["hold"]])).await];
        first.script.until_begun(1).await;
        for _ in 0..5 {
            ids.push(first.submit(json!([["a"]])).await);
        }
        first.park().await;
        let second = Process::with(store.store(), 2, EngineSettings { max_running: 2, ..EngineSettings::default() }).await;
        second.script.release();
        for id in ids {
            assert_eq!(second.ended(id).await.state, RunState::Success);
        }
        second.stop().await;
    }

    async fn a_stopping_engine_takes_nothing_up_and_finishes_what_it_can(store: TestStore) {
        let process = Process::start(&store).await;
        let id = process.submit(json!([["hold"], ["b"]])).await;
        process.script.until_begun(1).await;
        let (engine, script) = (process.engine.clone(), process.script.clone());
        let refused = process.new_run(json!([]));
        let workspace_id = process.workspace_id.clone();
        let stopping = tokio::join!(process.stop(), async {
            let waited = engine.wait(&workspace_id, id, std::time::Duration::from_secs(60)).await;
            assert!(waited.unwrap().is_none(), "waits end when the hub stops");
            assert!(matches!(engine.submit(refused, None).await, Err(EngineError::ShuttingDown)));
            script.release();
        });
        assert_eq!(stopping, ((), ()));
    }
}
