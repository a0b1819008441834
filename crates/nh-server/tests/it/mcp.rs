//! `/v1/mcp` in both eras of the protocol, and what is found about it elsewhere.

use std::time::Duration;

use http::Method;
use nh_types::run::RunState;
use serde_json::{Value, json};

use crate::app::{Call, Reply, TestApp};

const NEW: &str = "2026-07-28";
const OLD: &str = "2025-11-25";

/// A request of the handshake era.
fn old(app: &TestApp, key: &str, method: &str, params: Value) -> Call {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    app.anonymous(Method::POST, "/v1/mcp")
        .key(key)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", OLD)
        .json(message)
}

/// A request of 2026-07-28, from a client that can do this.
fn new(app: &TestApp, key: &str, method: &str, mut params: Value, capabilities: Value) -> Call {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": NEW,
        "io.modelcontextprotocol/clientCapabilities": capabilities,
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    });
    let name = ["name", "uri", "taskId"].iter().find_map(|field| params[field].as_str()).map(str::to_owned);
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let call = app
        .anonymous(Method::POST, "/v1/mcp")
        .key(key)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", NEW)
        .header("mcp-method", method);
    let call = match name {
        Some(name) => call.header("mcp-name", &name),
        None => call,
    };
    call.json(message)
}

async fn told(app: &TestApp, method: &str, params: Value) -> Value {
    let reply = old(app, &app.key, method, params).send().await.ok(200);
    assert!(reply["error"].is_null(), "{reply}");
    reply["result"].clone()
}

fn code(reply: &Reply, status: u16) -> i64 {
    assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    reply.json()["error"]["code"].as_i64().expect("a code")
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|one| one["name"].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn both_eras_are_greeted() {
    let app = TestApp::new().await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", OLD] {
        let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let call = old(&app, &app.key, "initialize", params).header("mcp-protocol-version", version);
        let greeted = call.send().await.ok(200)["result"].clone();
        assert_eq!(greeted["protocolVersion"], version);
        assert_eq!(greeted["serverInfo"]["name"], "neuralhub");
        for offered in ["tools", "resources", "prompts"] {
            assert!(greeted["capabilities"][offered].is_object(), "{greeted}");
        }
    }
    let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let reply = old(&app, &app.key, "", json!({})).json(initialized).send().await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (202, 0));
    assert_eq!(told(&app, "ping", json!({})).await, json!({}));

    let greeted =
        new(&app, &app.key, "server/discover", json!({}), json!({})).send().await.ok(200)["result"].clone();
    assert_eq!(greeted["resultType"], "complete");
    let versions = greeted["supportedVersions"].as_array().expect("versions");
    assert!(versions.contains(&json!(NEW)) && versions.contains(&json!(OLD)), "{greeted}");
    assert!(greeted["capabilities"]["extensions"]["io.modelcontextprotocol/tasks"].is_object(), "{greeted}");
}

#[tokio::test]
async fn what_is_no_message_is_told_in_json_rpc() {
    let app = TestApp::new().await;
    let call = |key: &str| {
        app.anonymous(Method::POST, "/v1/mcp")
            .key(key)
            .header("accept", "application/json, text/event-stream")
    };
    let reply = call(&app.key).header("content-type", "application/json").body("{nothing").send().await;
    assert_eq!(code(&reply, 400), -32700);
    let message = |field: &str, value: Value| {
        let mut message = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {}});
        *message.pointer_mut(field).expect("a field") = value;
        message
    };
    let long = "x".repeat(100_000);
    let wrong = [
        json!({"hello": "world"}),
        json!([message("/id", json!(1))]),
        message("/method", json!(5)),
        message("/method", json!(long)),
        message("/id", json!(long)),
        message("/params", json!({"_meta": {"x": long}})),
        message("/params", json!({"_meta": {"progressToken": "x".repeat(1000)}})),
    ];
    for body in wrong {
        let reply = call(&app.key).json(body).send().await;
        assert_eq!(code(&reply, 400), -32600);
        assert!(reply.body.len() < 2000, "{reply:?}");
    }
    let reply = old(&app, &app.key, "ping", json!({})).header("mcp-session-id", "theirs").send().await;
    assert_eq!(code(&reply, 404), -32600);
    old(&app, &app.key, "ping", json!({})).header("accept", "*/*").send().await.ok(200);
    let reply = old(&app, &app.key, "tools/conjure", json!({})).send().await;
    assert_eq!(code(&reply, 200), -32601);
    assert_eq!(code(&new(&app, &app.key, "tools/conjure", json!({}), json!({})).send().await, 404), -32601);
    let reply = new(&app, &app.key, "tools/list", json!({}), json!({}))
        .header("mcp-method", "prompts/list")
        .send()
        .await;
    assert_eq!(code(&reply, 400), -32020);
    let reply = old(&app, &app.key, "tools/list", json!({})).header("mcp-protocol-version", NEW);
    let reply = reply.header("mcp-method", "tools/list").send().await;
    assert_eq!(code(&reply, 400), -32602);
    let reply = old(&app, &app.key, "tools/list", json!({})).header("accept", "text/html").send().await;
    assert_eq!(code(&reply, 400), -32600);
    let reply = old(&app, &app.key, "tools/list", json!({"cursor": "nonsense"})).send().await;
    assert_eq!(code(&reply, 200), -32602);
    let elsewhere = app.get("/v1/mcp/manifest?limit=1").send().await.ok(200)["nextCursor"].clone();
    let reply = old(&app, &app.key, "resources/list", json!({"cursor": elsewhere})).send().await;
    assert_eq!(code(&reply, 200), -32602);
    for method in [Method::GET, Method::DELETE] {
        let reply = app.call(method, "/v1/mcp").header("accept", "text/event-stream").send().await;
        assert_eq!(code(&reply, 405), -32600);
        assert!(reply.header("allow").contains("POST"));
    }
    let foreign = old(&app, &app.key, "ping", json!({})).header("origin", "http://evil.example").send().await;
    assert_eq!(code(&foreign, 403), -32600);
    old(&app, &app.key, "ping", json!({})).header("origin", "http://127.0.0.1:8080").send().await.ok(200);
    let rebound = old(&app, &app.key, "ping", json!({})).header("host", "evil.example").send().await;
    assert_eq!(code(&rebound, 403), -32600);
}

#[tokio::test]
async fn a_key_is_needed_and_a_session_is_none() {
    let app = TestApp::new().await;
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    for cookie in ["", "nh_session=0123456789012345678901234567890123456789012"] {
        let reply = app
            .anonymous(Method::POST, "/v1/mcp")
            .header("cookie", cookie)
            .json(message.clone())
            .send()
            .await;
        assert_eq!(code(&reply, 401), -32600);
        assert_eq!(reply.header("www-authenticate"), "Bearer");
        assert_eq!(reply.json()["error"]["data"]["code"], "missing_credential");
    }
    let reply = old(&app, &app.key_with("memories:read").await, "ping", json!({})).send().await;
    assert_eq!(code(&reply, 403), -32600);
    assert_eq!(reply.json()["error"]["data"]["param"], "tools:read");
}

#[tokio::test]
async fn tools_are_those_that_the_key_may_call() {
    let app = TestApp::new().await;
    app.post(
        "/v1/agents",
        json!({"id": "researcher", "name": "Researcher", "description": "Looks things up."}),
    )
    .send()
    .await
    .ok(201);
    let flow = json!({"id": "workflow_report", "name": "Report", "steps": [{"id": "a", "uses": "tool:current_time"}]});
    app.post("/v1/workflows", flow).send().await.ok(201);
    for (id, schema) in [("w_text", json!({"type": "string"})), ("w_any", json!({"required": ["a"]}))] {
        let flow = json!({"id": id, "name": id, "input_schema": schema, "steps": [{"id": "a", "uses": "tool:current_time"}]});
        app.post("/v1/workflows", flow).send().await.ok(201);
    }
    let listed = told(&app, "tools/list", json!({})).await;
    assert!(
        listed["tools"].as_array().expect("tools").iter().all(|tool| tool["inputSchema"]["type"] == "object")
    );
    let all = [
        "calculate",
        "current_time",
        "http_fetch",
        "memory_search",
        "memory_store",
        "storage_list",
        "storage_read",
        "storage_write",
        "run_agent_researcher",
        "run_agent_default",
        "run_workflow_report",
        "run_workflow_w_any",
    ];
    assert_eq!(names(&listed["tools"]), all);
    let calculate = &listed["tools"][0];
    assert_eq!(calculate["inputSchema"]["type"], "object");
    assert_eq!(calculate["outputSchema"]["type"], "object");
    let hints = json!({"readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false});
    assert_eq!(calculate["annotations"], hints);
    assert_eq!(listed["tools"][8]["title"], "Researcher");
    assert_eq!(listed["tools"][8]["description"], "Looks things up.");

    let few = app.key_with("tools:call run:write memories:read").await;
    let reply = old(&app, &few, "tools/list", json!({})).send().await.ok(200);
    let some = [
        "calculate",
        "current_time",
        "http_fetch",
        "memory_search",
        "run_workflow_report",
        "run_workflow_w_any",
    ];
    assert_eq!(names(&reply["result"]["tools"]), some);
    let call = json!({"name": "memory_store", "arguments": {"content": "x"}});
    assert_eq!(code(&old(&app, &few, "tools/call", call).send().await, 200), -32602);
    let none = app.key_with("tools:read").await;
    let reply = old(&app, &none, "tools/list", json!({})).send().await.ok(200);
    assert_eq!(reply["result"]["tools"], json!([]));
}

#[tokio::test]
async fn two_that_want_one_name_have_two() {
    let app = TestApp::new().await;
    for id in ["twin", "agent_twin"] {
        app.post("/v1/agents", json!({"id": id, "name": id})).send().await.ok(201);
    }
    let listed = told(&app, "tools/list", json!({})).await;
    let mut listed = names(&listed["tools"]);
    listed.retain(|name| name.starts_with("run_agent"));
    assert_eq!(listed, ["run_agent.twin", "run_agent_twin", "run_agent_default"]);
    for (name, target) in [("run_agent_twin", "agent_twin"), ("run_agent.twin", "twin")] {
        let called = told(&app, "tools/call", json!({"name": name, "arguments": {"goal": "2+2"}})).await;
        let run = called["_meta"]["neuralhub/runId"].as_str().expect("a run").to_owned();
        assert_eq!(app.get(&format!("/v1/run/{run}")).send().await.ok(200)["target"], target);
    }
}

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

#[tokio::test]
async fn memories_files_and_runs_are_resources() {
    let app = TestApp::new().await;
    let memory =
        app.post("/v1/memory", json!({"content": "The cat is grey."})).send().await.ok(201)["id"].clone();
    app.call(Method::POST, "/v1/storage/upload?pathname=a%20b/t%C3%A9st.txt")
        .body("words")
        .send()
        .await
        .ok(201);
    app.call(Method::POST, "/v1/storage/upload?pathname=bytes.bin")
        .body(vec![0_u8, 255])
        .send()
        .await
        .ok(201);
    let run = told(&app, "tools/call", json!({"name": "current_time", "arguments": {}})).await;
    let run = run["_meta"]["neuralhub/runId"].as_str().expect("a run").to_owned();
    let listed = told(&app, "resources/list", json!({})).await;
    let uris: Vec<&str> = listed["resources"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["uri"].as_str().expect("a uri"))
        .collect();
    let memory = format!("neuralhub://memories/{}", memory.as_str().expect("an id"));
    let run = format!("neuralhub://runs/{run}");
    let file = "neuralhub://storage/a%20b/t%C3%A9st.txt";
    assert_eq!(uris, [memory.as_str(), file, "neuralhub://storage/bytes.bin", run.as_str()]);

    let read = |uri: &str| told(&app, "resources/read", json!({"uri": uri}));
    let shown = |read: Value| {
        serde_json::from_str::<Value>(read["contents"][0]["text"].as_str().expect("text")).expect("json")
    };
    assert_eq!(shown(read(&memory).await)["content"], "The cat is grey.");
    assert_eq!(shown(read(&run).await)["target"], "current_time");
    let text = read(file).await;
    assert_eq!((&text["contents"][0]["text"], &text["contents"][0]["uri"]), (&json!("words"), &json!(file)));
    assert_eq!(read("neuralhub://storage/bytes.bin").await["contents"][0]["blob"], "AP8=");
    assert_eq!(
        told(&app, "resources/templates/list", json!({})).await["resourceTemplates"].as_array().map(Vec::len),
        Some(3)
    );

    let (_, theirs) = app.other_workspace().await;
    let few = app.key_with("tools:read memories:read").await;
    let reply = old(&app, &few, "resources/list", json!({})).send().await.ok(200);
    assert_eq!(reply["result"]["resources"].as_array().map(Vec::len), Some(1));
    for (key, uri) in [
        (&theirs, memory.as_str()),
        (&theirs, file),
        (&theirs, &run),
        (&few, file),
        (&few, &run),
        (&app.key, "file:///etc/passwd"),
        (&app.key, "neuralhub://storage/../x"),
    ] {
        let reply = old(&app, key, "resources/read", json!({"uri": uri})).send().await;
        assert_eq!(code(&reply, 200), -32002, "{uri}");
    }
    let gone = new(&app, &app.key, "resources/read", json!({"uri": "neuralhub://storage/none"}), json!({}))
        .send()
        .await;
    assert_eq!(code(&gone, 200), -32602);
}

#[tokio::test]
async fn agents_are_prompts() {
    let app = TestApp::new().await;
    let agent = json!({"id": "pirate", "name": "Pirate", "description": "Talks so.", "system_prompt": "Talk as a pirate."});
    app.post("/v1/agents", agent).send().await.ok(201);
    let listed = told(&app, "prompts/list", json!({})).await;
    assert_eq!(names(&listed["prompts"]), ["pirate", "agent_default"]);
    let prompt =
        told(&app, "prompts/get", json!({"name": "pirate", "arguments": {"goal": "Greet me."}})).await;
    let said: Vec<_> =
        prompt["messages"].as_array().expect("a list").iter().map(|one| &one["content"]["text"]).collect();
    assert_eq!(said, ["Talk as a pirate.", "Greet me."]);
    for params in [json!({"name": "nobody"}), json!({"name": "pirate", "arguments": {"gaol": "x"}})] {
        assert_eq!(code(&old(&app, &app.key, "prompts/get", params).send().await, 200), -32602);
    }
    let few = app.key_with("tools:read").await;
    let reply = old(&app, &few, "prompts/list", json!({})).send().await.ok(200);
    assert_eq!(reply["result"]["prompts"], json!([]));
    assert_eq!(code(&old(&app, &few, "prompts/get", json!({"name": "pirate"})).send().await, 200), -32602);
}

#[tokio::test]
async fn lists_go_on_where_they_ended() {
    let app = TestApp::new().await;
    for number in 0..3 {
        app.post("/v1/agents", json!({"name": format!("a{number}")})).send().await.ok(201);
    }
    let whole = app.get("/v1/mcp/manifest").send().await.ok(200);
    assert!(whole["nextCursor"].is_null(), "{whole}");
    let (mut seen, mut path) = (Vec::new(), "/v1/mcp/manifest?limit=5".to_owned());
    loop {
        let page = app.get(&path).send().await.ok(200);
        seen.extend(page["tools"].as_array().expect("tools").clone());
        let Some(next) = page["nextCursor"].as_str() else { break };
        path = format!("/v1/mcp/manifest?limit=5&cursor={next}");
    }
    assert_eq!(json!(seen), whole["tools"]);
    assert_eq!(whole["tools"], told(&app, "tools/list", json!({})).await["tools"]);
    assert_eq!(whole["endpoint"], "http://127.0.0.1:8080/v1/mcp");
    assert_eq!((&whole["name"], &whole["protocolVersion"]), (&json!("neuralhub"), &json!(NEW)));
}

#[tokio::test]
async fn a_registry_is_told_where_the_hub_is() {
    let url = "https://hub.example.com".parse().expect("a url");
    let settings =
        nh_server::ServerSettings { public_url: Some(url), ..nh_server::ServerSettings::default() };
    let app = TestApp::with(settings, Vec::new()).await;
    let entry = app.get("/v1/mcp/server.json").send().await.ok(200);
    assert_eq!(entry["name"], "com.example.hub/neuralhub");
    assert_eq!(entry["remotes"][0]["url"], "https://hub.example.com/v1/mcp");
    assert!(entry["description"].as_str().is_some_and(|text| text.len() <= 100), "{entry}");
}

#[tokio::test]
async fn llms_txt_lists_what_the_reader_may_call() {
    let app = TestApp::new().await;
    let anyone = app.anonymous(Method::GET, "/llms.txt").header("accept", "*/*").send().await;
    assert_eq!(
        (anyone.header("content-type"), anyone.header("vary")),
        ("text/markdown; charset=utf-8", "Accept, Authorization, Cookie")
    );
    let text = String::from_utf8(anyone.body.to_vec()).expect("text");
    assert!(text.starts_with("# NeuralHub Capabilities\n\n> "), "{text}");
    assert!(text.contains("- [web_search](http://127.0.0.1:8080/v1/tools/web_search): "), "{text}");
    assert!(!text.contains("agent_default"), "{text}");
    let shown = app.get("/llms.txt").header("accept", "application/json").send().await.ok(200);
    let text = shown["content"].as_str().expect("text");
    assert!(
        text.contains("- [run_agent_default](http://127.0.0.1:8080/v1/agents/agent_default): "),
        "{text}"
    );
    assert!(!text.contains("[web_search]"), "{text}");
    let full = app.get("/llms-full.txt").send().await;
    let text = String::from_utf8(full.body.to_vec()).expect("text");
    assert!(text.contains("- `POST /v1/run` (run:write): ") && text.contains("## calculate\n"), "{text}");
    let wrong = app.anonymous(Method::GET, "/llms.txt").key("nh_wrong").send().await;
    assert_eq!(wrong.status.as_u16(), 401);
}
