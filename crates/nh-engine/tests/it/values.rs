//! Values that are too large for their rows.

use nh_engine::{EngineError, EngineSettings, Fork, History, NewRun, Outcome};
use nh_store::runs::{self, RemoveFinished, RunFault};
use nh_testkit::{TestStore, each_engine};
use nh_types::RunId;
use nh_types::run::RunState;
use serde_json::{Value, json};

use crate::script::{Process, large, started};

/// What the journal's rows hold themselves is small.
async fn rows_are_small(process: &Process, id: RunId) {
    let rows = runs::events(&process.store, &process.workspace_id, id, 0, 1000).await.unwrap();
    let longest = rows.iter().map(|row| row.data.as_str().len()).max().unwrap();
    assert!(longest < 1000, "a row of {longest} bytes");
}

async fn faults(process: &Process) -> Vec<(RunId, RunFault)> {
    runs::check(&process.store, None).await.unwrap().faults
}

async fn history(process: &Process, id: RunId) -> History {
    History::read(&process.engine.journal(&process.workspace_id, id).await.unwrap()).unwrap()
}

async fn outcome(process: &Process, id: RunId, step: &str) -> Outcome {
    history(process, id).await.step(step).unwrap().outcome().unwrap().clone()
}

async fn is_output(process: &Process, id: RunId, step: &str, output: Value) -> bool {
    outcome(process, id, step).await == Outcome::Completed(output)
}

async fn limited(store: &TestStore, seed: u64, max_value_bytes: u64, max_run_values_bytes: u64) -> Process {
    let settings = EngineSettings { max_value_bytes, max_run_values_bytes, ..EngineSettings::default() };
    Process::with(store.store(), seed, settings).await
}

each_engine! {
    async fn a_large_output_is_whole_in_the_next_process_too(store: TestStore) {
        let first = Process::start(&store).await;
        let id = first.submit(json!([["large 1000000"], ["hold"], ["large 262145"]])).await;
        first.script.until_begun(2).await;
        rows_are_small(&first, id).await;
        first.park().await;

        let second = Process::with(store.store(), 2, EngineSettings::default()).await;
        second.script.release();
        let ended = second.engine.wait(&second.workspace_id, id, std::time::Duration::from_secs(20)).await;
        let ended = ended.unwrap().expect("the run ends");
        assert!(ended.run.result == Some(large(262_145)));
        assert!(ended.history == history(&second, id).await);
        assert!(is_output(&second, id, "0.large 1000000", large(1_000_000)).await);
        let stored = second.engine.find(&second.workspace_id, id).await.unwrap().unwrap();
        assert!(stored.result == ended.run.result);
        rows_are_small(&second, id).await;
        assert_eq!(faults(&second).await, []);
        second.stop().await;
    }

    async fn what_is_just_small_enough_stays_in_its_row(store: TestStore) {
        let process = Process::start(&store).await;
        let id = process.submit(json!([["large 262144"]])).await;
        assert!(process.ended(id).await.result == Some(large(262_144)));
        let values = process.engine.values();
        for name in ["3.output", "result"] {
            assert_eq!(values.bytes(&process.workspace_id, id, name).await.unwrap(), None);
        }
        process.stop().await;
    }

    async fn a_large_input_and_a_child_with_large_ends(store: TestStore) {
        let process = Process::start(&store).await;
        let rounds = json!([[{"rounds": [], "padding": large(300_000)}], ["large 500000"]]);
        let id = process.submit(json!([[{"rounds": rounds}], ["a"]])).await;
        assert_eq!(process.ended(id).await.result, Some(json!(2)));
        assert!(is_output(&process, id, "0.child", large(500_000)).await);
        let child = process.children(id).await.remove(0).id;
        let stored = runs::find(&process.store, &process.workspace_id, child).await.unwrap().unwrap();
        let bytes = rounds.to_string().len() as u64;
        assert_eq!((&stored.input, stored.apart.input), (&json!(null), Some(bytes)));
        let whole = process.engine.find(&process.workspace_id, child).await.unwrap().unwrap();
        assert!(whole.input == rounds);
        rows_are_small(&process, id).await;
        rows_are_small(&process, child).await;
        // What the end of the child was told with is gone.
        assert_eq!(faults(&process).await, []);
        process.stop().await;
    }

    async fn a_queued_run_with_a_large_input_is_taken_up_whole(store: TestStore) {
        let settings = EngineSettings { max_running: 1, ..EngineSettings::default() };
        let process = Process::with(store.store(), 1, settings).await;
        let held = process.submit(json!([["hold"]])).await;
        process.script.until_begun(1).await;
        let id = process.submit(json!([["a"], [{"rounds": [], "padding": large(300_000)}]])).await;
        process.script.release();
        process.ended(held).await;
        assert_eq!(process.ended(id).await.result, Some(json!(2)));
        process.stop().await;
    }

    async fn a_fork_stands_alone(store: TestStore) {
        let process = Process::start(&store).await;
        let failed = process.submit(json!([["large 300000"], ["b"], ["fail"]])).await;
        assert_eq!(process.ended(failed).await.state, RunState::Failed);
        process.clock.advance_ms(1000);
        let journal = process.engine.journal(&process.workspace_id, failed).await.unwrap();
        let fork = Fork::at_failure(failed, &journal, true).unwrap();
        let mended = NewRun { fork: Some(fork), ..process.new_run(json!([["large 300000"], ["b"], ["c"]])) };
        let id = started(process.engine.submit(mended, None).await.unwrap());
        assert_eq!(process.ended(id).await.result, Some(json!(3)));
        // The old run goes; the new one's values are its own.
        let old = runs::find(&process.store, &process.workspace_id, failed).await.unwrap().unwrap();
        let before = old.finished_at.unwrap().plus_millis(1);
        let removed = process.store.write(RemoveFinished { before, limit: 1, after: None }).await.unwrap();
        assert_eq!(removed.last, Some(failed));
        assert!(!process.engine.values().remove_orphans(before).await.unwrap());
        assert!(is_output(&process, id, "0.large 300000", large(300_000)).await);
        rows_are_small(&process, id).await;
        assert_eq!(faults(&process).await, []);
        process.stop().await;
    }

    async fn too_large_an_output_fails_its_step(store: TestStore) {
        let process = limited(&store, 1, 400_000, 1_000_000).await;
        let id = process.submit(json!([["large 400001"]])).await;
        let run = process.ended(id).await;
        let failed = run.error.unwrap();
        assert_eq!((run.state, failed.code.as_str()), (RunState::Failed, "output_too_large"));
        assert_eq!(failed.message, "The output came to 400001 bytes as JSON; at most 400000 are kept.");
        assert_eq!(run.usage.input_tokens, 2, "what it used is known");
        // Two fit, a third does not; small ones always do.
        let id = process.submit(json!([["large 390000"], ["a", "large 380000"], ["b"], ["large 399999"]])).await;
        assert_eq!(process.ended(id).await.state, RunState::Failed);
        let Outcome::Failed(error) = outcome(&process, id, "3.large 399999").await else { panic!("it was kept") };
        assert_eq!(error.code, "output_too_large");
        assert!(error.message.contains("together at most 1000000 are kept"), "{}", error.message);
        // The result is what a run is for.
        let id = process.submit(json!([["large 390000"], ["large 380000"], ["a"]])).await;
        assert_eq!(process.ended(id).await.state, RunState::Success);
        process.stop().await;
    }

    async fn too_large_arguments_fail_their_step(store: TestStore) {
        let process = limited(&store, 1, 400_000, 400_000).await;
        // The input fits, but not the arguments too, which are almost all of it.
        let child = json!({"rounds": [[{"rounds": [], "padding": large(300_000)}]]});
        let id = process.submit(json!([[child]])).await;
        let run = process.ended(id).await;
        assert_eq!(run.error.unwrap().code, "arguments_too_large");
        assert!(process.children(id).await.is_empty());
        assert_eq!(process.journal(id).await[1..], ["step.started 0.child", "step.failed 0.child", "run.failed"]);
        assert_eq!(faults(&process).await, []);
        process.stop().await;
    }

    async fn too_large_an_input_is_refused(store: TestStore) {
        let process = limited(&store, 1, 400_000, 400_000).await;
        let new = process.new_run(json!([[{"rounds": [], "padding": large(400_000)}]]));
        let Err(error) = process.engine.submit(new, None).await else { panic!("it was taken") };
        let EngineError::TooLarge { field, bytes, most } = error else { panic!("{error}") };
        assert_eq!((field, most), ("input", 400_000));
        assert!(bytes > 400_000);
        process.stop().await;
    }

    async fn a_run_whose_value_is_lost_ends(store: TestStore) {
        let first = Process::start(&store).await;
        let id = first.submit(json!([["large 300000"], ["hold"], ["b"]])).await;
        first.script.until_begun(2).await;
        let workspace_id = first.workspace_id.clone();
        first.park().await;
        let found = runs::find(store.store(), &workspace_id, id).await.unwrap().unwrap();
        let change = runs::RunChange { state: RunState::Pending, started_at: None, then: runs::Then::Queue };
        let lose = runs::Append {
            run_id: id,
            workspace_id,
            epoch: found.epoch,
            events: Vec::new(),
            took: Vec::new(),
            children: Vec::new(),
            large: Vec::new(),
            gone: vec!["3.output".to_owned()],
            change,
        };
        assert_eq!(store.store().write(lose).await.unwrap(), runs::Appended::Done);
        let second = Process::with(store.store(), 2, EngineSettings::default()).await;
        let error = second.until(id, RunState::Failed).await.error.unwrap();
        assert_eq!(error.code, "journal_unreadable");
        assert!(error.message.contains("`3.output`"), "{}", error.message);
        assert_eq!(faults(&second).await, [(id, RunFault::ValueMissing)]);
        second.stop().await;
    }
}
