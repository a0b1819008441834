//! The hub is stopped dead at every commit and at every step in turn, and
//! started again. Each time the run must come to the same result, no recorded
//! step may be done again, and a step that was in flight is done again under
//! the same idempotency key.
//!
//! The places are the crash points of `nh_types::crash`, which tests alone
//! compile in.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use nh_testkit::TestStore;
use serde_json::{Value, json};

use crate::http::Client;

/// No more points than this are looked for: a run that passes more of them
/// without ending has gone wrong.
const MOST_POINTS: u64 = 400;

/// Tried side by side: each start mostly waits for the disk.
const SIDE_BY_SIDE: usize = 3;

pub(crate) struct Hub {
    pub(crate) child: Child,
    pub(crate) client: Client,
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where one hub after another keeps its data.
pub(crate) struct Place {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) store: Option<TestStore>,
}

impl Place {
    fn log(&self) -> PathBuf {
        self.directory.path().join("crash.log")
    }

    pub(crate) fn passed(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_neuralhub"));
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(self.directory.path().join("data"))
            .current_dir(self.directory.path())
            .env_clear()
            .env("NEURALHUB__ENGINE__LEASE_MS", "500")
            .env("NEURALHUB__MEMORY__WEIGHTS_DIR", nh_testkit::weights())
            .env("NEURALHUB__MEMORY__FETCH_WEIGHTS", "false")
            .env("NEURALHUB__COMPUTE__DRIVER", "off")
            .stdout(Stdio::piped());
        if let Some(url) = self.store.as_ref().and_then(TestStore::url) {
            let master_key = self.directory.path().join("master.key");
            if !master_key.exists() {
                std::fs::write(&master_key, [7; 32]).unwrap();
            }
            command.env("NEURALHUB__STORE__URL", url).env("NEURALHUB__SECURITY__MASTER_KEY_FILE", master_key);
        }
        command
    }

    /// That every row fits every other.
    pub(crate) fn check(&self, crashed_at: u64) {
        let checked = self.command(&["check"]).output().unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "crash point {crashed_at}: {said}");
    }

    /// None when the hub died before it listened.
    pub(crate) fn start(&self, crash_at: Option<u64>) -> Option<Hub> {
        let mut command = self.command(&["serve", "--bind", "127.0.0.1:0"]);
        command
            .env("NEURALHUB_CRASH_LOG", self.log())
            .env("NEURALHUB_BOOTSTRAP_KEY", KEY)
            .stderr(Stdio::null());
        if let Some(number) = crash_at {
            command.env("NEURALHUB_CRASH_AT", number.to_string());
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let Some((_, address)) = line.trim().rsplit_once("http://") else {
            let status = child.wait().unwrap();
            assert!(crash_at.is_some() && !status.success(), "the hub did not start: {status}");
            return None;
        };
        let client = Client { address: address.parse().unwrap(), key: KEY.to_owned() };
        Some(Hub { child, client })
    }
}

/// A key of the right form (its checksum is checked by the hub itself).
pub(crate) const KEY: &str = "nh_CrashTestCrashTestCrashTestCrashTe2p1Ief";

/// Of two bytes each.
const LARGE_CHARS: usize = 150_000;

/// What is run.
#[derive(Clone, Copy)]
enum Job {
    /// Turns of a model, with calls of tools.
    Agent,
    /// Steps side by side, a run of its own, a signal that came early, a sleep;
    /// and a value that is too large for the rows, on its way through all of it.
    Workflow,
}

impl Client {
    fn submit(&self, job: Job) -> std::io::Result<String> {
        let (target, run_type, input) = match job {
            Job::Agent => {
                ("agent_default", "agent", json!({"goal": "Calculate 17 * 23, and calculate 2 ^ 10"}))
            }
            Job::Workflow => {
                self.make_workflows()?;
                ("outer", "workflow", json!({"n": 5, "large": "é".repeat(LARGE_CHARS)}))
            }
        };
        let body = json!({"target": target, "type": run_type, "async": true, "input": input});
        let answer = self.post("/v1/run", &[("idempotency-key", "the-run")], &body)?;
        assert_eq!(answer.status, 202, "{}", answer.body);
        let run = answer.json()["runId"].as_str().unwrap().to_owned();
        if matches!(job, Job::Workflow) {
            let signal = json!({"name": "go", "id": "the-signal", "data": 7});
            let answer = self.post(&format!("/v1/run/{run}/signal"), &[], &signal)?;
            // A 409 comes when the run, which a first try signalled, has ended.
            assert!([202, 409].contains(&answer.status), "{}", answer.body);
        }
        Ok(run)
    }

    fn make_workflows(&self) -> std::io::Result<()> {
        let sum =
            |id: &str, text: &str| json!({"id": id, "uses": "tool:calculate", "with": {"expression": text}});
        let inner = json!({"id": "inner", "name": "Inner", "steps": [sum("square", "{{ input.n }} ^ 2")],
            "output": {"square": "{{ steps.square.output.result }}", "large": "{{ input.large }}"}});
        let outer = json!({"id": "outer", "name": "Outer", "steps": [
            sum("double", "{{ input.n }} * 2"),
            {"id": "each", "uses": "tool:calculate", "for_each": [1, 2], "with": {"expression": "{{ item }} + 1"}},
            {"id": "inner", "uses": "workflow:inner", "with": {"n": "{{ input.n }}", "large": "{{ input.large }}"}},
            {"id": "go", "uses": "signal", "with": {"name": "go"}},
            {"id": "pause", "uses": "sleep", "with": {"seconds": 0.01}, "needs": ["double"]},
            sum("total", "{{ steps.inner.output.square }} + {{ steps.inner.output.large | length }} + {{ steps.double.output.result }} + {{ steps.go.output }}"),
        ], "output": {"total": "{{ steps.total.output.result }}", "large": "{{ steps.inner.output.large }}"}});
        for workflow in [inner, outer] {
            let answer = self.post("/v1/workflows", &[], &workflow)?;
            assert!([201, 409].contains(&answer.status), "{}", answer.body);
        }
        Ok(())
    }

    /// The run's journal, and those of the runs that it began.
    fn journals(&self, run: &str) -> Vec<(String, Vec<Value>)> {
        let children = self.get(&format!("/v1/runs?parent_run_id={run}"), &[]).unwrap().json();
        let children = children["runs"].as_array().unwrap().iter();
        let runs = children.map(|child| child["runId"].as_str().unwrap().to_owned()).chain([run.to_owned()]);
        runs.map(|run| {
            let journal = self.get(&format!("/v1/run/{run}/events"), &[]).unwrap().json();
            let events = journal["events"].as_array().unwrap().clone();
            (run, events)
        })
        .collect()
    }

    /// Follows the run's stream, which ends with the run or with the hub.
    fn follow(&self, run: &str) -> std::io::Result<()> {
        self.get(&format!("/v1/run/{run}/events"), &[("accept", "text/event-stream")]).map(drop)
    }
}

/// Whether the hub died on the way.
fn run_until_crash(hub: &mut Hub, job: Job) -> bool {
    let followed = hub.client.submit(job).and_then(|run| hub.client.follow(&run).map(|()| run));
    let ended = followed.and_then(|run| hub.client.get(&format!("/v1/run/{run}"), &[]));
    match ended {
        Ok(answer) => answer.json()["state"] != "SUCCESS",
        Err(_) => {
            let status = hub.child.wait().unwrap();
            assert!(!status.success(), "the hub stopped without a crash");
            true
        }
    }
}

/// What must be the same however often the hub dies.
#[derive(Debug, PartialEq)]
struct Outcome {
    result: Value,
    tool_outputs: Vec<Value>,
    /// With the runs that it began.
    runs: usize,
}

fn finish(place: &Place, job: Job, crashed_at: u64) -> Outcome {
    let before = performed(&place.passed());
    let hub = place.start(None).expect("a hub without a crash starts");
    // The same key: the run that was accepted, or the first that is.
    let run = hub.client.submit(job).unwrap();
    hub.client.follow(&run).unwrap();
    let view = hub.client.get(&format!("/v1/run/{run}"), &[]).unwrap().json();
    assert_eq!(view["state"], "SUCCESS", "crash point {crashed_at}: {view}");
    let journals = hub.client.journals(&run);
    check_journals(&journals, &before, &performed(&place.passed()), crashed_at);
    let outputs = view["events"].as_array().unwrap().iter().map(|event| event["output"].clone());
    // Steps that are side by side begin in one order and may be told in another.
    let mut tool_outputs: Vec<Value> = outputs.collect();
    tool_outputs.sort_by_key(Value::to_string);
    drop(hub);
    place.check(crashed_at);
    Outcome { result: view["result"].clone(), tool_outputs, runs: journals.len() }
}

/// How often each idempotency key was performed.
pub(crate) fn performed(passed: &[String]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for key in passed.iter().filter_map(|point| point.strip_prefix("perform ")) {
        *counts.entry(key.to_owned()).or_default() += 1;
    }
    counts
}

fn check_journals(
    journals: &[(String, Vec<Value>)],
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    crashed_at: u64,
) {
    let mut again = Vec::new();
    for (run, events) in journals {
        for (index, event) in events.iter().enumerate() {
            assert_eq!(event["seq"], json!(index + 1), "crash point {crashed_at}: a gap in the journal");
        }
        let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
        let mut recorded: Vec<&str> =
            of("step.completed").iter().map(|event| event["data"]["step"].as_str().unwrap()).collect();
        let all = recorded.len();
        recorded.sort_unstable();
        recorded.dedup();
        assert_eq!(recorded.len(), all, "crash point {crashed_at}: a step was recorded twice");
        let resumed = of("run.resumed");
        let steps = resumed.iter().flat_map(|event| event["data"]["again"].as_array().unwrap());
        again.extend(steps.map(|step| format!("{run}:{}", step.as_str().unwrap())));
    }
    for (key, times) in after {
        let earlier = before.get(key).copied().unwrap_or(0);
        assert!(*times <= 2, "crash point {crashed_at}: {key} was performed {times} times");
        if earlier == 1 && *times == 2 {
            assert!(again.contains(key), "crash point {crashed_at}: {key} was recorded and done again");
        }
    }
}

fn crash_everywhere(job: Job, place: impl Fn() -> Place + Sync) {
    let whole = place();
    let mut hub = whole.start(None).unwrap();
    assert!(!run_until_crash(&mut hub, job));
    drop(hub);
    assert!(!whole.passed().is_empty(), "the binary was built without the feature crash-points");
    let expected = finish(&whole, job, 0);
    assert!(expected.tool_outputs.len() >= 2, "{:?}", expected.tool_outputs);
    if matches!(job, Job::Workflow) {
        assert_eq!(expected.result["large"].as_str().map(|text| text.chars().count()), Some(LARGE_CHARS));
    }

    let (next, crashes) = (AtomicU64::new(1), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let point = next.fetch_add(1, Ordering::SeqCst);
                    let place = place();
                    let crashed = match place.start(Some(point)) {
                        None => true,
                        Some(mut hub) => run_until_crash(&mut hub, job),
                    };
                    if !crashed {
                        // The run ended before this point was reached.
                        return;
                    }
                    crashes.fetch_add(1, Ordering::SeqCst);
                    // Too large to be told.
                    assert!(finish(&place, job, point) == expected, "crash point {point}: another outcome");
                    assert!(point < MOST_POINTS, "the run never ends");
                }
            });
        }
    });
    let crashes = crashes.into_inner();
    // Four turns of commits, and two places in each of four steps.
    assert!(crashes >= 16, "only {crashes} crash points were met");
}

fn on_sqlite(job: Job) {
    crash_everywhere(job, || Place { directory: temporary(), store: None });
}

fn on_postgres(job: Job) {
    // Keeps the schemas' connections going; the hub is a process of its own.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    crash_everywhere(job, || Place {
        directory: temporary(),
        store: Some(runtime.block_on(TestStore::postgres())),
    });
}

#[test]
fn an_agents_run_survives_a_crash_at_every_point_on_sqlite() {
    on_sqlite(Job::Agent);
}

#[test]
fn an_agents_run_survives_a_crash_at_every_point_on_postgres() {
    on_postgres(Job::Agent);
}

#[test]
fn a_workflows_run_survives_a_crash_at_every_point_on_sqlite() {
    on_sqlite(Job::Workflow);
}

#[test]
fn a_workflows_run_survives_a_crash_at_every_point_on_postgres() {
    on_postgres(Job::Workflow);
}

pub(crate) fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}
