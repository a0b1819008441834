//! Tools that are requests to a server.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::receiver::{Receiver, telling_app};

const SECRET: &str = "sk-hush/\"quoted\" 0123456789";

fn ticket(receiver: &Receiver) -> Value {
    json!({
        "name": "ticket", "description": "Reads a ticket.", "kind": "http", "method": "GET",
        "url": format!("http://{}/tickets/{{id}}", receiver.address),
        "headers": {"Authorization": "Bearer {secret:TOKEN}", "X-Team": "blue"},
        "secrets": {"TOKEN": SECRET},
        "input_schema": {"type": "object", "properties": {"id": {"type": "string"}, "fields": {"type": "array"}},
            "required": ["id"]},
    })
}

async fn run(app: &TestApp, name: &str, input: Value) -> Value {
    app.post("/v1/run", json!({"target": name, "type": "tool", "input": input})).send().await.ok(200)
}

#[tokio::test]
async fn a_request_is_a_tool_like_any_other() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let made = app.post("/v1/tools", ticket(&receiver)).send().await.ok(201);
    assert_eq!(
        (&made["kind"], &made["method"], &made["secrets"]),
        (&json!("http"), &json!("GET"), &json!(["TOKEN"]))
    );
    assert_eq!(
        (&made["scopes"], &made["repeatable"], &made["available"]),
        (&json!(["tools:call"]), &json!(true), &json!(true))
    );
    assert_eq!(
        made["effects"],
        json!({"read_only": true, "destructive": false, "idempotent": true, "open_world": true})
    );

    receiver.reply(200, &[("content-type", "application/json")], r#"{"title": "It leaks"}"#);
    let ended = run(&app, "ticket", json!({"id": "a/b ?#", "fields": ["title", "x&y"]})).await;
    assert_eq!((&ended["state"], &ended["result"]), (&json!("SUCCESS"), &json!(r#"{"title": "It leaks"}"#)));
    let told = receiver.until(1).await.remove(0);
    assert_eq!((told.method.as_str(), told.path.as_str()), ("GET", "/tickets/a%2Fb%20%3F%23"));
    assert_eq!(told.query, "fields=title&fields=x%26y");
    assert_eq!(told.header("authorization"), format!("Bearer {SECRET}"));
    assert_eq!(told.header("x-team"), "blue");
    assert!(told.header("idempotency-key").contains(ended["runId"].as_str().expect("an id")));

    let listed = app.get("/v1/mcp/manifest").send().await.ok(200);
    assert!(listed["tools"].as_array().expect("tools").iter().any(|tool| tool["name"] == "ticket"));
    let few = app.key_with("tools:read run:write").await;
    let listed = app.get("/v1/mcp/manifest").key(&few).send().await.ok(200);
    assert!(listed["tools"].as_array().expect("tools").is_empty(), "{listed}");
    let body = json!({"target": "ticket", "type": "tool", "input": {"id": "1"}});
    assert_eq!(app.post("/v1/run", body).key(&few).send().await.code(403), "missing_scope");
}

#[tokio::test]
async fn secrets_are_told_to_the_server_alone() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let made = app.post("/v1/tools", ticket(&receiver)).send().await;
    let echo = json!({"you_sent": format!("Bearer {SECRET}")}).to_string();
    receiver.reply(200, &[("content-type", "application/json")], echo);
    let well = run(&app, "ticket", json!({"id": "1"})).await;
    assert!(well["result"].as_str().expect("text").contains("[secret TOKEN]"), "{well}");
    receiver.reply(200, &[], r#"{"you": "sk-hush\/\u0022quoted\" 0123456789"}"#);
    let escaped = run(&app, "ticket", json!({"id": "1"})).await;
    assert_eq!(escaped["result"], r#"{"you":"[secret TOKEN]"}"#);
    receiver.reply(403, &[], format!("who is {SECRET}?"));
    let badly = run(&app, "ticket", json!({"id": "2"})).await;
    let message = badly["error"]["message"].as_str().expect("text");
    assert!(message.contains("403") && message.contains("who is [secret TOKEN]?"), "{badly}");
    receiver.reply(
        302,
        &[("location", &format!("http://{}/?q=sk-hush%2F%22quoted%22%200123456789", receiver.address))],
        "",
    );
    let moved = run(&app, "ticket", json!({"id": "3"})).await;
    assert!(moved["error"]["message"].as_str().expect("text").contains("302"), "{moved}");
    assert_eq!(receiver.told().len(), 4, "what redirects is not followed");

    assert!(moved.to_string().contains("/?q=[secret TOKEN]"), "{moved}");
    let mut said = vec![made.ok(201), well.clone(), escaped, badly, moved];
    let journal = format!("/v1/run/{}/events?values=full", well["runId"].as_str().expect("an id"));
    for path in
        [journal.as_str(), "/v1/tools", "/v1/tools/ticket", "/v1/runs", "/v1/mcp/manifest", "/llms-full.txt"]
    {
        let reply = app.get(path).header("accept", "application/json").send().await;
        assert_eq!(reply.status.as_u16(), 200, "{path}");
        said.push(Value::from(String::from_utf8_lossy(&reply.body).into_owned()));
    }
    for said in said {
        assert!(!said.to_string().contains("sk-hush"), "{said}");
    }
    if let Some(file) = app.store_file() {
        for part in ["", "-wal"] {
            let bytes = std::fs::read(format!("{}{part}", file.display())).expect("readable");
            assert!(!bytes.windows(7).any(|window| window == b"sk-hush"), "the store's file{part} has it");
        }
    }
}

#[tokio::test]
async fn a_body_is_json_and_an_answer_may_have_a_schema() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    // Two places side by side are no way out either.
    let dots = json!({"name": "dots", "description": "d", "kind": "http", "method": "GET",
        "url": format!("http://{}/{{a}}{{b}}", receiver.address)});
    app.post("/v1/tools", dots).send().await.ok(201);
    assert_eq!(run(&app, "dots", json!({"a": ".", "b": "."})).await["error"]["code"], "invalid_arguments");
    let tool = json!({
        "name": "open", "description": "Opens a ticket.", "kind": "http", "method": "POST",
        "url": format!("http://{}/teams/{{team}}/tickets?source=hub", receiver.address),
        "input_schema": {"type": "object", "properties": {"team": {"type": "string"}}},
        "output_schema": {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
    });
    let made = app.post("/v1/tools", tool).send().await.ok(201);
    assert_eq!(made["repeatable"], false);
    receiver.reply(201, &[], r#"{"number": 7}"#);
    let ended = run(&app, "open", json!({"team": "blue", "title": "It leaks", "urgent": true})).await;
    assert_eq!(ended["result"], json!({"number": 7}));
    let told = receiver.until(1).await.remove(0);
    assert_eq!((told.path.as_str(), told.query.as_str()), ("/teams/blue/tickets", "source=hub"));
    assert_eq!(told.json(), json!({"title": "It leaks", "urgent": true}));
    for (answer, code) in [("[]", "invalid_output"), ("words", "invalid_output")] {
        receiver.reply(200, &[], answer);
        assert_eq!(run(&app, "open", json!({"team": "x"})).await["error"]["code"], code, "{answer}");
    }
    receiver.reply(200, &[], "x".repeat(1_000_001));
    assert_eq!(run(&app, "open", json!({"team": "x"})).await["error"]["code"], "request_failed");
    // Nothing is asked where an argument would lead elsewhere.
    let before = receiver.told().len();
    let outside = ["..", ".", "../x", "..\\x", "a/../../x", "%2e%2e", ""].map(|team| json!({"team": team}));
    for input in outside.into_iter().chain([json!({}), json!({"team": "x", "source": "elsewhere"})]) {
        assert_eq!(run(&app, "open", input).await["error"]["code"], "invalid_arguments");
    }
    assert_eq!(receiver.told().len(), before);
}

#[tokio::test]
async fn secrets_come_and_go_with_what_names_them() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    app.post("/v1/tools", ticket(&receiver)).send().await.ok(201);
    let change = |body: Value| app.call(Method::PATCH, "/v1/tools/ticket").json(body);
    change(json!({"secrets": {"TOKEN": "another one 1"}})).send().await.ok(200);
    run(&app, "ticket", json!({"id": "1"})).await;
    assert_eq!(receiver.until(1).await[0].header("authorization"), "Bearer another one 1");

    let posted = change(json!({"method": "POST"})).send().await.ok(200);
    assert_eq!(posted["repeatable"], false, "what is no longer idempotent is not made again");
    change(json!({"method": "GET"})).send().await.ok(200);
    let renamed = json!({"headers": {"X-Key": "{secret:KEY}"}});
    assert_eq!(change(renamed.clone()).send().await.error(422).1.as_deref(), Some("secrets"));
    let mut both = renamed;
    both["secrets"] = json!({"KEY": "12345678"});
    assert_eq!(change(both).send().await.ok(200)["secrets"], json!(["KEY"]));
    // The one before is gone, and does not come back.
    let back = json!({"headers": {"Authorization": "Bearer {secret:TOKEN}"}});
    assert_eq!(change(back).send().await.error(422).1.as_deref(), Some("secrets"));
    // A change of the address tells no secret to another server.
    let other = Receiver::start().await;
    let moved = json!({"url": format!("http://{}/{{id}}", other.address)});
    assert_eq!(change(moved.clone()).send().await.error(422).1.as_deref(), Some("secrets"));
    let same_server = json!({"url": format!("http://{}/other/{{id}}", receiver.address)});
    change(same_server).send().await.ok(200);
    let mut both = moved;
    both["secrets"] = json!({"KEY": "for the other"});
    change(both).send().await.ok(200);
    run(&app, "ticket", json!({"id": "1"})).await;
    assert_eq!(other.until(1).await[0].header("x-key"), "for the other");
    app.delete("/v1/tools/ticket").send().await.ok(204);
    let mut bare = ticket(&receiver);
    bare.as_object_mut().expect("an object").remove("secrets");
    assert_eq!(app.post("/v1/tools", bare).send().await.error(422).1.as_deref(), Some("secrets"));
}

#[tokio::test]
async fn a_run_of_an_old_definition_gets_no_secret_of_a_new_one() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    app.post("/v1/tools", ticket(&receiver)).send().await.ok(201);
    let flow = json!({"id": "late", "name": "Late", "steps": [
        {"id": "ask", "uses": "approval"}, {"id": "read", "uses": "tool:ticket", "needs": ["ask"], "with": {"id": "1"}}]});
    app.post("/v1/workflows", flow).send().await.ok(201);
    let body = json!({"target": "late", "type": "workflow", "input": {}, "async": true});
    let id = app.post("/v1/run", body).send().await.ok(202)["runId"].as_str().expect("an id").to_owned();
    app.delete("/v1/tools/ticket").send().await.ok(204);
    app.post("/v1/tools", ticket(&receiver)).send().await.ok(201);
    while app.get(&format!("/v1/run/{id}")).send().await.ok(200)["state"] != "WAITING" {}
    app.post(&format!("/v1/run/{id}/approve"), json!({})).send().await.ok(202);
    let ended = app.hub.wait_for_run(&app.workspace_id, id.parse().expect("an id"), Duration::from_secs(60));
    let ended = ended.await.expect("read").expect("ended");
    assert!(ended.error.is_some_and(|error| error.message.contains("the secret `TOKEN`")));
    assert!(receiver.told().is_empty());
}

#[tokio::test]
async fn mistakes_are_named() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let with = |field: &str, value: Value| {
        let mut tool = ticket(&receiver);
        tool[field] = value;
        tool
    };
    let header = |name: &str, value: &str| with("headers", json!({name: value, "A": "{secret:TOKEN}"}));
    for (body, param) in [
        (with("method", Value::Null), "method"),
        (with("url", Value::Null), "url"),
        (with("url", json!("ftp://example.com/")), "url"),
        (with("url", json!("https://{host}/")), "url"),
        (with("url", json!("https://example.com:{port}/")), "url"),
        (with("url", json!("{scheme}://example.com/")), "url"),
        (with("url", json!("https://me:you@example.com/")), "url"),
        (with("url", json!("https://example.com/?key={secret:TOKEN}")), "url"),
        (with("url", json!("https://example.com/{a b}")), "url"),
        (with("url", json!("https://example.com/#{a}")), "url"),
        (with("code", json!("x")), "code"),
        (header("Host", "example.com"), "headers.Host"),
        (header("Content-Length", "1"), "headers.Content-Length"),
        (header("no name", "x"), "headers.no name"),
        (header("X", "a\r\nb: c"), "headers.X"),
        (header("X", "{id}"), "headers.X"),
        (header("a", "twice"), "headers.a"),
        (header("X", &"{secret:TOKEN}".repeat(1000)), "headers.X"),
        (header(&"X".repeat(200), "long"), &format!("headers.{}", "X".repeat(80))),
        (with("url", json!("https://example.com\\@evil.example/")), "url"),
        (with("url", json!("https://exa mple.com/")), "url"),
        (with("secrets", json!({"TOKEN": "short"})), "secrets.TOKEN"),
        (with("secrets", json!({"TOKEN": "line\nbreak 0123"})), "secrets.TOKEN"),
        (with("secrets", json!({"TOKEN": SECRET, "OTHER": "12345678"})), "secrets.OTHER"),
    ] {
        let reply = app.post("/v1/tools", body.clone()).send().await;
        assert_eq!(reply.error(422), ("invalid_value".to_owned(), Some(param.to_owned())), "{body}");
        assert!(!String::from_utf8_lossy(&reply.body).contains("sk-hush"), "{reply:?}");
    }
}

#[tokio::test]
async fn what_is_not_public_needs_leave() {
    let (app, receiver) = (TestApp::new().await, Receiver::start().await);
    app.post("/v1/tools", ticket(&receiver)).send().await.ok(201);
    let ended = run(&app, "ticket", json!({"id": "1"})).await;
    assert_eq!(ended["error"]["code"], "request_failed");
    let message = ended["error"]["message"].as_str().expect("text");
    assert!(message.contains("allow_networks"), "{message}");
    assert!(receiver.told().is_empty());
}

fn desk(receiver: &Receiver) -> Value {
    json!({
        "openapi": "3.0.3",
        "info": {"title": "Desk", "version": "1"},
        "servers": [{"url": format!("http://{}/api/", receiver.address)}],
        "paths": {
            "/tickets": {
                "parameters": [{"name": "team", "in": "query", "schema": {"type": "string"}}],
                "get": {"operationId": "listTickets", "summary": "Lists tickets.",
                    "parameters": [{"$ref": "#/components/parameters/limit"}]},
                "post": {"operationId": "open ticket!", "description": "Opens one.",
                    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/New"}}}}},
            },
            "/tickets/{id}": {
                "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}],
                "put": {"requestBody": {"content": {"application/json": {"schema": {"type": "array", "items": {"type": "string"}}}}}},
                "delete": {"parameters": [{"name": "X-Why", "in": "header", "required": true, "schema": {"type": "string"}}]},
            },
            "/files": {"post": {"requestBody": {"content": {"multipart/form-data": {}}}}},
            "/odd/{a b}": {"get": {}},
        },
        "components": {
            "parameters": {"limit": {"name": "limit", "in": "query", "required": true,
                "description": "At most so many.", "schema": {"type": "integer", "minimum": 0, "exclusiveMinimum": true}}},
            "schemas": {
                "New": {"type": "object", "required": ["title"], "properties": {
                    "title": {"type": "string", "example": "It leaks"},
                    "parent": {"$ref": "#/components/schemas/New"},
                    "due": {"type": "string", "nullable": true},
                }},
            },
        },
    })
}

#[tokio::test]
async fn a_document_becomes_tools() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let body = json!({"name": "desk", "kind": "openapi", "document": desk(&receiver),
        "headers": {"Authorization": "Bearer {secret:TOKEN}"}, "secrets": {"TOKEN": SECRET}});
    let made = app.post("/v1/tools", body.clone()).send().await.ok(201);
    let names: Vec<_> = made["tools"]
        .as_array()
        .expect("tools")
        .iter()
        .map(|tool| tool["name"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["desk_listTickets", "desk_open_ticket", "desk_put_tickets_id"]);
    let skipped: Vec<_> =
        made["skipped"].as_array().expect("skipped").iter().map(|one| &one["operation"]).collect();
    assert_eq!(skipped, ["DELETE /tickets/{id}", "POST /files", "GET /odd/{a b}"]);
    assert!(made["skipped"][0]["reason"].as_str().expect("text").contains("X-Why"), "{made}");
    let list = &made["tools"][0];
    assert_eq!(list["description"], "Lists tickets.");
    assert_eq!(list["input_schema"]["required"], json!(["limit"]));
    let limit =
        json!({"type": "integer", "minimum": 0, "exclusiveMinimum": 0, "description": "At most so many."});
    assert_eq!(list["input_schema"]["properties"]["limit"], limit);
    let open = &made["tools"][1]["input_schema"];
    assert_eq!(open["required"], json!(["title"]));
    assert_eq!(open["properties"]["due"]["type"], json!(["string", "null"]));
    assert_eq!(open["properties"]["parent"]["properties"]["title"], json!({"type": "string"}));

    for _ in 0..3 {
        receiver.reply(200, &[], "[]");
    }
    run(&app, "desk_listTickets", json!({"limit": 3, "team": "blue"})).await;
    run(&app, "desk_open_ticket", json!({"title": "It leaks", "team": "blue"})).await;
    run(&app, "desk_put_tickets_id", json!({"id": 7, "body": ["a", "b"]})).await;
    let told = receiver.until(3).await;
    let asked: Vec<_> =
        told.iter().map(|told| format!("{} {}?{}", told.method, told.path, told.query)).collect();
    assert_eq!(
        asked,
        ["GET /api/tickets?limit=3&team=blue", "POST /api/tickets?team=blue", "PUT /api/tickets/7?"]
    );
    assert_eq!((told[1].json(), told[2].json()), (json!({"title": "It leaks"}), json!(["a", "b"])));
    assert!(told.iter().all(|told| told.header("authorization").ends_with(SECRET)));

    assert_eq!(app.post("/v1/tools", body).send().await.code(409), "already_exists");
    assert_eq!(
        app.get("/v1/tools?limit=1000").send().await.ok(200)["tools"].as_array().map(Vec::len),
        Some(14)
    );
}

#[tokio::test]
async fn what_is_no_document_is_told() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let with = |pointer: &str, value: Value| {
        let mut body = json!({"name": "desk", "kind": "openapi", "document": desk(&receiver)});
        *body.pointer_mut(pointer).expect("a field") = value;
        body
    };
    let without = |field: &str| {
        let mut document = desk(&receiver);
        document.as_object_mut().expect("an object").remove(field);
        with("/document", document)
    };
    let circle = json!({"/a": {"get": {"parameters": [{"$ref": "#/paths/~1a/get/parameters/0"}]}}});
    for (body, param) in [
        (json!({"name": "desk", "kind": "openapi"}), "document"),
        (with("/document", json!({"swagger": "2.0"})), "document"),
        (with("/document", json!([])), "document"),
        (without("servers"), "url"),
        (with("/document/servers/0/url", json!("/api")), "url"),
        (with("/document/servers/0/url", json!("https://{host}/")), "url"),
        (without("paths"), "document"),
        (with("/document/paths", json!({})), "document"),
        (with("/name", json!("no spaces")), "name"),
    ] {
        assert_eq!(
            app.post("/v1/tools", body.clone()).send().await.error(422).1.as_deref(),
            Some(param),
            "{body}"
        );
    }
    app.post("/v1/tools", with("/document/paths", circle)).send().await.ok(201);
    let many: serde_json::Map<_, _> =
        (0..150).map(|number| (format!("/p{number}"), json!({"get": {}}))).collect();
    let mut body = with("/document/paths", Value::Object(many));
    body["name"] = json!("many");
    assert_eq!(app.post("/v1/tools", body).send().await.code(409), "conflict");
}

#[tokio::test]
async fn each_workspace_has_its_own_under_one_name() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let (_, other) = app.other_workspace().await;
    let mut theirs = ticket(&receiver);
    theirs["secrets"] = json!({"TOKEN": "another-secret"});
    app.post("/v1/tools", ticket(&receiver)).send().await.ok(201);
    app.post("/v1/tools", theirs).key(&other).send().await.ok(201);
    let body = json!({"target": "ticket", "type": "tool", "input": {"id": "1"}});
    run(&app, "ticket", json!({"id": "1"})).await;
    app.post("/v1/run", body.clone()).key(&other).send().await.ok(200);
    let told = receiver.until(2).await;
    let sent: Vec<_> = told.iter().map(|told| told.header("authorization").to_owned()).collect();
    assert_eq!(sent, [format!("Bearer {SECRET}"), "Bearer another-secret".to_owned()]);
    app.delete("/v1/tools/ticket").send().await.ok(204);
    app.post("/v1/run", body).key(&other).send().await.ok(200);
    assert_eq!(receiver.until(3).await[2].header("authorization"), "Bearer another-secret");
}
