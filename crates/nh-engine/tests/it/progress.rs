//! Runs that go through.

use std::time::Duration;

use nh_engine::{EngineSettings, History, Submitted, read_journal};
use nh_store::{Idempotency, runs};
use nh_testkit::{TestStore, each_engine};
use nh_types::run::RunState;
use nh_types::{Clock, PageRequest};
use serde_json::json;

use crate::script::{Process, new_workspace, started};

each_engine! {
    async fn steps_follow_each_other_and_the_journal_has_them_all(store: TestStore) {
        let process = Process::start(&store).await;
        let id = process.submit(json!([["a"], ["b", "c"]])).await;
        let run = process.ended(id).await;
        assert_eq!((run.state, run.result), (RunState::Success, Some(json!(3))));
        assert_eq!((run.usage.input_tokens, run.usage.cost_usd), (6, Some(1.5)));
        assert_eq!(run.last_seq, 8);
        assert!(run.started_at.is_some() && run.finished_at.is_some() && run.owner.is_none());

        let mut journal = process.journal(id).await;
        let ends = journal.split_off(5);
        assert_eq!(journal, [
            "run.created", "step.started 0.a", "step.completed 0.a", "step.started 1.b", "step.started 1.c",
        ]);
        assert_eq!(ends.last().unwrap(), "run.succeeded");
        process.stop().await;
    }

    async fn a_step_that_fails_or_panics_is_in_the_journal(store: TestStore) {
        let process = Process::start(&store).await;
        let failed = process.submit(json!([["fail"], ["never"]])).await;
        let run = process.ended(failed).await;
        assert_eq!(run.state, RunState::Failed);
        assert_eq!(run.error.unwrap().code, "no_luck");
        assert_eq!(process.journal(failed).await.last().unwrap(), "run.failed");

        let panicked = process.submit(json!([["panic"]])).await;
        let run = process.ended(panicked).await;
        assert_eq!(run.error.unwrap().code, "internal_error");
        assert_eq!(process.journal(panicked).await[2], "step.failed 0.panic");
        process.stop().await;
    }

    async fn a_program_that_panics_ends_its_run_and_no_other(store: TestStore) {
        let process = Process::start(&store).await;
        let mut broken = process.new_run(json!([["a"]]));
        broken.target = "broken".to_owned();
        let id = started(process.engine.submit(broken, None).await.unwrap());
        let run = process.ended(id).await;
        assert_eq!((run.state, run.error.unwrap().code.as_str()), (RunState::Failed, "internal_error"));

        let id = process.submit(json!([["a"]])).await;
        assert_eq!(process.ended(id).await.state, RunState::Success);
        process.stop().await;
    }

    async fn an_empty_run_ends_at_once(store: TestStore) {
        let process = Process::start(&store).await;
        let id = process.submit(json!([])).await;
        assert_eq!(process.ended(id).await.result, Some(json!(0)));
        process.stop().await;
    }

    async fn more_runs_than_slots_queue_up_and_all_end(store: TestStore) {
        let process = Process::with(store.store(), 1, EngineSettings { max_running: 3, ..EngineSettings::default() }).await;
        let mut ids = Vec::new();
        for _ in 0..40 {
            ids.push(process.submit(json!([["a"], ["b"]])).await);
        }
        for id in ids {
            assert_eq!(process.ended(id).await.state, RunState::Success);
        }
        process.stop().await;
    }

    async fn a_caller_that_goes_away_changes_nothing(store: TestStore) {
        let process = Process::start(&store).await;
        for _ in 0..20 {
            let submitting = process.engine.submit(process.new_run(json!([["a"]])), None);
            // One poll, whatever came of it, and the connection is gone.
            drop(futures_util::FutureExt::now_or_never(submitting));
        }
        let mut stored = Vec::new();
        while stored.len() < 20 {
            tokio::task::yield_now().await;
            let (filter, page) = (runs::RunFilter::default(), PageRequest::default());
            stored = runs::list(&process.store, &process.workspace_id, &filter, &page).await.unwrap().items;
        }
        for run in stored {
            assert_eq!(process.ended(run.id).await.state, RunState::Success);
        }
        process.stop().await;
    }

    async fn one_key_starts_one_run(store: TestStore) {
        let process = Process::start(&store).await;
        let once = |key: &str, body: u8| Idempotency {
            owner: "key:1".to_owned(),
            key: key.to_owned(),
            body_hash: [body; 32],
            at: process.clock.now(),
        };
        let submit = |once| process.engine.submit(process.new_run(json!([["a"]])), Some(once));
        let id = started(submit(once("x", 1)).await.unwrap());
        assert!(matches!(submit(once("x", 1)).await.unwrap(), Submitted::Replay(first) if first == id));
        assert!(matches!(submit(once("x", 2)).await.unwrap(), Submitted::Mismatch));
        let other = started(submit(once("y", 1)).await.unwrap());
        for id in [id, other] {
            assert_eq!(process.ended(id).await.state, RunState::Success);
        }
        let listed = runs::list(
            &process.store, &process.workspace_id, &runs::RunFilter::default(), &PageRequest::default(),
        ).await.unwrap();
        assert_eq!(listed.items.len(), 2);
        // The end of a run is heard before its driver is done.
        while process.engine.running() > 0 {
            tokio::task::yield_now().await;
        }
        process.stop().await;
    }

    async fn who_started_a_run_hears_of_its_end_what_the_store_has(store: TestStore) {
        let process = Process::start(&store).await;
        for rounds in [json!([["a", "b"], ["c"]]), json!([["a"], ["fail"]]), json!([["panic"]])] {
            let new = process.new_run(rounds);
            let Submitted::Started(watch) = process.engine.submit(new, None).await.unwrap() else { panic!() };
            let (id, wait) = (watch.run_id(), Duration::from_secs(20));
            let heard = process.engine.wait_for_started(&process.workspace_id, watch, wait).await.unwrap();
            let heard = heard.expect("the run ends");
            let stored = runs::find(&process.store, &process.workspace_id, id).await.unwrap().unwrap();
            assert_eq!(heard.run, stored);
            let journal = read_journal(&process.store, &process.workspace_id, id).await.unwrap();
            assert_eq!(heard.history, History::read(&journal).unwrap());
        }
        process.stop().await;
    }

    async fn a_wait_ends_when_it_should(store: TestStore) {
        let process = Process::start(&store).await;
        let id = process.submit(json!([["hold"]])).await;
        let wait = |ws, ms| process.engine.wait(ws, id, Duration::from_millis(ms));
        assert!(wait(&process.workspace_id, 5).await.unwrap().is_none(), "it goes on");

        let other = new_workspace(&process.store, "other", 99).await;
        assert!(wait(&other, 20_000).await.unwrap().is_none(), "not the other workspace's run");
        process.script.release();
        assert_eq!(process.ended(id).await.state, RunState::Success);
        process.stop().await;
    }
}
