//! `/v1/run` and `/v1/runs`.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::upstream::app_with_silence;

pub(crate) fn calculation(extra: Value) -> Value {
    let mut body = json!({"target": "calculate", "type": "tool", "input": {"expression": "17 * 23"}});
    body.as_object_mut().expect("object").extend(extra.as_object().expect("object").clone());
    body
}

#[tokio::test]
async fn a_sync_run_answers_with_the_whole_run() {
    let app = TestApp::new().await;
    let goal = json!({"target": "agent_default", "type": "agent",
        "input": {"goal": "What is 17 * 23, and what time is it in Tokyo?"}, "metadata": {"a": 1}});
    let run = app.post("/v1/run", goal).send().await.ok(200);
    assert_eq!(run["state"], json!("SUCCESS"), "{run}");
    assert_eq!(run["status"], json!("success"));
    let tools: Vec<_> =
        run["events"].as_array().expect("events").iter().map(|event| &event["tool"]).collect();
    assert_eq!(tools, ["calculate", "current_time"], "{run}");
    assert!(run["result"].as_str().is_some_and(|result| result.contains("391")), "{run}");
    assert_eq!(run["metadata"], json!({"a": 1}));
    let used: Vec<_> = run["usage"].as_object().expect("usage").keys().collect();
    let total = ["inputTokens", "outputTokens", "cachedTokens", "reasoningTokens", "costUsd"];
    assert_eq!(used[..5], total);
    assert_eq!(used[5..], ["computeSeconds", "byModel", "byTool"]);
    let path = format!("/v1/run/{}", run["runId"].as_str().expect("id"));
    assert_eq!(app.get(&path).send().await.ok(200), run);
}

#[tokio::test]
async fn an_async_run_answers_once_it_is_stored() {
    let app = TestApp::new().await;
    let accepted = app.post("/v1/run", calculation(json!({"async": true}))).send().await.ok(202);
    assert_eq!(accepted["status"], json!("pending"));
    assert_eq!(accepted["state"], json!("PENDING"));
    let path = format!("/v1/run/{}", accepted["runId"].as_str().expect("id"));
    assert_eq!(app.get(&path).send().await.ok(200)["target"], json!("calculate"));
}

#[tokio::test]
async fn a_delayed_run_is_pending_and_can_be_cancelled() {
    let app = TestApp::new().await;
    let later = json!({"async": true, "delay_seconds": 3600, "priority": -100, "timeout_seconds": 1});
    let accepted = app.post("/v1/run", calculation(later)).send().await.ok(202);
    let path = format!("/v1/run/{}", accepted["runId"].as_str().expect("id"));
    let run = app.get(&path).send().await.ok(200);
    assert_eq!((&run["state"], &run["startedAt"]), (&json!("PENDING"), &json!(null)), "{run}");
    let run = app.post(&format!("{path}/cancel"), json!({})).send().await.ok(200);
    assert_eq!(run["state"], json!("CANCELLED"), "{run}");
}

#[tokio::test]
async fn faults_in_a_run_are_named_and_what_comes_later_is_refused() {
    let app = TestApp::new().await;
    for (extra, status, code, param) in [
        (json!({"target": "nobody"}), 422, "unknown_target", "target"),
        (
            json!({"target": "nobody", "type": "agent", "input": {"goal": "x"}}),
            422,
            "unknown_target",
            "target",
        ),
        (json!({"type": "workflow"}), 422, "unknown_target", "target"),
        (json!({"type": "robot"}), 422, "invalid_value", "type"),
        (json!({"input": {}}), 422, "invalid_input", "input.expression"),
        (json!({"input": {"expression": 5}}), 422, "invalid_input", "input.expression"),
        (json!({"type": 5}), 400, "invalid_request", "type"),
        (json!({"async": "yes"}), 400, "invalid_request", "async"),
        (json!({"wait_seconds": 0}), 422, "invalid_value", "wait_seconds"),
        (json!({"wait_seconds": 301}), 422, "invalid_value", "wait_seconds"),
        (json!({"wait_seconds": -1}), 422, "invalid_value", "wait_seconds"),
        (json!({"wait_seconds": "1"}), 400, "invalid_request", "wait_seconds"),
        (json!({"timeout_seconds": 99_999_999_999_i64}), 422, "invalid_value", "timeout_seconds"),
        (json!({"timeout_seconds": 0}), 422, "invalid_value", "timeout_seconds"),
        (json!({"metadata": "x"}), 400, "invalid_request", "metadata"),
        (json!({"metadata": {"a": "x".repeat(20_000)}}), 422, "invalid_value", "metadata"),
        (json!({"thread_id": ""}), 422, "invalid_value", "thread_id"),
        (json!({"priority": 101}), 422, "invalid_value", "priority"),
        (json!({"priority": "high"}), 400, "invalid_request", "priority"),
        (json!({"delay_seconds": -1}), 422, "invalid_value", "delay_seconds"),
        (json!({"delay_seconds": 2_592_001}), 422, "invalid_value", "delay_seconds"),
        (json!({"budget": {"max_steps": 0}}), 422, "invalid_value", "budget.max_steps"),
        (json!({"webhook_url": "ftp://x.example"}), 422, "invalid_value", "webhook_url"),
        (json!({"model": "x"}), 400, "unknown_field", "model"),
    ] {
        let reply = app.post("/v1/run", calculation(extra.clone())).send().await;
        assert_eq!(reply.error(status), (code.to_owned(), Some(param.to_owned())), "{extra}");
    }
    assert_eq!(app.get("/v1/runs").send().await.ok(200)["runs"], json!([]));
}

#[tokio::test]
async fn faults_in_an_agents_input_are_named() {
    let app = TestApp::new().await;
    let body = json!({"target": "agent_default", "type": "agent"});
    assert_eq!(app.post("/v1/run", body).send().await.error(400).1.as_deref(), Some("input"));
    let messages = |messages: Value| json!({"messages": messages});
    for (input, status, code, param) in [
        (json!("hello"), 400, "invalid_request", "input"),
        (json!({}), 400, "invalid_request", "input.goal"),
        (json!({"goal": 5}), 400, "invalid_request", "input.goal"),
        (json!({"goal": " "}), 422, "invalid_input", "input.goal"),
        (json!({"goal": "x", "messages": []}), 422, "invalid_input", "input"),
        (json!({"goal": "x", "colour": "red"}), 400, "unknown_field", "input.colour"),
        (json!({"goal": "x", "thread_id": ""}), 422, "invalid_value", "input.thread_id"),
        (messages(json!("x")), 400, "invalid_request", "input.messages"),
        (messages(json!([])), 422, "invalid_input", "input.messages"),
        (messages(json!(["x"])), 400, "invalid_request", "input.messages[0]"),
        (messages(json!([{"content": "x"}])), 400, "invalid_request", "input.messages[0].role"),
        (messages(json!([{"role": "me", "content": "x"}])), 422, "invalid_input", "input.messages[0].role"),
        (messages(json!([{"role": "user"}])), 400, "invalid_request", "input.messages[0].content"),
    ] {
        let body = json!({"target": "agent_default", "type": "agent", "input": input});
        let reply = app.post("/v1/run", body).send().await;
        assert_eq!(reply.error(status), (code.to_owned(), Some(param.to_owned())), "{input}");
    }
}

#[tokio::test]
async fn a_tool_run_needs_tools_call_too() {
    let app = TestApp::new().await;
    let key = app.key_with("run:write").await;
    let reply = app.post("/v1/run", calculation(json!({}))).key(&key).send().await;
    assert_eq!(reply.error(403), ("missing_scope".to_owned(), Some("tools:call".to_owned())));
    let key = app.key_with("run:write tools:call").await;
    let run = app.post("/v1/run", calculation(json!({}))).key(&key).send().await.ok(200);
    assert_eq!(run["state"], json!("SUCCESS"), "{run}");
}

#[tokio::test]
async fn a_repeated_post_is_the_same_run() {
    let app = TestApp::new().await;
    let post = |extra: Value| app.post("/v1/run", calculation(extra)).header("idempotency-key", "once");
    let first = post(json!({})).send().await.ok(200);
    assert_eq!(post(json!({})).send().await.ok(200), first);
    assert_eq!(post(json!({"metadata": {}})).send().await.code(409), "idempotency_mismatch");
    assert_eq!(app.get("/v1/runs").send().await.ok(200)["runs"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_is_no_run_of_the_workspace_is_not_found() {
    let app = TestApp::new().await;
    let (_, theirs) = app.other_workspace().await;
    let run = app.post("/v1/run", calculation(json!({}))).send().await.ok(200);
    let path = format!("/v1/run/{}", run["runId"].as_str().expect("id"));
    assert_eq!(app.get(&path).key(&theirs).send().await.code(404), "not_found");
    assert_eq!(app.get("/v1/runs").key(&theirs).send().await.ok(200)["runs"], json!([]));
    for id in ["x", "00000000-0000-7000-8000-000000000000", "%2e%2e", "%00"] {
        assert_eq!(app.get(&format!("/v1/run/{id}")).send().await.code(404), "not_found", "{id}");
    }
}

#[tokio::test]
async fn runs_are_listed_newest_first_and_filtered() {
    let app = TestApp::new().await;
    let mut ids = Vec::new();
    for input in ["1 + 1", "1 +", "2 + 2"] {
        app.clock.advance_ms(1000);
        let run =
            app.post("/v1/run", calculation(json!({"input": {"expression": input}}))).send().await.ok(200);
        ids.insert(0, run["runId"].clone());
    }
    let list = |query: &str| app.get(&format!("/v1/runs{query}")).send();
    let found = |page: &Value| -> Vec<Value> {
        page["runs"].as_array().expect("runs").iter().map(|run| run["runId"].clone()).collect()
    };
    assert_eq!(found(&list("").await.ok(200)), ids);
    let page = list("?limit=2").await.ok(200);
    assert_eq!(found(&page), ids[..2]);
    let cursor = page["next_cursor"].as_str().expect("cursor");
    assert_eq!(found(&list(&format!("?limit=2&cursor={cursor}")).await.ok(200)), ids[2..]);
    assert_eq!(found(&list("?state=FAILED").await.ok(200)), ids[1..2]);
    assert_eq!(found(&list("?state=success&type=tool&target=calculate").await.ok(200)).len(), 2);
    assert_eq!(found(&list("?type=agent").await.ok(200)).len(), 0);
    assert_eq!(found(&list("?created_after=2026-02-06T12:00:02Z").await.ok(200)), ids[..2]);
    assert_eq!(found(&list("?created_before=2026-02-06T12:00:02Z").await.ok(200)), ids[2..]);
    assert_eq!(list("?state=DONE").await.error(422).1.as_deref(), Some("state"));
    assert_eq!(list("?created_after=now").await.error(400).1.as_deref(), Some("created_after"));
    assert_eq!(list("?colour=red").await.error(400).1.as_deref(), Some("colour"));
}

#[tokio::test]
async fn a_run_that_has_ended_cannot_be_cancelled() {
    let app = TestApp::new().await;
    let run = app.post("/v1/run", calculation(json!({}))).send().await.ok(200);
    let path = format!("/v1/run/{}/cancel", run["runId"].as_str().expect("id"));
    assert_eq!(app.post(&path, json!({})).send().await.code(409), "conflict");
    let missing = "/v1/run/00000000-0000-7000-8000-000000000000/cancel";
    assert_eq!(app.post(missing, json!({})).send().await.code(404), "not_found");
}

#[tokio::test]
async fn a_stopping_hub_takes_no_runs() {
    let app = TestApp::new().await;
    app.get("/v1/runs").send().await.ok(200);
    app.stopping.cancel();
    let reply = app.post("/v1/run", calculation(json!({}))).send().await;
    assert_eq!(reply.code(503), "shutting_down");
    assert!(reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_run_outlives_its_wait_and_is_cancelled_with_what_it_has_in_flight() {
    let app = app_with_silence().await;
    let goal =
        json!({"target": "agent_default", "type": "agent", "input": {"goal": "Hello"}, "wait_seconds": 1});
    let accepted = app.post("/v1/run", goal).send().await.ok(202);
    assert_eq!(accepted["status"], json!("pending"));
    let path = format!("/v1/run/{}", accepted["runId"].as_str().expect("id"));
    assert_eq!(app.get(&path).send().await.ok(200)["state"], json!("RUNNING"));

    let cancelled = app.post(&format!("{path}/cancel"), json!({})).send().await.ok(200);
    assert_eq!(cancelled["state"], json!("CANCELLED"));
    assert_eq!(cancelled["status"], json!("cancelled"));
    assert_eq!(app.post(&format!("{path}/cancel"), json!({})).send().await.code(409), "conflict");
    while app.hub.engine.running() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_waits_for_a_run_is_answered_when_the_hub_stops() {
    let app = app_with_silence().await;
    let goal = json!({"target": "agent_default", "type": "agent", "input": {"goal": "Hello"}});
    let waiting = app.post("/v1/run", goal).send();
    let stop = async {
        // The run is in the list once it is stored.
        while app.get("/v1/runs").send().await.ok(200)["runs"] == json!([]) {
            tokio::task::yield_now().await;
        }
        app.stopping.cancel();
    };
    let (reply, ()) = tokio::join!(waiting, stop);
    assert_eq!(reply.ok(202)["status"], json!("pending"));
}

#[tokio::test]
async fn a_repeated_post_beside_the_first_is_told_to_come_back() {
    let app = app_with_silence().await;
    let goal = json!({"target": "agent_default", "type": "agent", "input": {"goal": "Hello"}});
    let post = || app.post("/v1/run", goal.clone()).header("idempotency-key", "once");
    let second = async {
        while app.get("/v1/runs").send().await.ok(200)["runs"] == json!([]) {
            tokio::task::yield_now().await;
        }
        let reply = post().send().await;
        app.stopping.cancel();
        reply
    };
    let (first, second) = tokio::join!(post().send(), second);
    assert_eq!(first.ok(202)["status"], json!("pending"));
    assert_eq!(second.code(409), "idempotency_in_flight");
    assert_eq!(second.headers["retry-after"], "1");
}
