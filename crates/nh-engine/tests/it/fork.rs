//! Runs that take over the beginning of another.

use nh_engine::{EngineSettings, Fork, ForkError, History, NewRun, read_journal};
use nh_store::runs::EventRow;
use nh_testkit::{TestStore, each_engine};
use nh_types::RunId;
use nh_types::run::RunState;
use serde_json::json;

use crate::script::{Process, started};

async fn journal(process: &Process, id: RunId) -> Vec<EventRow> {
    read_journal(&process.store, &process.workspace_id, id).await.unwrap()
}

each_engine! {
    async fn a_retry_does_again_what_failed_and_nothing_else(store: TestStore) {
        let process = Process::start(&store).await;
        let failed = process.submit(json!([["a", "b"], ["c"], ["fail"]])).await;
        assert_eq!(process.ended(failed).await.state, RunState::Failed);
        let begun = process.script.begun().len();
        let fork = Fork::at_failure(failed, &journal(&process, failed).await, true).unwrap();
        let mended = NewRun { fork: Some(fork), ..process.new_run(json!([["a", "b"], ["c"], ["d"]])) };
        let id = started(process.engine.submit(mended, None).await.unwrap());
        let run = process.ended(id).await;
        assert_eq!((run.state, run.result), (RunState::Success, Some(json!(4))));
        assert_eq!(process.script.begun()[begun..], [format!("{id}:2.d")]);
        assert_eq!(run.usage.input_tokens, 2, "what it used itself");
        let history = History::read(&journal(&process, id).await).unwrap();
        assert_eq!(history.forked_from(), Some(failed));
        process.stop().await;
    }

    async fn a_fork_in_the_queue_begins_where_it_should(store: TestStore) {
        let process = Process::with(store.store(), 1, EngineSettings { max_running: 1, ..Default::default() }).await;
        let first = process.submit(json!([["a"], ["b"], ["c"]])).await;
        process.ended(first).await;
        let rows = journal(&process, first).await;
        let held = process.submit(json!([["hold"]])).await;
        process.script.until_begun(4).await;
        let fork = Fork::at_step(first, &rows, Some("1.b")).unwrap();
        let forked = NewRun { fork: Some(fork), ..process.new_run(json!([["a"], ["x"]])) };
        let id = started(process.engine.submit(forked, None).await.unwrap());
        process.script.release();
        process.ended(held).await;
        assert_eq!(process.ended(id).await.result, Some(json!(2)));
        assert_eq!(process.script.begun()[4..], [format!("{id}:1.x")]);
        let expected = [
            "run.created", "step.started 0.a", "step.completed 0.a", "run.forked 1.b", "step.started 1.x",
            "step.completed 1.x", "run.succeeded",
        ];
        assert_eq!(process.journal(id).await, expected);
        process.stop().await;
    }

    async fn a_step_that_is_not_there_is_told_with_those_that_are(store: TestStore) {
        let process = Process::start(&store).await;
        let first = process.submit(json!([["a"], ["b"]])).await;
        process.ended(first).await;
        let error = Fork::at_step(first, &journal(&process, first).await, Some("9")).unwrap_err();
        let ForkError::UnknownStep { step, known } = error else { panic!("{error}") };
        assert_eq!((step.as_str(), known), ("9", vec!["0.a".to_owned(), "1.b".to_owned()]));
        process.stop().await;
    }
}
