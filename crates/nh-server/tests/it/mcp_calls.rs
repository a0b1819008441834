//! Calls over the Model Context Protocol: as runs, with progress, as tasks, and given up.

use std::time::Duration;

use nh_types::run::RunState;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::mcp::{code, new, old, told};

#[tokio::test]
async fn a_call_is_a_run() {
    let app = TestApp::new().await;
    let called =
        told(&app, "tools/call", json!({"name": "calculate", "arguments": {"expression": "6*7"}})).await;
    assert_eq!(called["isError"], json!(false));
    assert_eq!(called["structuredContent"]["result"], "42");
    let text: Value =
        serde_json::from_str(called["content"][0]["text"].as_str().expect("text")).expect("json");
    assert_eq!(text, called["structuredContent"]);
    let run = called["_meta"]["neuralhub/runId"].as_str().expect("a run");
    let run = app.get(&format!("/v1/run/{run}")).send().await.ok(200);
    assert_eq!(
        (&run["type"], &run["target"], &run["state"]),
        (&json!("tool"), &json!("calculate"), &json!("SUCCESS"))
    );

    let wrong =
        told(&app, "tools/call", json!({"name": "calculate", "arguments": {"expresion": "6*7"}})).await;
    assert_eq!(wrong["isError"], json!(true));
    let said = wrong["content"][0]["text"].as_str().expect("text");
    assert!(said.contains("expression"), "{said}");
    let failed =
        told(&app, "tools/call", json!({"name": "calculate", "arguments": {"expression": "6*"}})).await;
    assert_eq!(failed["isError"], json!(true));
    assert!(failed["_meta"]["neuralhub/runId"].is_string(), "{failed}");
    let unset = told(&app, "tools/call", json!({"name": "web_search", "arguments": {"query": "x"}})).await;
    assert_eq!(unset["isError"], json!(true));
    let unknown = old(&app, &app.key, "tools/call", json!({"name": "conjure", "arguments": {}})).send().await;
    assert_eq!(code(&unknown, 200), -32602);

    let agent =
        told(&app, "tools/call", json!({"name": "run_agent_default", "arguments": {"goal": "What is 6*7?"}}))
            .await;
    assert_eq!(agent["isError"], json!(false), "{agent}");
    assert!(agent["content"][0]["text"].as_str().expect("text").contains("42"), "{agent}");
}

#[tokio::test]
async fn who_asks_hears_of_progress() {
    let app = TestApp::new().await;
    let params = json!({"name": "run_agent_default", "arguments": {"goal": "What is 6*7?"}, "_meta": {"progressToken": "p"}});
    let reply = old(&app, &app.key, "tools/call", params).send().await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "text/event-stream"));
    let text = String::from_utf8(reply.body.to_vec()).expect("text");
    let messages: Vec<Value> = text
        .lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str(data.trim()).ok())
        .collect();
    let (last, before) = messages.split_last().expect("messages");
    assert_eq!(last["result"]["isError"], json!(false), "{text}");
    let progress: Vec<f64> =
        before.iter().map(|one| one["params"]["progress"].as_f64().expect("a number")).collect();
    assert!(!progress.is_empty() && progress.is_sorted_by(|a, b| a < b), "{text}");
    assert!(before.iter().all(|one| one["params"]["progressToken"] == "p"), "{text}");
    assert!(
        before.iter().any(|one| one["params"]["message"].as_str().expect("text").contains("calculate")),
        "{text}"
    );
}

#[tokio::test]
async fn a_long_run_is_a_task_for_who_knows_tasks() {
    let app = TestApp::new().await;
    let flow = json!({"id": "careful", "name": "Careful", "steps": [
        {"id": "ask", "uses": "approval"}, {"id": "do", "uses": "tool:calculate", "needs": ["ask"], "with": {"expression": "6*7"}}]});
    app.post("/v1/workflows", flow).send().await.ok(201);
    let tasks = || json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let call = |method: &'static str, params: Value| new(&app, &app.key, method, params, tasks());
    let begin = || async {
        call("tools/call", json!({"name": "run_workflow_careful", "arguments": {}})).send().await.ok(200)["result"].clone()
    };
    let task = begin().await;
    assert_eq!((&task["resultType"], &task["status"]), (&json!("task"), &json!("input_required")), "{task}");
    let id = task["taskId"].clone();
    let seen = call("tasks/get", json!({"taskId": id})).send().await.ok(200)["result"].clone();
    let asked = &seen["inputRequests"]["ask"];
    assert_eq!(asked["method"], "elicitation/create", "{seen}");
    assert_eq!(asked["params"]["requestedSchema"]["properties"]["approve"]["type"], "boolean");

    let unknown = json!({"taskId": id, "inputResponses": {"nothing": {"action": "decline"}}});
    let refused = call("tasks/update", unknown).send().await;
    assert_eq!(code(&refused, 200), -32602);
    assert!(refused.json()["error"]["message"].as_str().expect("text").contains("[ask]"), "{refused:?}");
    let unclear = json!({"taskId": id, "inputResponses": {"ask": {"action": "accept", "content": {}}}});
    assert_eq!(code(&call("tasks/update", unclear).send().await, 200), -32602);
    let answer =
        json!({"taskId": id, "inputResponses": {"ask": {"action": "accept", "content": {"approve": true}}}});
    call("tasks/update", answer).send().await.ok(200);
    let ended = app.hub.wait_for_run(
        &app.workspace_id,
        id.as_str().expect("an id").parse().expect("an id"),
        Duration::from_secs(60),
    );
    assert!(ended.await.expect("read").is_some_and(|run| run.state == RunState::Success));
    let seen = call("tasks/get", json!({"taskId": id})).send().await.ok(200)["result"].clone();
    assert_eq!(seen["status"], "completed");
    assert_eq!(seen["result"]["isError"], json!(false), "{seen}");

    let id = begin().await["taskId"].clone();
    let declined = json!({"taskId": id, "inputResponses": {"ask": {"action": "decline"}}});
    call("tasks/update", declined).send().await.ok(200);
    let denied = app.hub.wait_for_run(
        &app.workspace_id,
        id.as_str().expect("an id").parse().expect("an id"),
        Duration::from_secs(60),
    );
    assert!(denied.await.expect("read").is_some_and(|run| run.state == RunState::Failed));
    let id = begin().await["taskId"].clone();
    call("tasks/cancel", json!({"taskId": id})).send().await.ok(200);
    let seen = call("tasks/get", json!({"taskId": id})).send().await.ok(200)["result"].clone();
    assert_eq!(seen["status"], "cancelled");
    let (_, theirs) = app.other_workspace().await;
    let elsewhere = new(&app, &theirs, "tasks/get", json!({"taskId": id}), tasks()).send().await;
    assert_eq!(code(&elsewhere, 200), -32602);
    let unaware = new(&app, &app.key, "tasks/get", json!({"taskId": id}), json!({})).send().await;
    assert_eq!(code(&unaware, 400), -32021);
}

#[tokio::test]
async fn who_goes_away_has_given_up_as_its_revision_says() {
    let app = TestApp::new().await;
    let flow = json!({"id": "careful", "name": "Careful", "steps": [{"id": "ask", "uses": "approval"}]});
    app.post("/v1/workflows", flow).send().await.ok(201);
    let waiting = async |app: &TestApp| loop {
        let runs = app.get("/v1/runs?state=WAITING").send().await.ok(200);
        if let Some(run) = runs["runs"][0]["runId"].as_str() {
            return run.parse().expect("an id");
        }
    };
    let params = || json!({"name": "run_workflow_careful", "arguments": {}});
    let ended = |id| app.hub.wait_for_run(&app.workspace_id, id, Duration::from_secs(60));

    let id = tokio::select! {
        reply = new(&app, &app.key, "tools/call", params(), json!({})).send() => panic!("{reply:?}"),
        id = waiting(&app) => id,
    };
    assert_eq!(ended(id).await.expect("read").map(|run| run.state), Some(RunState::Cancelled));

    let id = tokio::select! {
        reply = old(&app, &app.key, "tools/call", params()).send() => panic!("{reply:?}"),
        id = waiting(&app) => id,
    };
    app.post(&format!("/v1/run/{id}/approve"), json!({})).send().await.ok(202);
    assert_eq!(ended(id).await.expect("read").map(|run| run.state), Some(RunState::Success));

    // `neuralhub mcp` says that it means it.
    let call = old(&app, &app.key, "tools/call", params()).header("x-neuralhub-cancel-on-close", "true");
    let id = tokio::select! {
        reply = call.send() => panic!("{reply:?}"),
        id = waiting(&app) => id,
    };
    assert_eq!(ended(id).await.expect("read").map(|run| run.state), Some(RunState::Cancelled));
}
