//! A program whose runs do what their input says, and an engine around it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nh_engine::program::Performing;
use nh_engine::{
    ChildRun, Decision, Ending, Engine, EngineSettings, History, Live, NewRun, Outcome, Performed, Program,
    Step, Submitted, Wait, Work,
};
use nh_store::runs::{self, RunFilter, RunRecord, Sent, SignalRow};
use nh_store::{Store, workspaces};
use nh_testkit::{FixedClock, SeededIds, TestStore};
use nh_types::agent::AgentDefinition;
use nh_types::model::Usage;
use nh_types::run::{RunError, RunState, RunType};
use nh_types::{Clock, PageRequest, RunId, ScopeSet, WorkspaceId};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The input is a list of rounds, each a list of step names that run side by
/// side. Names decide what a step does: `fail…` fails, `panic…` panics,
/// `hold…` waits for [`Script::release`], `once…` holds and may not be
/// repeated, `sleep 500` waits so many milliseconds, `signal go` waits for the
/// signal `go` (`signal go 500` for so long at most), `large 500` gives a text of
/// so many bytes, and an object is a run of its own with these `rounds`. The result
/// is the number of completed steps, or what the last one gave if that was large.
#[derive(Clone)]
pub(crate) struct Script {
    /// Idempotency keys in the order in which their steps began.
    begun: Arc<Mutex<Vec<String>>>,
    /// Steps whose future was dropped before it ended.
    dropped: Arc<Mutex<Vec<String>>>,
    released: watch::Sender<bool>,
    news: watch::Sender<usize>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            begun: Arc::default(),
            dropped: Arc::default(),
            released: watch::channel(false).0,
            news: watch::channel(0).0,
        }
    }
}

struct Unless(Arc<Mutex<Vec<String>>>, Option<String>);

impl Drop for Unless {
    fn drop(&mut self) {
        if let Some(step) = self.1.take() {
            self.0.lock().unwrap().push(step);
        }
    }
}

impl Script {
    pub(crate) fn begun(&self) -> Vec<String> {
        self.begun.lock().unwrap().clone()
    }

    pub(crate) fn dropped(&self) -> Vec<String> {
        self.dropped.lock().unwrap().clone()
    }

    pub(crate) fn release(&self) {
        self.released.send_replace(true);
    }

    /// Until `count` steps have begun.
    pub(crate) async fn until_begun(&self, count: usize) {
        let mut news = self.news.subscribe();
        let begun = news.wait_for(|begun| *begun >= count);
        tokio::time::timeout(Duration::from_secs(20), begun).await.expect("steps begin").unwrap();
    }
}

impl Program for Script {
    fn open(&self, _: &RunRecord) -> Box<dyn Work> {
        Box::new(self.clone())
    }
}

impl Work for Script {
    fn decide(&self, run: &RunRecord, history: &History) -> Decision {
        if run.target == "broken" && !history.steps().is_empty() {
            panic!("this program is broken");
        }
        for (round, names) in run.input.as_array().unwrap().iter().enumerate() {
            let steps: Vec<Step> = names.as_array().unwrap().iter().map(|name| step(round, name)).collect();
            let failed = steps.iter().find_map(|step| match history.step(&step.id)?.outcome()? {
                Outcome::Failed(error) => Some(error.clone()),
                Outcome::Completed(_) => None,
            });
            if let Some(error) = failed {
                return Decision::Finish(Ending::Failure(error));
            }
            if !steps.iter().all(|step| history.step(&step.id).is_some_and(|step| step.finished.is_some())) {
                return Decision::Perform(steps);
            }
        }
        let last = history.steps().last().filter(|record| record.step.name.starts_with("large"));
        let result = match last.and_then(|record| record.outcome()) {
            Some(Outcome::Completed(output)) => output.clone(),
            _ => json!(history.steps().len()),
        };
        Decision::Finish(Ending::Success(result))
    }

    fn perform(&self, run: &RunRecord, _: &History, step: &Step, _: Live) -> Performing {
        let (script, name, key) = (self.clone(), step.name.clone(), step.idempotency_key(run.id));
        Box::pin(async move {
            let count = {
                let mut begun = script.begun.lock().unwrap();
                begun.push(key);
                begun.len()
            };
            script.news.send_replace(count);
            let mut unless = Unless(script.dropped.clone(), Some(name.clone()));
            if name.starts_with("hold") || name.starts_with("once") {
                script.released.subscribe().wait_for(|released| *released).await.unwrap();
            }
            unless.1 = None;
            assert!(!name.starts_with("panic"), "this step panics");
            if name.starts_with("fail") {
                return Err(RunError::new("no_luck", format!("{name} failed")));
            }
            let usage = Usage { input_tokens: 2, cost_usd: Some(0.5), ..Usage::NONE };
            let output = match name.strip_prefix("large ") {
                Some(bytes) => large(bytes.parse().unwrap()),
                None => json!({ "did": name }),
            };
            Ok(Performed { output, usage })
        })
    }

    fn child(&self, _: &RunRecord, _: &History, step: &Step) -> Result<ChildRun, RunError> {
        Ok(ChildRun {
            target: "script".to_owned(),
            run_type: RunType::Tool,
            input: step.arguments.clone(),
            definition: json!({}),
            timeout_ms: None,
            groups: Vec::new(),
        })
    }
}

/// A text of so many bytes as JSON, with all that is hard to cut.
pub(crate) fn large(bytes: usize) -> Value {
    let unit = "\u{0}語\"🧮";
    let text = unit.repeat((bytes - 2) / (json!(unit).to_string().len() - 2));
    let padding = bytes - json!(text).to_string().len();
    json!(text + &"x".repeat(padding))
}

fn step(round: usize, what: &Value) -> Step {
    let name = what.as_str().unwrap_or("child");
    let words: Vec<&str> = name.split(' ').collect();
    let wait = match words.as_slice() {
        ["child"] => Some(Wait::Run { run_id: None }),
        ["sleep", ms] => Some(Wait::Sleep { for_ms: ms.parse().unwrap() }),
        ["signal", name, rest @ ..] => Some(Wait::Signal {
            name: (*name).to_owned(),
            for_ms: rest.first().map(|ms| ms.parse().unwrap()),
        }),
        _ => None,
    };
    Step {
        id: format!("{round}.{name}"),
        kind: "test".to_owned(),
        name: name.to_owned(),
        arguments: what["rounds"].clone(),
        repeatable: !name.starts_with("once"),
        wait,
    }
}

/// One process: an engine and its program, on a store that may be shared.
pub(crate) struct Process {
    pub(crate) engine: Engine,
    pub(crate) script: Script,
    pub(crate) clock: FixedClock,
    pub(crate) store: Store,
    pub(crate) workspace_id: WorkspaceId,
    stopping: CancellationToken,
}

impl Process {
    pub(crate) async fn start(store: &TestStore) -> Process {
        Self::with(store.store(), 1, EngineSettings::default()).await
    }

    /// `seed` tells processes on one store apart.
    pub(crate) async fn with(store: &Store, seed: u64, settings: EngineSettings) -> Process {
        let (clock, ids) = (FixedClock::default(), Arc::new(SeededIds::new(seed)));
        let workspace_id = match workspaces::find_by_name(store, "test").await.unwrap() {
            Some(workspace) => workspace.id,
            None => new_workspace(store, "test", seed).await,
        };
        let (script, stopping) = (Script::default(), CancellationToken::new());
        let engine = Engine::start(
            store.clone(),
            Arc::new(script.clone()),
            Arc::new(clock.clone()),
            ids,
            &settings,
            stopping.clone(),
        )
        .await
        .unwrap();
        Process { engine, script, clock, store: store.clone(), workspace_id, stopping }
    }

    pub(crate) fn new_run(&self, rounds: Value) -> NewRun {
        NewRun {
            workspace_id: self.workspace_id.clone(),
            target: "script".to_owned(),
            run_type: RunType::Tool,
            input: rounds,
            definition: json!({}),
            scopes: ScopeSet::all(),
            created_by: "key:1".to_owned(),
            metadata: serde_json::Map::new(),
            timeout_ms: None,
            priority: 0,
            delay_ms: 0,
            groups: Vec::new(),
            thread_id: None,
            webhook_url: None,
            fork: None,
        }
    }

    pub(crate) async fn submit(&self, rounds: Value) -> RunId {
        started(self.engine.submit(self.new_run(rounds), None).await.unwrap())
    }

    pub(crate) async fn ended(&self, id: RunId) -> RunRecord {
        let wait = self.engine.wait(&self.workspace_id, id, Duration::from_secs(20)).await;
        wait.unwrap().expect("the run ends").run.clone()
    }

    pub(crate) async fn journal(&self, id: RunId) -> Vec<String> {
        let rows = runs::events(&self.store, &self.workspace_id, id, 0, 1000).await.unwrap();
        let sequence: Vec<i64> = rows.iter().map(|row| row.seq).collect();
        assert_eq!(sequence, (1..=rows.len() as i64).collect::<Vec<_>>(), "no gaps in the journal");
        rows.into_iter()
            .map(|row| match row.data.read::<Value>().unwrap()["step"].as_str() {
                Some(step) => format!("{} {step}", row.kind),
                None => row.kind,
            })
            .collect()
    }

    pub(crate) async fn signal(&self, id: RunId, signal_id: &str, name: &str, data: Value) -> Sent {
        let signal = SignalRow {
            id: signal_id.to_owned(),
            name: name.to_owned(),
            sent_by: "key:1".to_owned(),
            at: self.clock.now(),
            data: data.into(),
            large: None,
        };
        self.engine.signal(&self.workspace_id, id, signal).await.unwrap()
    }

    /// Until the run is in that state, as everybody sees it.
    pub(crate) async fn until(&self, id: RunId, state: RunState) -> RunRecord {
        let mut watch = self.engine.watch(id);
        let found = async {
            loop {
                let run = runs::find(&self.store, &self.workspace_id, id).await.unwrap().unwrap();
                if run.state == state {
                    return run;
                }
                watch.changed().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found).await.expect("the state comes")
    }

    pub(crate) async fn children(&self, id: RunId) -> Vec<RunRecord> {
        let filter = RunFilter { parent: Some(id), ..RunFilter::default() };
        let page = PageRequest { limit: 100, after: None };
        runs::list(&self.store, &self.workspace_id, &filter, &page).await.unwrap().items
    }

    /// SIGTERM, with no time to finish anything.
    pub(crate) async fn park(self) {
        self.stopping.cancel();
        self.engine.shutdown(Duration::ZERO).await;
    }

    pub(crate) async fn stop_with_runs_left(&self) {
        self.stopping.cancel();
        self.engine.shutdown(Duration::from_secs(20)).await;
    }

    pub(crate) async fn stop(self) {
        self.stop_with_runs_left().await;
        let open = runs::count_unfinished(&self.store, &self.workspace_id).await.unwrap();
        assert_eq!(open, 0, "a run was left over");
    }
}

pub(crate) fn started(submitted: Submitted) -> RunId {
    match submitted {
        Submitted::Started(watch) => watch.run_id(),
        Submitted::Replay(id) => panic!("a replay of {id}"),
        Submitted::Mismatch => panic!("a mismatch"),
    }
}

pub(crate) async fn new_workspace(store: &Store, name: &str, seed: u64) -> WorkspaceId {
    let clock = FixedClock::default();
    let workspace = workspaces::Workspace {
        id: WorkspaceId::generate(&SeededIds::new(seed ^ 0xABCD)),
        name: name.to_owned(),
        created_at: clock.now(),
    };
    let id = workspace.id.clone();
    store
        .write(workspaces::Create { workspace, default_agent: AgentDefinition::default_agent() })
        .await
        .unwrap();
    id
}

/// How often each idempotency key was begun.
pub(crate) fn counts(begun: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for key in begun {
        *counts.entry(key.as_str()).or_default() += 1;
    }
    counts
}
