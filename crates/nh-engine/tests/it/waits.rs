//! Steps that wait: for a time, for a signal, for a run of their own. A run
//! that only waits is driven by nobody.

use nh_engine::EngineSettings;
use nh_store::runs::Sent;
use nh_testkit::{TestStore, each_engine};
use nh_types::run::RunState;
use serde_json::json;

use crate::script::{Process, counts};

/// With room for one run at a time.
async fn narrow(store: &TestStore) -> Process {
    Process::with(store.store(), 1, EngineSettings { max_running: 1, ..EngineSettings::default() }).await
}

each_engine! {
    async fn a_sleep_holds_no_slot_and_ends_in_time(store: TestStore) {
        let process = narrow(&store).await;
        let sleeper = process.submit(json!([["a"], ["sleep 60"], ["b"]])).await;
        let asleep = process.until(sleeper, RunState::Waiting).await;
        assert_eq!((asleep.owner, asleep.ready), (None, false));
        // The only slot is free.
        let other = process.submit(json!([["c"]])).await;
        process.ended(other).await;
        process.clock.advance_ms(60);
        let run = process.ended(sleeper).await;
        assert_eq!((run.state, run.result), (RunState::Success, Some(json!(3))));
        assert_eq!(process.journal(sleeper).await, [
            "run.created", "step.started 0.a", "step.completed 0.a", "step.started 1.sleep 60",
            "step.completed 1.sleep 60", "step.started 2.b", "step.completed 2.b", "run.succeeded",
        ]);
        process.stop().await;
    }

    async fn a_signal_ends_the_step_that_waits_for_it(store: TestStore) {
        let process = narrow(&store).await;
        let run = process.submit(json!([["signal go"], ["a"]])).await;
        process.until(run, RunState::Waiting).await;
        assert_eq!(process.signal(run, "s1", "other", json!(1)).await, Sent::Done);
        assert_eq!(process.signal(run, "s2", "go", json!({"by": "hand"})).await, Sent::Done);
        assert_eq!(process.ended(run).await.state, RunState::Success);
        assert_eq!(process.signal(run, "s2", "go", json!(2)).await, Sent::Repeated);
        assert_eq!(process.signal(run, "s3", "go", json!(2)).await, Sent::Finished(RunState::Success));
        let journal = process.journal(run).await;
        assert_eq!(journal.iter().filter(|event| *event == "step.completed 0.signal go").count(), 1);
        assert_eq!(journal.iter().filter(|event| *event == "signal.received").count(), 1, "the other one");
        process.stop().await;
    }

    async fn a_signal_that_comes_early_is_kept_and_taken_once(store: TestStore) {
        let process = Process::start(&store).await;
        let run = process.submit(json!([["hold"], ["signal go"], ["signal go 60"]])).await;
        process.script.until_begun(1).await;
        assert_eq!(process.signal(run, "s1", "go", json!("first")).await, Sent::Done);
        assert_eq!(process.signal(run, "s1", "go", json!("again")).await, Sent::Repeated);
        process.script.release();
        // It may be seen to wait for the first one, too.
        let second = "step.started 2.signal go 60".to_owned();
        while !process.journal(run).await.contains(&second) {
            tokio::task::yield_now().await;
        }
        process.until(run, RunState::Waiting).await;
        process.clock.advance_ms(60);
        let ended = process.ended(run).await;
        assert_eq!(ended.error.expect("an error").code, "timeout", "the second wait got nothing");
        process.stop().await;
    }

    async fn waits_and_work_go_side_by_side(store: TestStore) {
        let process = Process::start(&store).await;
        let run = process.submit(json!([["hold", "signal go", "sleep 10"], ["a"]])).await;
        process.script.until_begun(1).await;
        process.signal(run, "s1", "go", json!(null)).await;
        process.clock.advance_ms(10);
        process.script.release();
        assert_eq!(process.ended(run).await.result, Some(json!(4)));
        process.stop().await;
    }

    async fn a_child_runs_in_its_parents_slot_and_its_end_is_the_steps(store: TestStore) {
        let process = narrow(&store).await;
        let parent = process.submit(json!([["a", {"rounds": [["b"], ["c"]]}], ["d"]])).await;
        let ended = process.ended(parent).await;
        assert_eq!((ended.state, ended.result), (RunState::Success, Some(json!(3))));
        // Two steps of the parent's own, two of the child's.
        assert_eq!(ended.usage.input_tokens, 8);
        let children = process.children(parent).await;
        assert_eq!(children.len(), 1);
        assert_eq!(children[0].state, RunState::Success);
        let link = children[0].parent.clone().expect("a parent");
        assert_eq!((link.run_id, link.step.as_str()), (parent, "0.child"));
        process.stop().await;
    }

    async fn a_childs_failure_is_the_steps(store: TestStore) {
        let process = narrow(&store).await;
        let parent = process.submit(json!([[{"rounds": [["b"], ["fail"]]}], ["d"]])).await;
        let ended = process.ended(parent).await;
        assert_eq!((ended.state, ended.error.expect("an error").code.as_str()), (RunState::Failed, "no_luck"));
        assert_eq!(ended.usage.input_tokens, 2, "what the child used before it failed");
        process.stop().await;
    }

    async fn to_cancel_a_run_cancels_its_children_and_theirs(store: TestStore) {
        let process = Process::start(&store).await;
        let parent = process.submit(json!([[{"rounds": [[{"rounds": [["hold"]]}]]}]])).await;
        process.script.until_begun(1).await;
        process.until(parent, RunState::Waiting).await;
        process.engine.cancel(&process.workspace_id, parent).await.unwrap();
        let child = process.children(parent).await.remove(0);
        assert_eq!(process.ended(child.id).await.state, RunState::Cancelled);
        let grandchild = process.children(child.id).await.remove(0);
        assert_eq!(process.ended(grandchild.id).await.state, RunState::Cancelled);
        assert_eq!(process.script.dropped(), ["hold"]);
        process.stop().await;
    }

    async fn a_cancelled_child_fails_its_parents_step(store: TestStore) {
        let process = Process::start(&store).await;
        let parent = process.submit(json!([[{"rounds": [["a"], ["signal never"]]}]])).await;
        process.until(parent, RunState::Waiting).await;
        let child = process.children(parent).await.remove(0);
        process.until(child.id, RunState::Waiting).await;
        process.engine.cancel(&process.workspace_id, child.id).await.unwrap();
        let ended = process.ended(parent).await;
        assert_eq!(ended.error.expect("an error").code, "cancelled");
        let used = process.ended(child.id).await.usage.input_tokens;
        assert_eq!((used, ended.usage.input_tokens), (2, 2), "what it used before it was cancelled");
        process.stop().await;
    }

    async fn a_deadline_ends_a_waiting_run_and_its_children(store: TestStore) {
        let process = Process::start(&store).await;
        let mut new = process.new_run(json!([[{"rounds": [["signal never"]]}]]));
        new.timeout_ms = Some(60);
        let parent = crate::script::started(process.engine.submit(new, None).await.unwrap());
        process.until(parent, RunState::Waiting).await;
        process.clock.advance_ms(60);
        assert_eq!(process.ended(parent).await.error.expect("an error").code, "timeout");
        let child = process.children(parent).await.remove(0);
        assert_eq!(process.ended(child.id).await.state, RunState::Cancelled);
        process.stop().await;
    }

    async fn what_waits_is_woken_after_a_restart(store: TestStore) {
        let first = Process::start(&store).await;
        let signalled = first.submit(json!([["a"], ["signal go"]])).await;
        let sleeper = first.submit(json!([["sleep 60"]])).await;
        let parent = first.submit(json!([[{"rounds": [["signal go"]]}]])).await;
        for run in [signalled, sleeper, parent] {
            first.until(run, RunState::Waiting).await;
        }
        let child = first.children(parent).await.remove(0).id;
        first.until(child, RunState::Waiting).await;
        first.park().await;
        let second = Process::with(store.store(), 2, EngineSettings::default()).await;
        second.clock.advance_ms(60);
        second.signal(signalled, "s", "go", json!(1)).await;
        second.signal(child, "s", "go", json!(1)).await;
        for run in [signalled, sleeper, parent, child] {
            assert_eq!(second.ended(run).await.state, RunState::Success);
        }
        let begun = second.script.begun();
        assert!(counts(&begun).is_empty(), "nothing was done again: {begun:?}");
        second.stop().await;
    }

    async fn what_is_parked_beside_a_wait_goes_on(store: TestStore) {
        let first = Process::start(&store).await;
        let run = first.submit(json!([["hold", "signal go"], ["a"]])).await;
        first.script.until_begun(1).await;
        first.signal(run, "s", "go", json!(1)).await;
        first.park().await;
        let second = Process::with(store.store(), 2, EngineSettings::default()).await;
        second.script.release();
        assert_eq!(second.ended(run).await.result, Some(json!(3)));
        second.stop().await;
    }
}
