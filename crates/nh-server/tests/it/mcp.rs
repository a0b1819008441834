//! `/v1/mcp` in both eras of the protocol: greetings, messages, keys and tools.

use http::Method;
use serde_json::{Value, json};

use crate::app::{Call, Reply, TestApp};

pub(crate) const NEW: &str = "2026-07-28";
pub(crate) const OLD: &str = "2025-11-25";

/// A request of the handshake era.
pub(crate) fn old(app: &TestApp, key: &str, method: &str, params: Value) -> Call {
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    app.anonymous(Method::POST, "/v1/mcp")
        .key(key)
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", OLD)
        .json(message)
}

/// A request of 2026-07-28, from a client that can do this.
pub(crate) fn new(app: &TestApp, key: &str, method: &str, mut params: Value, capabilities: Value) -> Call {
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

pub(crate) async fn told(app: &TestApp, method: &str, params: Value) -> Value {
    let reply = old(app, &app.key, method, params).send().await.ok(200);
    assert!(reply["error"].is_null(), "{reply}");
    reply["result"].clone()
}

pub(crate) fn code(reply: &Reply, status: u16) -> i64 {
    assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    reply.json()["error"]["code"].as_i64().expect("a code")
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
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
