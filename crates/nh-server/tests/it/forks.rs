//! `POST /v1/run/{runId}/retry` and `/fork`.

use nh_store::runs;
use nh_testkit::upstream::Reply;
use nh_types::ScopeSet;
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, call, calls, run, says, sent};
use crate::app::TestApp;
use crate::runs::calculation;

fn path(run: &Value, operation: &str) -> String {
    format!("/v1/run/{}/{operation}", run["runId"].as_str().expect("an id"))
}

fn adds() -> Reply {
    calls(&[call("c1", "calculate", "{\"expression\": \"1 + 1\"}")])
}

async fn kinds(app: &TestApp, run: &Value) -> Vec<String> {
    let page = app.get(&path(run, "events")).send().await.ok(200);
    let kinds = page["events"].as_array().expect("events").iter();
    kinds.map(|event| event["type"].as_str().expect("a type").to_owned()).collect()
}

#[tokio::test]
async fn a_retry_goes_on_from_the_step_that_failed() {
    let refusal = Reply::json(400, &json!({"error": {"message": "no", "type": "invalid_request_error"}}));
    let (app, upstream) = app_and_model([adds(), refusal, says("Two.")]).await;
    let failed = run(&app).await;
    assert_eq!(failed["state"], json!("FAILED"), "{failed}");

    let retried = app.post(&path(&failed, "retry"), json!({})).send().await.ok(200);
    assert_eq!((&retried["state"], &retried["result"]), (&json!("SUCCESS"), &json!("Two.")), "{retried}");
    assert_eq!(retried["forkedFrom"], failed["runId"]);
    assert_ne!(retried["runId"], failed["runId"]);
    // The first call of the model was the old run's; its tool was not called again.
    assert_eq!(retried["usage"]["inputTokens"], json!(10));
    assert_eq!(retried["events"][0]["finishedAt"], failed["events"][0]["finishedAt"]);
    assert_eq!(upstream.calls().len(), 3);
    assert_eq!(sent(&upstream, 2)["messages"], sent(&upstream, 1)["messages"]);
    let expected = [
        "run.created",
        "step.started",
        "step.completed",
        "step.started",
        "step.completed",
        "run.forked",
        "step.started",
        "step.completed",
        "run.succeeded",
    ];
    assert_eq!(kinds(&app, &retried).await, expected);
    assert_eq!(app.get(&path(&failed, "events")).send().await.ok(200)["events"][1]["seq"], json!(2));

    // No body is as good as an empty one.
    let reply = app.anonymous(http::Method::POST, &path(&retried, "retry")).key(&app.key).send().await;
    assert_eq!(reply.error(409), ("conflict".to_owned(), Some("runId".to_owned())));
}

#[tokio::test]
async fn a_retry_asks_a_model_again_that_said_nothing_but_not_beyond_max_steps() {
    let nothing = Reply::json(
        200,
        &json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": null}, "finish_reason": "stop"}]}),
    );
    let (app, _upstream) = app_and_model([nothing, says("Two."), adds(), adds(), adds()]).await;
    let failed = run(&app).await;
    assert_eq!(failed["error"]["code"], json!("empty_answer"), "{failed}");
    let retried = app.post(&path(&failed, "retry"), json!({})).send().await.ok(200);
    assert_eq!(retried["result"], json!("Two."), "{retried}");

    let spent = run(&app).await;
    assert_eq!(spent["error"]["code"], json!("max_steps_exceeded"), "{spent}");
    let reply = app.post(&path(&spent, "retry"), json!({})).send().await;
    assert_eq!(reply.error(409), ("conflict".to_owned(), Some("runId".to_owned())));
}

#[tokio::test]
async fn a_fork_goes_its_own_way_from_a_step_on() {
    let (app, upstream) =
        app_and_model([adds(), says("Two."), says("II"), says("Not known."), says("Nothing.")]).await;
    let first = run(&app).await;
    let fork = async |body: Value| app.post(&path(&first, "fork"), body).send().await.ok(200);

    let roman =
        fork(json!({"at_step": "model:2", "system_prompt": "Speak Latin.", "metadata": {"try": 2}})).await;
    assert_eq!((&roman["result"], &roman["metadata"]), (&json!("II"), &json!({"try": 2})), "{roman}");
    let shown = &sent(&upstream, 2)["messages"];
    assert_eq!((&shown[0]["content"], &shown[3]["content"]), (&json!("Speak Latin."), &json!("1 + 1 = 2")));

    // Without the tool, the call that the model had asked for is refused.
    let toolless = fork(json!({"at_step": "tool:1.1", "tools": []})).await;
    assert_eq!(toolless["events"][0]["error"]["code"], json!("unknown_tool"), "{toolless}");
    assert_eq!(sent(&upstream, 3).get("tools"), None);

    // From the first step, with another goal, nothing is shared.
    let anew = fork(json!({"input": {"goal": "Say nothing."}})).await;
    assert_eq!((&anew["result"], &anew["events"]), (&json!("Nothing."), &json!([])), "{anew}");
    assert_eq!(anew["input"], json!({"goal": "Say nothing."}));
    let once = |body: Value| app.post(&path(&first, "fork"), body).header("idempotency-key", "f").send();
    let expression = json!({"at_step": "model:9"});
    assert_eq!(once(expression).await.error(422), ("invalid_input".to_owned(), Some("at_step".to_owned())));
}

#[tokio::test]
async fn a_tool_run_is_forked_with_other_arguments_and_repeats_once() {
    let app = TestApp::new().await;
    let first = app.post("/v1/run", calculation(json!({}))).send().await.ok(200);
    let fork = |body: Value| app.post(&path(&first, "fork"), body).header("idempotency-key", "one").send();
    let other = json!({"input": {"expression": "2 + 2"}});
    let forked = fork(other.clone()).await.ok(200);
    assert_eq!(forked["result"]["result"], json!("4"), "{forked}");
    assert_eq!(fork(other).await.ok(200)["runId"], forked["runId"]);
    assert_eq!(fork(json!({})).await.code(409), "idempotency_mismatch");
}

#[tokio::test]
async fn faults_are_named() {
    let app = TestApp::new().await;
    let tool = app.post("/v1/run", calculation(json!({}))).send().await.ok(200);
    let goal = json!({"target": "agent_default", "type": "agent", "input": {"goal": "Calculate 6 * 7"}});
    let agent = app.post("/v1/run", goal).send().await.ok(200);
    for (run, body, status, code, param) in [
        (&tool, json!({"model_id": "x"}), 422, "invalid_input", "model_id"),
        (&tool, json!({"input": {"expression": 1}}), 422, "invalid_input", "input.expression"),
        (&agent, json!({"at_step": "model:7"}), 422, "invalid_input", "at_step"),
        (&agent, json!({"at_step": 7}), 400, "invalid_request", "at_step"),
        (&agent, json!({"tools": ["nothing"]}), 422, "invalid_value", "tools[0]"),
        (&agent, json!({"max_steps": 0}), 422, "invalid_value", "max_steps"),
        (&agent, json!({"input": {"goal": ""}}), 422, "invalid_input", "input.goal"),
        (&agent, json!({"timeout_seconds": 0}), 422, "invalid_value", "timeout_seconds"),
        (&agent, json!({"colour": "red"}), 400, "unknown_field", "colour"),
    ] {
        let reply = app.post(&path(run, "fork"), body.clone()).send().await;
        assert_eq!(reply.error(status), (code.to_owned(), Some(param.to_owned())), "{body}");
    }
    let told = app.post(&path(&agent, "fork"), json!({"at_step": "model:7"})).send().await;
    let told = told.json()["error"]["message"].clone();
    assert_eq!(told, "the run has no step `model:7`; its steps are model:1, tool:1.1, model:2");
}

#[tokio::test]
async fn a_fork_may_do_no_more_than_the_old_run_or_who_asks() {
    let app = TestApp::new().await;
    let weak = app.key_with("run:write").await;
    let body = json!({"target": "agent_default", "type": "agent", "input": {"goal": "Calculate 6 * 7"}});
    let old = app.post("/v1/run", body).key(&weak).send().await.ok(200);
    let forked = app.post(&path(&old, "fork"), json!({})).send().await.ok(200);
    let id = forked["runId"].as_str().expect("an id").parse().expect("a run's id");
    let stored = runs::find(app.store(), &app.workspace_id, id).await.expect("read").expect("there");
    assert_eq!(stored.scopes, ScopeSet::from_text("run:write").expect("scopes"));

    // An agent's tools and model are what such a key is held to.
    let wider = json!({"tools": ["*"], "model_id": "dear"});
    let reply = app.post(&path(&old, "fork"), wider).key(&weak).send().await;
    assert_eq!(reply.error(403), ("missing_scope".to_owned(), Some("agents:write".to_owned())));
    app.post(&path(&old, "fork"), json!({"at_step": "model:2"})).key(&weak).send().await.ok(200);

    let tool = app.post("/v1/run", calculation(json!({}))).send().await.ok(200);
    let reply = app.post(&path(&tool, "fork"), json!({})).key(&weak).send().await;
    assert_eq!(reply.error(403), ("missing_scope".to_owned(), Some("tools:call".to_owned())));
    let (_, theirs) = app.other_workspace().await;
    for operation in ["fork", "retry"] {
        let reply = app.post(&path(&tool, operation), json!({})).key(&theirs).send().await;
        assert_eq!(reply.code(404), "not_found");
    }
}

#[tokio::test]
async fn a_fork_keeps_to_the_time_that_its_key_may_take() {
    let app = TestApp::new().await;
    let old = app.post("/v1/run", calculation(json!({}))).send().await.ok(200);
    let body = json!({"name": "k", "scopes": ["run:write", "tools:call"], "limits": {"timeout_seconds": 60}});
    let key = app.post("/v1/keys", body).send().await.ok(201);
    let key = key["key"].as_str().expect("a key");
    for (timeout, expected_ms) in [(json!(604_800), 60_000), (json!(5), 5_000), (Value::Null, 60_000)] {
        let fork = app.post(&path(&old, "fork"), json!({"timeout_seconds": timeout})).key(key);
        let fork = fork.send().await.ok(200);
        let id = fork["runId"].as_str().expect("an id").parse().expect("an id");
        let run = runs::find(app.store(), &app.workspace_id, id).await.expect("a store").expect("a run");
        assert_eq!(run.timeout_ms, Some(expected_ms), "{timeout}");
    }
}
