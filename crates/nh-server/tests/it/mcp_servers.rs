//! Servers of the Model Context Protocol, and their tools.

use http::Method;
use nh_models::{ProviderKind, ResolvedProvider, Timeouts};
use nh_server::ServerSettings;
use nh_testkit::TestStore;
use nh_testkit::mcp::{Answer, McpStub, text, tool};
use nh_testkit::upstream::Upstream;
use serde_json::{Value, json};

use crate::agent_runs::{call, calls, says};
use crate::app::TestApp;
use crate::receiver::{app_with, client, telling_app};
use crate::upstream::MODEL;

const TOKEN: &str = "tok-hush/\"quoted\" 0123456789";

pub(crate) async fn register(app: &TestApp, stub: &McpStub) -> Value {
    let server = json!({"name": "tickets", "url": stub.url(), "bearer_token": TOKEN,
        "headers": {"X-Team": "blue"}, "timeout_seconds": 5});
    app.post("/v1/mcp/servers", server).send().await.ok(201)
}

pub(crate) async fn run(app: &TestApp, name: &str, input: Value) -> Value {
    app.post("/v1/run", json!({"target": name, "type": "tool", "input": input})).send().await.ok(200)
}

async fn refresh(app: &TestApp) -> Value {
    app.post("/v1/mcp/servers/tickets/refresh", json!({})).send().await.ok(200)
}

async fn names(app: &TestApp) -> Vec<String> {
    let tools = app.get("/v1/tools?limit=1000").send().await.ok(200);
    let tools = tools["tools"].as_array().expect("tools").iter().filter(|tool| tool["kind"] == "mcp");
    tools.map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn the_tools_of_a_server_are_tools_like_any_other() {
    for stub in [McpStub::start().await, McpStub::modern().await] {
        let app = telling_app().await;
        stub.offer(json!([tool("find"), {"name": "count", "description": "Counts.", "inputSchema": {"type": "object"},
            "outputSchema": {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]},
            "annotations": {"readOnlyHint": true, "openWorldHint": false}}]));
        let made = register(&app, &stub).await;
        assert_eq!((&made["status"], &made["server"]), (&json!("available"), &json!("stub 1.2")), "{made}");
        assert_eq!(made["tools"], json!(["tickets.count", "tickets.find"]));
        assert_eq!((&made["kind"], &made["secrets"]), (&json!("remote"), &json!(["bearer_token"])));
        let tools = stub.asked("tools/list").remove(0);
        assert_eq!(tools.header("authorization"), format!("Bearer {TOKEN}"));
        assert_eq!(tools.header("x-team"), "blue");

        let shown = app.get("/v1/tools/tickets.count").send().await.ok(200);
        assert_eq!((&shown["kind"], &shown["mcp_server"]), (&json!("mcp"), &json!("tickets")));
        let effects =
            json!({"read_only": true, "destructive": false, "idempotent": true, "open_world": false});
        assert_eq!((&shown["effects"], &shown["scopes"]), (&effects, &json!(["tools:call"])));
        assert_eq!((&shown["repeatable"], &shown["available"]), (&json!(true), &json!(true)));

        stub.result(text("Ticket 7"));
        let ended = run(&app, "tickets.find", json!({"words": "leak"})).await;
        assert_eq!((&ended["state"], &ended["result"]), (&json!("SUCCESS"), &json!("Ticket 7")), "{ended}");
        let called = stub.asked("tools/call").remove(0);
        assert_eq!(
            (&called.params["name"], &called.params["arguments"]),
            (&json!("find"), &json!({"words": "leak"}))
        );
        stub.result(json!({"content": [], "structuredContent": {"count": 3}}));
        assert_eq!(run(&app, "tickets.count", json!({})).await["result"], json!({"count": 3}));
        stub.result(json!({"content": [{"type": "text", "text": "no such team"}], "isError": true}));
        let failed = run(&app, "tickets.count", json!({})).await;
        assert_eq!(
            (&failed["error"]["code"], &failed["error"]["message"]),
            (&json!("tool_failed"), &json!("no such team"))
        );
        stub.result(json!({"content": [], "structuredContent": {"count": "three"}}));
        assert_eq!(run(&app, "tickets.count", json!({})).await["error"]["code"], "invalid_output");

        let manifest = app.get("/v1/mcp/manifest").send().await.ok(200);
        assert!(
            manifest["tools"].as_array().expect("tools").iter().any(|tool| tool["name"] == "tickets.find")
        );
        let few = app.key_with("tools:read run:write").await;
        let body = json!({"target": "tickets.find", "type": "tool", "input": {"words": "x"}});
        assert_eq!(app.post("/v1/run", body).key(&few).send().await.code(403), "missing_scope");
        let (_, other) = app.other_workspace().await;
        assert_eq!(app.get("/v1/mcp/servers/tickets").key(&other).send().await.code(404), "not_found");
        assert_eq!(app.get("/v1/tools/tickets.find").key(&other).send().await.code(404), "not_found");
        let theirs = json!({"name": "tickets", "url": stub.url()});
        let theirs = app.post("/v1/mcp/servers", theirs).key(&other).send().await.ok(201);
        assert_eq!(theirs["secrets"], json!([]));
        let last = stub.asked("tools/list").pop().expect("asked");
        assert_eq!(last.header("authorization"), "", "each workspace's server has its own secrets");
    }
}

#[tokio::test]
async fn an_agent_calls_a_servers_tool_by_a_name_that_models_take() {
    let (stub, upstream) = (McpStub::start().await, Upstream::start().await.expect("a port"));
    let provider = ResolvedProvider {
        name: "local".to_owned(),
        kind: ProviderKind::Openai,
        base_url: upstream.base_url(),
        api_key: None,
        timeouts: Timeouts::default(),
        models: vec![serde_json::from_value(json!({"id": "m"})).expect("settings")],
    };
    let (store, settings) = (TestStore::of_environment().await, ServerSettings::default());
    let app = TestApp::telling(store, settings, vec![provider], client(&["127.0.0.0/8"], None)).await;
    stub.offer(json!([tool("find"), tool("find.closed")]));
    register(&app, &stub).await;
    let agent = json!({"id": "a", "name": "A", "model_id": MODEL, "tools": ["tickets.*"],
        "requires_approval": ["tickets.find.closed"]});
    app.post("/v1/agents", agent).send().await.ok(201);
    let unknown = json!({"name": "B", "tools": ["nobody.*"]});
    assert_eq!(app.post("/v1/agents", unknown).send().await.error(422).1.as_deref(), Some("tools[0]"));

    upstream.reply(calls(&[call("c1", "tickets__find", r#"{"words": "leak"}"#)]));
    upstream.reply(says("It is ticket 7."));
    stub.result(text("Ticket 7"));
    let body = json!({"target": "a", "type": "agent", "input": {"goal": "Find it."}});
    let ended = app.post("/v1/run", body.clone()).send().await.ok(200);
    assert_eq!(ended["result"], "It is ticket 7.", "{ended}");
    assert_eq!(
        (&ended["events"][0]["tool"], &ended["events"][0]["output"]),
        (&json!("tickets.find"), &json!("Ticket 7"))
    );
    let sent = upstream.calls();
    let offered: Vec<_> = sent[0].body["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| tool["function"]["name"].clone())
        .collect();
    let long = offered[1].as_str().expect("a name").to_owned();
    assert_eq!((offered.len(), &offered[0]), (2, &json!("tickets__find")));
    assert!(long.starts_with("tickets__find_closed_"), "{long}");
    let again = &sent[1].body["messages"];
    assert!(
        again.to_string().contains("tickets__find") && !again.to_string().contains("tickets.find"),
        "{again}"
    );

    upstream.reply(calls(&[call("c1", &long, r#"{"words": "leak"}"#)]));
    let waiting = json!({"target": "a", "type": "agent", "input": {"goal": "Find it."}, "wait_seconds": 300, "async": true});
    let run_id =
        app.post("/v1/run", waiting).send().await.ok(202)["runId"].as_str().expect("an id").to_owned();
    let path = format!("/v1/run/{run_id}");
    let waits = app.until(&path, |run| run["state"] == "WAITING").await;
    assert_eq!(waits["waitingFor"][0]["name"], "tickets.find.closed", "{waits}");
}

#[tokio::test]
async fn tokens_are_told_to_the_server_alone() {
    let (app, stub) = (telling_app().await, McpStub::start().await);
    let made = register(&app, &stub).await;
    let echo = json!({"content": [{"type": "text", "text": format!("Bearer {TOKEN}")}], "structuredContent": {"sent": TOKEN}});
    stub.result(echo);
    let well = run(&app, "tickets.find", json!({"words": "x"})).await;
    assert_eq!(well["result"], "Bearer [secret bearer_token]", "{well}");
    stub.result(json!({"content": [{"type": "text", "text": format!("who is {TOKEN}?")}], "isError": true}));
    let failed = run(&app, "tickets.find", json!({"words": "x"})).await;
    stub.script(|asked| match asked.method.as_str() {
        "tools/call" => Some(Answer::Error(-32000, format!("no {TOKEN}"))),
        _ => None,
    });
    let refused = run(&app, "tickets.find", json!({"words": "x"})).await;
    assert!(
        refused["error"]["message"].as_str().expect("text").contains("no [secret bearer_token]"),
        "{refused}"
    );
    stub.script(|_| Some(Answer::Status(500, format!("oh, {TOKEN}"))));
    let broken = run(&app, "tickets.find", json!({"words": "x"})).await;
    let told = refresh(&app).await;
    assert_eq!(told["status"], "unavailable", "{told}");
    stub.script(|_| None);
    stub.offer(
        json!([{"name": "say", "description": format!("Say {TOKEN}."), "inputSchema": {"type": "object"}}]),
    );
    let listed = refresh(&app).await;
    assert_eq!((&listed["status"], &listed["tools"]), (&json!("available"), &json!(["tickets.say"])));
    let mut said = vec![made, well.clone(), failed, refused, broken, told, listed];
    let journal = format!("/v1/run/{}/events?values=full", well["runId"].as_str().expect("an id"));
    for path in
        [journal.as_str(), "/v1/tools", "/v1/mcp/servers", "/v1/runs", "/v1/mcp/manifest", "/llms-full.txt"]
    {
        let reply = app.get(path).header("accept", "application/json").send().await;
        assert_eq!(reply.status.as_u16(), 200, "{path}");
        said.push(Value::from(String::from_utf8_lossy(&reply.body).into_owned()));
    }
    for said in said {
        assert!(!said.to_string().contains("tok-hush"), "{said}");
    }
    if let Some(file) = app.store_file() {
        for part in ["", "-wal"] {
            let bytes = std::fs::read(format!("{}{part}", file.display())).expect("readable");
            assert!(!bytes.windows(8).any(|window| window == b"tok-hush"), "the store's file{part} has it");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_down_makes_its_tools_unavailable_and_comes_back() {
    let (app, stub) = (telling_app().await, McpStub::start().await);
    register(&app, &stub).await;
    let address = stub.stop().await;
    let ended = run(&app, "tickets.find", json!({"words": "x"})).await;
    assert_eq!(ended["error"]["code"], "unavailable_tool", "{ended}");
    let told = refresh(&app).await;
    assert_eq!(told["status"], "unavailable");
    assert!(told["unavailable_reason"].as_str().expect("why").contains("127.0.0.1"), "{told}");
    let shown = app.get("/v1/tools/tickets.find").send().await.ok(200);
    assert_eq!(shown["available"], false);
    assert!(shown["unavailable_reason"].as_str().expect("why").contains("`tickets`"), "{shown}");
    let body = json!({"target": "tickets.find", "type": "tool", "input": {"words": "x"}});
    let refused = app.post("/v1/run", body).send().await;
    assert_eq!((refused.code(503).as_str(), refused.header("retry-after")), ("component_unavailable", "60"));
    let manifest = app.get("/v1/mcp/manifest").send().await.ok(200);
    assert!(!manifest.to_string().contains("tickets"), "what cannot be called is not offered");

    let stub = McpStub::again(address).await;
    app.clock.advance_ms(20 * 60 * 1000);
    app.hub.mcp.check_due().await;
    stub.until("tools/list", 1).await;
    let is_back = |server: &Value| server["status"] == "available";
    app.until("/v1/mcp/servers/tickets", is_back).await;
    stub.result(text("Ticket 7"));
    assert_eq!(run(&app, "tickets.find", json!({"words": "x"})).await["result"], "Ticket 7");

    let dead = json!({"name": "dead", "url": "http://127.0.0.1:1/mcp"});
    let dead = app.post("/v1/mcp/servers", dead).send().await.ok(201);
    assert_eq!((&dead["status"], &dead["tools"]), (&json!("unavailable"), &json!([])));
}

#[tokio::test]
async fn a_server_that_lost_its_session_is_gone_on_with() {
    let (app, stub) = (telling_app().await, McpStub::start().await);
    register(&app, &stub).await;
    let again = McpStub::again(stub.stop().await).await;
    again.result(text("Ticket 7"));
    let ended = run(&app, "tickets.find", json!({"words": "x"})).await;
    assert_eq!(ended["result"], "Ticket 7", "{ended}");
}

#[tokio::test]
async fn a_refusal_without_an_id_is_the_answer() {
    let (app, stub) = (telling_app().await, McpStub::start().await);
    register(&app, &stub).await;
    stub.script(|asked| {
        let lost =
            r#"{"jsonrpc": "2.0", "error": {"code": -32000, "message": "No valid session"}, "id": null}"#;
        (asked.method == "tools/call").then(|| Answer::Body("application/json", lost.into()))
    });
    let refused = run(&app, "tickets.find", json!({"words": "x"})).await;
    assert_eq!(refused["error"]["code"], "mcp_error", "{refused}");
    assert!(refused["error"]["message"].as_str().expect("why").contains("No valid session"), "{refused}");
    stub.script(|_| None);
    run(&app, "tickets.find", json!({"words": "x"})).await;
    assert_eq!(stub.asked("initialize").len(), 2, "another session was begun");
}

#[tokio::test]
async fn what_is_allowed_no_more_is_not_called_by_runs_under_way() {
    let (app, stub) = (telling_app().await, McpStub::start().await);
    register(&app, &stub).await;
    let workflow = json!({"id": "w", "name": "W", "steps": [{"id": "ask", "uses": "approval"},
        {"id": "find", "uses": "tool:tickets.find", "with": {"words": "x"}, "needs": ["ask"]}]});
    app.post("/v1/workflows", workflow).send().await.ok(201);
    let body = json!({"target": "w", "type": "workflow", "input": {}, "async": true});
    let run_id = app.post("/v1/run", body).send().await.ok(202)["runId"].as_str().expect("an id").to_owned();
    let path = format!("/v1/run/{run_id}");
    app.until(&path, |run| run["state"] == "WAITING").await;
    let narrow = json!({"allowed_tools": ["other"]});
    app.call(Method::PATCH, "/v1/mcp/servers/tickets").json(narrow).send().await.ok(200);
    app.post(&format!("{path}/approve"), json!({})).send().await.ok(202);
    let ended = app.until(&path, |run| run["finishedAt"].is_string()).await;
    assert_eq!(ended["state"], "FAILED", "{ended}");
    assert!(ended["error"]["message"].as_str().expect("why").contains("allowed"), "{ended}");
    assert!(stub.asked("tools/call").is_empty());
}

#[tokio::test]
async fn lists_are_read_again_when_the_server_says_so() {
    let (app, stub) = (telling_app().await, McpStub::start().await);
    register(&app, &stub).await;
    stub.offer(json!([tool("find"), tool("close")]));
    stub.script(|asked| {
        let news = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        let done = json!({"jsonrpc": "2.0", "id": asked.id, "result": text("Done.")});
        let events = format!("data: {news}\n\nid: 1\ndata: {done}\n\n");
        (asked.method == "tools/call").then(|| Answer::Body("text/event-stream", events.into()))
    });
    run(&app, "tickets.find", json!({"words": "x"})).await;
    app.clock.advance_ms(15_000);
    app.hub.mcp.check_due().await;
    stub.until("tools/list", 2).await;
    let has_both = |server: &Value| server["tools"] == json!(["tickets.close", "tickets.find"]);
    app.until("/v1/mcp/servers/tickets", has_both).await;
    assert_eq!(names(&app).await, ["tickets.close", "tickets.find"]);
}

#[tokio::test]
async fn servers_are_changed_and_deleted() {
    let (app, stub) = (telling_app().await, McpStub::start().await);
    stub.offer(json!([tool("find"), tool("close")]));
    register(&app, &stub).await;
    let change = |body: Value| app.call(Method::PATCH, "/v1/mcp/servers/tickets").json(body);
    let changed = change(json!({"allowed_tools": ["find"], "timeout_seconds": 7})).send().await.ok(200);
    assert_eq!((&changed["tools"], &changed["timeout_seconds"]), (&json!(["tickets.find"]), &json!(7)));
    assert_eq!(names(&app).await, ["tickets.find"]);
    assert_eq!(
        stub.asked("tools/list").pop().expect("asked").header("authorization"),
        format!("Bearer {TOKEN}")
    );
    let elsewhere = format!("http://localhost:{}/mcp", stub.address.port());
    let refused = change(json!({"url": elsewhere})).send().await;
    assert_eq!(refused.error(422).1.as_deref(), Some("secrets"), "secrets do not go along");
    change(json!({"bearer_token": "another-token"})).send().await.ok(200);
    assert_eq!(
        stub.asked("tools/list").pop().expect("asked").header("authorization"),
        "Bearer another-token"
    );
    change(json!({"headers": {}})).send().await.ok(200);
    assert_eq!(stub.asked("tools/list").pop().expect("asked").header("authorization"), "");

    let listed = app.get("/v1/mcp/servers").send().await.ok(200);
    assert_eq!(listed["servers"].as_array().map(Vec::len), Some(1));
    app.delete("/v1/mcp/servers/tickets").send().await.ok(204);
    assert!(names(&app).await.is_empty());
    assert_eq!(app.delete("/v1/mcp/servers/tickets").send().await.code(404), "not_found");
    register(&app, &stub).await;
    let again = json!({"name": "tickets", "url": stub.url()});
    assert_eq!(app.post("/v1/mcp/servers", again).send().await.code(409), "already_exists");
    for count in 1..20 {
        let more = json!({"name": format!("s{count}"), "url": "http://10.0.0.1/mcp"});
        app.post("/v1/mcp/servers", more).send().await.ok(201);
    }
    let one_more = json!({"name": "more", "url": "http://10.0.0.1/mcp"});
    assert_eq!(app.post("/v1/mcp/servers", one_more).send().await.code(409), "conflict");
    let mut seen = Vec::new();
    let mut path = "/v1/mcp/servers?limit=7".to_owned();
    loop {
        let page = app.get(&path).send().await.ok(200);
        seen.extend(page["servers"].as_array().expect("servers").iter().map(|server| server["name"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/mcp/servers?limit=7&cursor={next}");
    }
    assert_eq!(seen.len(), 20);
}

#[tokio::test]
async fn what_cannot_be_registered_is_told_by_its_field() {
    let app = telling_app().await;
    let good = json!({"name": "x", "url": "https://mcp.example.com/mcp"});
    for (field, value, at) in [
        ("name", json!("Bad_Name"), "name"),
        ("name", json!("a".repeat(33)), "name"),
        ("name", json!(""), "name"),
        ("url", json!("ftp://example.com"), "url"),
        ("url", json!("https://example.com/{path}"), "url"),
        ("url", json!("https://user:pass@example.com/mcp"), "url"),
        ("bearer_token", json!("short"), "secrets.bearer_token"),
        ("headers", json!({"Mcp-Session-Id": "x"}), "headers.Mcp-Session-Id"),
        ("headers", json!({"Accept": "x"}), "headers.Accept"),
        ("headers", json!({"X": "{secret:NONE}"}), "secrets"),
        ("secrets", json!({"NONE": "0123456789"}), "secrets.NONE"),
        ("timeout_seconds", json!(0), "timeout_seconds"),
        ("allowed_tools", json!(vec!["x"; 251]), "allowed_tools"),
    ] {
        let mut server = good.clone();
        server[field] = value;
        let refused = app.post("/v1/mcp/servers", server).send().await;
        assert_eq!(refused.error(422).1.as_deref(), Some(at), "{refused:?}");
    }
    let both = json!({"name": "x", "url": "https://e.com", "bearer_token": "0123456789", "headers": {"authorization": "x"}});
    assert_eq!(app.post("/v1/mcp/servers", both).send().await.error(422).1.as_deref(), Some("bearer_token"));
    let few = app.key_with("tools:read").await;
    assert_eq!(app.post("/v1/mcp/servers", good).key(&few).send().await.code(403), "missing_scope");
}

#[tokio::test]
async fn what_is_private_is_reached_by_leave_alone() {
    let stub = McpStub::start().await;
    let app = app_with(client(&[], None)).await;
    let refused = register(&app, &stub).await;
    assert_eq!(refused["status"], "unavailable");
    assert!(refused["unavailable_reason"].as_str().expect("why").contains("allow_networks"), "{refused}");
    assert!(stub.asked("initialize").is_empty());
    let app = app_with(client(&["127.0.0.0/8"], Some(stub.address))).await;
    let own = register(&app, &stub).await;
    assert!(own["unavailable_reason"].as_str().expect("why").contains("hub itself"), "{own}");
}
