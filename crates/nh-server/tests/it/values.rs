//! Runs with values that are too large for their rows.

use http_body_util::BodyExt;
use nh_store::runs;
use nh_types::RunId;
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, call, calls, says, sent};
use crate::app::{Reply, TestApp};
use crate::waits::{ended, start, until_waiting};

const MIB: usize = 1024 * 1024;

/// A text of about so many bytes that is hard to cut.
fn long(bytes: usize) -> String {
    "a\u{0}\"語🧮".repeat(bytes / 16)
}

/// A workflow whose first step is given its input and gives it on, as a run
/// of its own; the last one counts it.
async fn workflows(app: &TestApp) {
    let echo = json!({"id": "echo", "name": "E", "output": "{{ input }}",
        "steps": [{"id": "pause", "uses": "sleep", "with": {"seconds": 0}}]});
    let outer = json!({"id": "outer", "name": "O", "steps": [
        {"id": "first", "uses": "workflow:echo", "with": {"text": "{{ input.text }}"}},
        {"id": "second", "uses": "workflow:echo", "with": {"again": "{{ steps.first.output.text }}"}},
        {"id": "length", "uses": "tool:calculate",
            "with": {"expression": "{{ steps.second.output.again | length }} + 0"}}],
        "output": {"text": "{{ steps.second.output.again }}", "length": "{{ steps.length.output.result }}"}});
    for workflow in [echo, outer] {
        app.post("/v1/workflows", workflow).send().await.ok(201);
    }
}

fn id(run: &Value) -> RunId {
    run["runId"].as_str().expect("an id").parse().expect("an id")
}

async fn journal(app: &TestApp, run: &Value, query: &str) -> Vec<Value> {
    let page = app.get(&format!("/v1/run/{}/events{query}", id(run))).send().await.ok(200);
    page["events"].as_array().expect("events").clone()
}

/// Follows `href`s of a journal's events to what is left out there.
async fn follow(app: &TestApp, events: &[Value]) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for event in events {
        for (field, large) in event["data"]["large"].as_object().into_iter().flatten() {
            assert_eq!(event["data"].get(field), None, "{field} is not left out");
            let reply = app.get(large["href"].as_str().expect("a path")).send().await;
            assert_eq!(json!(reply.body.len()), large["bytes"]);
            assert_eq!(reply.header("content-length"), large["bytes"].to_string());
            assert_eq!(reply.header("content-type"), "application/json");
            found.push((format!("{} {field}", event["type"].as_str().expect("a type")), reply.ok(200)));
        }
    }
    found
}

async fn no_faults(app: &TestApp) {
    assert_eq!(runs::check(app.store(), None).await.expect("a check").faults, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_output_feeds_the_next_step() {
    let app = TestApp::new().await;
    workflows(&app).await;
    let text = long(MIB);
    let body = json!({"target": "outer", "type": "workflow", "input": {"text": text}});
    let run = app.post("/v1/run", body).send().await.ok(200);
    let count = text.chars().count().to_string();
    assert!(run["result"] == json!({"text": text, "length": count}), "{}", run["error"]);
    assert!(run["input"]["text"] == json!(text));
    assert!(app.get(&format!("/v1/run/{}", id(&run))).send().await.ok(200) == run);

    let events = journal(&app, &run, "").await;
    assert!(json!(events).to_string().len() < 10_000, "the journal is light");
    let large = follow(&app, &events).await;
    let kinds: Vec<&str> = large.iter().map(|(kind, _)| kind.as_str()).collect();
    let expected = [
        "step.started arguments",
        "step.completed output",
        "step.started arguments",
        "step.completed output",
        "run.succeeded result",
    ];
    assert_eq!(kinds, expected);
    assert!(large[4].1 == run["result"] && large[3].1 == json!({"again": text}));
    // In their places, when that is asked for.
    let full = journal(&app, &run, "?values=full").await;
    assert!(
        full[2]["data"]["output"] == json!({"text": text})
            || full[1]["data"]["arguments"] == json!({"text": text})
    );
    assert!(full.iter().all(|event| event["data"].get("large").is_none()));
    let wrong = app.get(&format!("/v1/run/{}/events?values=some", id(&run))).send().await;
    assert_eq!(wrong.error(422), ("invalid_value".to_owned(), Some("values".to_owned())));
    // Lists stay light.
    assert!(app.get("/v1/runs").send().await.body.len() < 10_000);
    no_faults(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_of_large_values_and_shows_them_on_request() {
    let app = TestApp::new().await;
    workflows(&app).await;
    let text = long(MIB);
    let id = start(&app, "outer", "workflow", json!({"text": text})).await;
    let stream = async |query: &str| -> String {
        let call = app.get(&format!("/v1/run/{id}/events{query}")).header("accept", "text/event-stream");
        let body = call.open().await.into_body().collect().await.expect("a body").to_bytes();
        String::from_utf8(body.to_vec()).expect("text")
    };
    let followed = stream("").await;
    assert!(followed.len() < 10_000 && followed.contains("event: run.succeeded"), "{}", followed.len());
    assert!(followed.contains(&format!("\"href\":\"/v1/run/{id}/values/result\"")), "{followed}");
    let full = stream("?values=full").await;
    assert!(full.contains("event: run.succeeded") && !full.contains("\"large\""));
    assert!(full.matches(&json!(text).to_string()).count() >= 5);
    let seen = full.lines().filter(|line| line.starts_with("id: ")).count();
    assert_eq!(seen, followed.lines().filter(|line| line.starts_with("id: ")).count());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_and_a_retry_have_the_values_too() {
    let app = TestApp::new().await;
    let echo = json!({"id": "echo", "name": "E", "output": "{{ input }}",
        "steps": [{"id": "pause", "uses": "sleep", "with": {"seconds": 0}}]});
    app.post("/v1/workflows", echo).send().await.ok(201);
    let outer = json!({"id": "outer", "name": "O", "steps": [
        {"id": "first", "uses": "workflow:echo", "with": {"text": "{{ input.text }}"}},
        {"id": "second", "uses": "tool:calculate", "needs": ["first"], "with": {"expression": "{{ input.sum }}"}}],
        "output": "{{ steps.first.output.text }}"});
    app.post("/v1/workflows", outer).send().await.ok(201);
    let text = long(MIB);
    let body = json!({"target": "outer", "type": "workflow", "input": {"text": text, "sum": "1 / 0"}});
    let failed = app.post("/v1/run", body).send().await.ok(200);
    assert_eq!(failed["state"], json!("FAILED"));
    assert!(failed["partialResult"] == json!({"first": {"text": text}}), "{}", failed["partialResult"]);
    let path = format!("/v1/run/{}", id(&failed));
    let retried = app.post(&format!("{path}/retry"), json!({})).send().await.ok(200);
    assert_eq!((&retried["state"], &retried["forkedFrom"]), (&json!("FAILED"), &failed["runId"]));
    assert!(retried["input"] == failed["input"]);
    let input = json!({"text": "short", "sum": "1 + 1"});
    let fork = json!({"at_step": "second", "input": input});
    let forked = app.post(&format!("{path}/fork"), fork).send().await.ok(200);
    assert!(forked["result"] == json!(text), "{}", forked["error"]);
    let large = follow(&app, &journal(&app, &forked, "").await).await;
    assert_eq!(large.len(), 3);
    assert!(large[1].1 == json!({"text": text}));
    let children = app.get(&format!("/v1/runs?parent_run_id={}", id(&forked))).send().await.ok(200);
    assert_eq!(children["runs"], json!([]), "what was taken over was not done again");
    no_faults(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_shown_the_beginning_of_a_large_output() {
    let echo = calls(&[call("c1", "run_workflow_echo", &json!({"text": "語".repeat(300_000)}).to_string())]);
    let (app, upstream) = app_and_model([echo, says("Read."), says("Again.")]).await;
    let workflow = json!({"id": "echo", "name": "E", "output": "{{ input.text }}",
        "steps": [{"id": "pause", "uses": "sleep", "with": {"seconds": 0}}]});
    app.post("/v1/workflows", workflow).send().await.ok(201);
    app.call(http::Method::PATCH, "/v1/agents/a")
        .json(json!({"tools": ["workflow:echo"]}))
        .send()
        .await
        .ok(200);
    let goal = format!("Read this. {}", long(MIB));
    let body = json!({"target": "a", "type": "agent", "input": {"goal": goal}, "thread_id": "t"});
    let run = app.post("/v1/run", body).send().await.ok(200);
    assert_eq!(run["result"], json!("Read."), "{}", run["error"]);
    let messages = sent(&upstream, 1)["messages"].clone();
    assert!(messages[1]["content"] == json!(goal), "the goal is the user's own");
    let shown = messages[3]["content"].as_str().expect("a text");
    let start: String = shown.chars().take(200).collect();
    assert!(start.starts_with("語語"), "{start}");
    assert!(shown.ends_with("\n\n[cut here: 250000 more characters are left out]"));
    // The thread goes on with what was said in it.
    let body = json!({"target": "a", "type": "agent", "input": {"goal": "And?"}, "thread_id": "t"});
    app.post("/v1/run", body).send().await.ok(200);
    let messages = sent(&upstream, 2)["messages"].clone();
    assert!(messages[1]["content"] == json!(goal) && messages[2]["content"] == json!("Read."));
    no_faults(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_looks_like_a_reference_comes_back_as_it_was() {
    let app = TestApp::new().await;
    let run = json!({"id": "echo", "name": "E", "output": "{{ steps.said.output }}",
        "steps": [{"id": "said", "uses": "signal", "with": {"name": "go"}}]});
    app.post("/v1/workflows", run).send().await.ok(201);
    for value in [
        json!({"large": {"output": {"bytes": 300_000, "href": "/v1/run/x/values/result"}}}),
        json!({"large": {"result": 300_000}}),
        json!("@300000"),
        json!("{\"large\":{\"output\":300000}}"),
    ] {
        let id = start(&app, "echo", "workflow", value.clone()).await;
        until_waiting(&app, &id, 1).await;
        app.post(&format!("/v1/run/{id}/signal"), json!({"name": "go", "data": value})).send().await.ok(202);
        let run = ended(&app, &id).await;
        assert_eq!((&run["input"], &run["result"]), (&value, &value));
        let events = journal(&app, &run, "").await;
        assert_eq!(events.last().expect("an end")["data"], json!({"result": value}));
        assert_eq!(events, journal(&app, &run, "?values=full").await);
    }
    no_faults(&app).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_is_the_workspaces_own_and_has_a_name() {
    let app = TestApp::new().await;
    workflows(&app).await;
    let body = json!({"target": "outer", "type": "workflow", "input": {"text": long(MIB)}});
    let run = app.post("/v1/run", body).send().await.ok(200);
    let (_, theirs) = app.other_workspace().await;
    let value = |name: &str| format!("/v1/run/{}/values/{name}", id(&run));
    app.get(&value("input")).send().await.ok(200);
    let is_missing = |reply: Reply| assert_eq!(reply.code(404), "not_found");
    is_missing(app.get(&value("input")).key(&theirs).send().await);
    for name in ["definition", "1.output", "99.output", "signal.x", "x.output", "2.", "%2e%2e", "input%00"] {
        is_missing(app.get(&value(name)).send().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let app = TestApp::with(
        nh_server::ServerSettings { max_body_bytes: 40 * MIB, ..Default::default() },
        Vec::new(),
    )
    .await;
    workflows(&app).await;
    let text = "x".repeat(17 * MIB);
    let body = json!({"target": "outer", "type": "workflow", "input": {"text": text}});
    let reply = app.post("/v1/run", body).send().await;
    assert_eq!(reply.error(413), ("payload_too_large".to_owned(), Some("input".to_owned())));
    let told = reply.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert_eq!(told, format!("`input` has {} bytes as JSON; at most 16777216 fit", text.len() + 11));
    // What an answer to a question brings is held to the same.
    let asks = json!({"id": "asks", "name": "A", "steps": [{"id": "ask", "uses": "approval"}]});
    app.post("/v1/workflows", asks).send().await.ok(201);
    let id = start(&app, "asks", "workflow", json!({})).await;
    until_waiting(&app, &id, 1).await;
    let path = format!("/v1/run/{id}/approve");
    let reply = app.post(&path, json!({"arguments": {"text": text}})).send().await;
    assert_eq!(reply.error(413), ("payload_too_large".to_owned(), Some("arguments".to_owned())));
    app.post(&path, json!({"arguments": {"text": long(MIB)}})).send().await.ok(202);
    assert!(ended(&app, &id).await["result"]["ask"]["arguments"]["text"] == json!(long(MIB)));
    no_faults(&app).await;
}
