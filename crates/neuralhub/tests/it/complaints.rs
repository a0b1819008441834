//! What users of other engines for durable runs complain about most, each with
//! the test that it does not happen here.

use std::io::Write as _;
use std::net::TcpStream;

use nh_testkit::TestStore;
use nh_types::Timestamp;
use serde_json::{Value, json};

use crate::endpoint::Endpoint;
use crate::http::Client;
use crate::hub::TestHub;
use crate::takeover::Node;

const LOOPBACK: (&str, &str) = ("NEURALHUB__HTTP__ALLOW_NETWORKS", "[\"127.0.0.0/8\"]");

fn hub(endpoint: &Endpoint, variables: &[(&str, &str)]) -> TestHub {
    let variables = [&[LOOPBACK], variables].concat();
    let hub = TestHub::start_with(tempfile::tempdir().unwrap(), &variables);
    hub.http().make_held_chain(endpoint);
    hub
}

impl Client {
    fn run(&self, id: &str) -> Value {
        self.get(&format!("/v1/run/{id}"), &[]).unwrap().json()
    }

    /// Its stream ends with the run.
    fn ended(&self, id: &str) -> Value {
        self.stream(id, "0");
        self.run(id)
    }

    /// The ids of the events that the stream sends after `last`, and their types.
    fn stream(&self, id: &str, last: &str) -> Vec<(i64, String)> {
        let headers = [("accept", "text/event-stream"), ("last-event-id", last)];
        let text = self.get(&format!("/v1/run/{id}/events"), &headers).unwrap().body;
        let frames = text.split("\n\n").filter(|frame| frame.starts_with("id: "));
        let parse = |frame: &str| {
            let mut lines = frame.lines().map(|line| line.split_once(": ").unwrap().1);
            (lines.next().unwrap().parse().unwrap(), lines.next().unwrap().to_owned())
        };
        frames.map(parse).collect()
    }
}

#[test]
fn a_run_does_not_stay_running_because_its_client_hung_up() {
    let endpoint = Endpoint::start();
    let hub = hub(&endpoint, &[]);
    let client = hub.http();
    let mut connection = TcpStream::connect(client.address).unwrap();
    let body = json!({"target": "chain", "type": "workflow", "input": {"n": 1}}).to_string();
    write!(
        connection,
        "POST /v1/run HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        client.address,
        client.key,
        body.len()
    )
    .unwrap();
    endpoint.until_seen("/hold", 1);
    drop(connection);
    let runs = client.get("/v1/runs", &[]).unwrap().json();
    let id = runs["runs"][0]["runId"].as_str().unwrap();
    assert_eq!(client.run(id)["state"], "RUNNING");
    endpoint.release();
    assert_eq!(client.ended(id)["state"], "SUCCESS");
}

#[test]
fn a_tool_that_timed_out_is_not_silently_called_again() {
    let endpoint = Endpoint::start();
    let hub = hub(&endpoint, &[]);
    let client = hub.http();
    let url = format!("http://{}/hold/late", endpoint.address);
    let step = json!({"id": "late", "uses": "tool:http_fetch", "with": {"url": url}, "timeout_seconds": 1});
    let workflow = json!({"id": "late", "name": "Late", "steps": [step]});
    assert_eq!(client.post("/v1/workflows", &[], &workflow).unwrap().status, 201);
    let run = client.post("/v1/run", &[], &json!({"target": "late", "type": "workflow"})).unwrap().json();
    assert_eq!((&run["state"], &run["error"]["code"]), (&json!("FAILED"), &json!("timeout")), "{run}");
    // It was told to stop, too.
    endpoint.until_left(1);
    assert_eq!(endpoint.seen().len(), 1, "{:?}", endpoint.seen());
    let journal =
        client.get(&format!("/v1/run/{}/events", run["runId"].as_str().unwrap()), &[]).unwrap().json();
    let kinds: Vec<&str> =
        journal["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["run.created", "step.started", "step.failed", "run.failed"]);
}

#[test]
fn a_pending_run_does_not_wait_beside_an_idle_worker() {
    let endpoint = Endpoint::start();
    let hub = hub(&endpoint, &[("NEURALHUB__ENGINE__MAX_RUNNING", "1")]);
    let client = hub.http();
    let first = client.begin_held(1);
    endpoint.until_seen("/hold", 1);
    let second = client.begin_held(2);
    assert_eq!(client.run(&second)["state"], "PENDING");
    endpoint.release();
    let (first, second) = (client.ended(&first), client.ended(&second));
    assert_eq!((&first["state"], &second["state"]), (&json!("SUCCESS"), &json!("SUCCESS")));
    let at = |time: &Value| -> Timestamp { serde_json::from_value(time.clone()).unwrap() };
    // Nobody looks by himself for 30 seconds: the end of the first woke it.
    let waited_ms = at(&second["startedAt"]).millis_since(at(&first["finishedAt"]));
    assert!(waited_ms < 10_000, "it waited for {waited_ms} ms");
}

#[test]
fn a_pending_run_does_not_wait_for_a_busy_node_beside_an_idle_one() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (endpoint, store) = (Endpoint::start(), runtime.block_on(TestStore::postgres()));
    let busy = Node::start(&store, &[("NEURALHUB__ENGINE__MAX_RUNNING", "1")]);
    busy.client.make_held_chain(&endpoint);
    let first = busy.client.begin_held(1);
    endpoint.until_seen("/hold", 1);
    let second = busy.client.begin_held(2);
    assert_eq!(busy.client.run(&second)["state"], "PENDING");
    let idle = Node::start(&store, &[]);
    endpoint.until_seen("/hold/2", 1);
    endpoint.release();
    assert_eq!(idle.client.ended(&second)["state"], "SUCCESS");
    assert_eq!(busy.client.ended(&first)["state"], "SUCCESS");
}

#[test]
fn a_cancel_stops_the_tool() {
    let endpoint = Endpoint::start();
    let hub = hub(&endpoint, &[]);
    let client = hub.http();
    let id = client.begin_held(1);
    endpoint.until_seen("/hold", 1);
    let cancelled = client.post(&format!("/v1/run/{id}/cancel"), &[], &json!({})).unwrap();
    assert_eq!((cancelled.status, &cancelled.json()["state"]), (200, &json!("CANCELLED")));
    endpoint.until_left(1);
    assert!(!endpoint.seen().iter().any(|(_, path)| path.starts_with("/three")));
}

#[test]
fn a_stream_is_resumed_where_it_broke_off_after_a_restart_too() {
    let endpoint = Endpoint::start();
    let hub = hub(&endpoint, &[]);
    let id = hub.http().begin_held(1);
    endpoint.until_seen("/hold", 1);
    let journal = hub.http().get(&format!("/v1/run/{id}/events"), &[]).unwrap().json();
    let last = journal["events"].as_array().unwrap().last().unwrap()["seq"].as_i64().unwrap();
    let folder = hub.kill();
    let hub = TestHub::start_with(folder, &[LOOPBACK]);
    let rest = hub.http().stream(&id, &last.to_string());
    let ids: Vec<i64> = rest.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, (last + 1..=last + ids.len() as i64).collect::<Vec<_>>());
    assert_eq!(rest.first().unwrap().1, "run.resumed");
    assert_eq!(rest.last().unwrap().1, "run.succeeded");
    assert_eq!(hub.http().stream(&id, &ids.last().unwrap().to_string()), [], "all of it was seen");
}

#[test]
fn a_step_result_over_the_limit_of_a_row_does_not_kill_the_run() {
    let endpoint = Endpoint::start();
    let hub = hub(&endpoint, &[]);
    let client = hub.http();
    let url = format!("http://{}/hold/1", endpoint.address);
    for workflow in [
        json!({"id": "echo", "name": "Echo", "steps": [{"id": "now", "uses": "tool:current_time"}],
            "output": {"text": "{{ input.text }}"}}),
        json!({"id": "large", "name": "Large", "steps": [
            {"id": "big", "uses": "workflow:echo", "with": {"text": "{{ input.text }}"}},
            {"id": "held", "uses": "tool:http_fetch", "with": {"url": url}, "needs": ["big"]},
        ], "output": {"length": "{{ steps.big.output.text | length }}"}}),
    ] {
        let made = client.post("/v1/workflows", &[], &workflow).unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
    }
    let text = "ä".repeat(1024 * 1024);
    let body = json!({"target": "large", "type": "workflow", "async": true, "input": {"text": text}});
    let begun = client.post("/v1/run", &[], &body).unwrap().json();
    let id = begun["runId"].as_str().unwrap();
    endpoint.until_seen("/hold/1", 1);
    let hub = TestHub::start_with(hub.kill(), &[LOOPBACK]);
    let run = hub.http().ended(id);
    assert_eq!((&run["state"], &run["result"]), (&json!("SUCCESS"), &json!({"length": 1024 * 1024})));
    assert!(run["input"]["text"] == json!(text));
}
