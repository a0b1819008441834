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

struct Hub {
    child: Child,
    client: Client,
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where one hub after another keeps its data.
struct Place {
    directory: tempfile::TempDir,
    store: Option<TestStore>,
}

impl Place {
    fn log(&self) -> PathBuf {
        self.directory.path().join("crash.log")
    }

    fn passed(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// None when the hub died before it listened.
    fn start(&self, crash_at: Option<u64>) -> Option<Hub> {
        let data = self.directory.path().join("data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_neuralhub"));
        command
            .args(["serve", "--bind", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .current_dir(self.directory.path())
            .env_clear()
            .env("NEURALHUB_CRASH_LOG", self.log())
            .env("NEURALHUB__ENGINE__LEASE_MS", "500")
            .env("NEURALHUB_BOOTSTRAP_KEY", KEY)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        if let Some(number) = crash_at {
            command.env("NEURALHUB_CRASH_AT", number.to_string());
        }
        if let Some(url) = self.store.as_ref().and_then(TestStore::url) {
            let master_key = self.directory.path().join("master.key");
            if !master_key.exists() {
                std::fs::write(&master_key, [7; 32]).unwrap();
            }
            command.env("NEURALHUB__STORE__URL", url).env("NEURALHUB__SECURITY__MASTER_KEY_FILE", master_key);
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
const KEY: &str = "nh_CrashTestCrashTestCrashTestCrashTe2p1Ief";

impl Client {
    fn submit(&self) -> std::io::Result<String> {
        let body = json!({
            "target": "agent_default", "type": "agent", "async": true,
            "input": {"goal": "Calculate 17 * 23, and calculate 2 ^ 10"},
        });
        let answer = self.post("/v1/run", &[("idempotency-key", "the-run")], &body)?;
        assert_eq!(answer.status, 202, "{}", answer.body);
        Ok(answer.json()["runId"].as_str().unwrap().to_owned())
    }

    /// Follows the run's stream, which ends with the run or with the hub.
    fn follow(&self, run: &str) -> std::io::Result<()> {
        self.get(&format!("/v1/run/{run}/events"), &[("accept", "text/event-stream")]).map(drop)
    }
}

/// Whether the hub died on the way.
fn run_until_crash(hub: &mut Hub) -> bool {
    let followed = hub.client.submit().and_then(|run| hub.client.follow(&run).map(|()| run));
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
}

fn finish(place: &Place, crashed_at: u64) -> Outcome {
    let before = performed(&place.passed());
    let hub = place.start(None).expect("a hub without a crash starts");
    // The same key: the run that was accepted, or the first that is.
    let run = hub.client.submit().unwrap();
    hub.client.follow(&run).unwrap();
    let view = hub.client.get(&format!("/v1/run/{run}"), &[]).unwrap().json();
    assert_eq!(view["state"], "SUCCESS", "crash point {crashed_at}: {view}");
    let journal = hub.client.get(&format!("/v1/run/{run}/events"), &[]).unwrap().json();
    check_journal(journal["events"].as_array().unwrap(), &before, &performed(&place.passed()), crashed_at);
    let outputs = view["events"].as_array().unwrap().iter().map(|event| event["output"].clone());
    Outcome { result: view["result"].clone(), tool_outputs: outputs.collect() }
}

/// How often each idempotency key was performed.
fn performed(passed: &[String]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for key in passed.iter().filter_map(|point| point.strip_prefix("perform ")) {
        *counts.entry(key.to_owned()).or_default() += 1;
    }
    counts
}

fn check_journal(
    events: &[Value],
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    crashed_at: u64,
) {
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
    let again: Vec<&str> = of("run.resumed")
        .iter()
        .flat_map(|event| event["data"]["again"].as_array().unwrap())
        .map(|step| step.as_str().unwrap())
        .collect();
    for (key, times) in after {
        let earlier = before.get(key).copied().unwrap_or(0);
        assert!(*times <= 2, "crash point {crashed_at}: {key} was performed {times} times");
        if earlier == 1 && *times == 2 {
            let step = key.split_once(':').unwrap().1;
            assert!(again.contains(&step), "crash point {crashed_at}: {key} was recorded and done again");
        }
    }
}

fn crash_everywhere(place: impl Fn() -> Place + Sync) {
    let whole = place();
    let mut hub = whole.start(None).unwrap();
    assert!(!run_until_crash(&mut hub));
    drop(hub);
    assert!(!whole.passed().is_empty(), "the binary was built without the feature crash-points");
    let expected = finish(&whole, 0);
    assert!(expected.tool_outputs.len() >= 2, "{expected:?}");

    let (next, crashes) = (AtomicU64::new(1), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let point = next.fetch_add(1, Ordering::SeqCst);
                    let place = place();
                    let crashed = match place.start(Some(point)) {
                        None => true,
                        Some(mut hub) => run_until_crash(&mut hub),
                    };
                    if !crashed {
                        // The run ended before this point was reached.
                        return;
                    }
                    crashes.fetch_add(1, Ordering::SeqCst);
                    assert_eq!(finish(&place, point), expected, "crash point {point}");
                    assert!(point < MOST_POINTS, "the run never ends");
                }
            });
        }
    });
    let crashes = crashes.into_inner();
    // Four turns of commits, and two places in each of four steps.
    assert!(crashes >= 16, "only {crashes} crash points were met");
}

#[test]
fn a_run_survives_a_crash_at_every_point_on_sqlite() {
    crash_everywhere(|| Place { directory: temporary(), store: None });
}

#[test]
fn a_run_survives_a_crash_at_every_point_on_postgres() {
    // Keeps the schemas' connections going; the hub is a process of its own.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    crash_everywhere(|| Place {
        directory: temporary(),
        store: Some(runtime.block_on(TestStore::postgres())),
    });
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}
