//! Two hubs on one PostgreSQL, of which one is killed, or frozen (SIGSTOP) and
//! let go on later, in the middle of its runs. The other takes them over; the
//! frozen one changes nothing when it comes back; and an endpoint that counts
//! sees each `Idempotency-Key` only for its own step.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use nh_testkit::TestStore;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::crash::{KEY, temporary};
use crate::endpoint::Endpoint;
use crate::http::Client;
use crate::hub::command;

const RUNS: u64 = 8;

pub(crate) struct Node {
    child: Child,
    pub(crate) client: Client,
    folder: TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    pub(crate) fn start(store: &TestStore, variables: &[(&str, &str)]) -> Self {
        let folder = temporary();
        let master_key = folder.path().join("master.key");
        std::fs::write(&master_key, [7; 32]).unwrap();
        let mut child = command(folder.path())
            .args(["serve", "--bind", "127.0.0.1:0"])
            .env("NEURALHUB__STORE__URL", store.url().unwrap())
            .env("NEURALHUB__SECURITY__MASTER_KEY_FILE", master_key)
            .env("NEURALHUB__ENGINE__LEASE_MS", "1000")
            .env("NEURALHUB__HTTP__ALLOW_NETWORKS", "[\"127.0.0.0/8\"]")
            .env("NEURALHUB_BOOTSTRAP_KEY", KEY)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        let address = line.trim().rsplit_once("http://").unwrap_or_else(|| panic!("not up: {}", log())).1;
        let client = Client { address: address.parse().unwrap(), key: KEY.to_owned() };
        Self { child, client, folder }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    fn begin_runs(&self, endpoint: &Endpoint) -> Vec<String> {
        self.client.make_held_chain(endpoint);
        (0..RUNS).map(|n| self.client.begin_held(n)).collect()
    }

    /// The journal of each run, once it has ended.
    fn journals(&self, runs: &[String]) -> Vec<Value> {
        let journal = |run: &String| {
            let path = format!("/v1/run/{run}/events");
            self.client.get(&path, &[("accept", "text/event-stream")]).unwrap();
            let view = self.client.get(&format!("/v1/run/{run}"), &[]).unwrap().json();
            assert_eq!(view["state"], "SUCCESS", "{view}");
            self.client.get(&path, &[]).unwrap().json()
        };
        runs.iter().map(journal).collect()
    }

    /// Until it drives nothing.
    fn until_idle(&self) {
        for _ in 0..2000 {
            let metrics = self.client.get("/metrics", &[]).unwrap().body;
            if metrics.contains("neuralhub_runs_running 0\n") {
                return;
            }
            std::thread::yield_now();
        }
        panic!("it still drives runs: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

fn expected(runs: &[String]) -> BTreeMap<String, String> {
    let steps = [("one", "one"), ("two", "hold"), ("three", "three")];
    runs.iter()
        .zip(0_u64..)
        .flat_map(|(run, n)| steps.map(|(step, path)| (format!("{run}:{step}"), format!("/{path}/{n}"))))
        .collect()
}

/// Each key came for its own step only: the held one twice, the others once.
fn check_requests(endpoint: &Endpoint, runs: &[String]) {
    let expected = expected(runs);
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (key, path) in endpoint.seen() {
        assert_eq!(expected.get(&key), Some(&path), "the key {key} came for {path}");
        *counts.entry(path).or_default() += 1;
    }
    for (key, path) in expected {
        let count = if path.starts_with("/hold") { 2 } else { 1 };
        assert_eq!(counts.get(&path), Some(&count), "{key}");
    }
}

/// A store and two nodes; the first has its runs in their second steps.
fn two_nodes(endpoint: &Endpoint, store: &TestStore) -> (Node, Node, Vec<String>) {
    let first = Node::start(store, &[]);
    let second = Node::start(store, &[]);
    let runs = first.begin_runs(endpoint);
    endpoint.until_seen("/hold", runs.len());
    (first, second, runs)
}

#[test]
fn what_a_killed_node_had_under_way_is_finished_by_the_other() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (endpoint, store) = (Endpoint::start(), runtime.block_on(TestStore::postgres()));
    let (mut first, second, runs) = two_nodes(&endpoint, &store);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    for journal in second.journals(&runs) {
        let resumed: Vec<&Value> = journal["events"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|event| event["type"] == "run.resumed")
            .collect();
        assert_eq!(resumed.len(), 1, "{journal}");
        assert_eq!(resumed[0]["data"]["again"], json!(["two"]));
    }
    check_requests(&endpoint, &runs);
}

#[test]
fn a_frozen_node_that_comes_back_changes_nothing() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (endpoint, store) = (Endpoint::start(), runtime.block_on(TestStore::postgres()));
    let (first, second, runs) = two_nodes(&endpoint, &store);
    first.signal("-STOP");
    let finished = second.journals(&runs);
    check_requests(&endpoint, &runs);

    endpoint.release();
    first.signal("-CONT");
    first.until_idle();
    assert!(first.log().contains("no longer this driver's"), "it did not try: {}", first.log());
    assert_eq!(second.journals(&runs), finished, "the zombie wrote something");
    check_requests(&endpoint, &runs);
    // It is a node like any other again.
    let body = json!({"target": "calculate", "type": "tool", "input": {"expression": "6 * 7"}});
    let answer = first.client.post("/v1/run", &[], &body).unwrap().json();
    assert_eq!(answer["state"], "SUCCESS", "{answer}");
}
