//! `/v1/agents`.

use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;

fn patch(app: &TestApp, path: &str, body: Value) -> crate::app::Call {
    app.call(Method::PATCH, path).json(body)
}

#[tokio::test]
async fn an_agent_is_made_changed_and_deleted() {
    let app = TestApp::new().await;
    let body = json!({"id": "agent_1", "name": "Research Assistant", "system_prompt": "You are a helpful researcher...",
        "model_id": "google/gemini-2.5-flash-lite", "temperature": 0.5});
    let made = app.post("/v1/agents", body).send().await.ok(201);
    assert_eq!(made["version"], json!(1));
    assert_eq!(made["tools"], json!(["*"]));
    assert_eq!(app.get("/v1/agents/agent_1").send().await.ok(200), made);

    app.clock.advance_ms(1000);
    let change = json!({"name": "Terse", "temperature": null, "model_id": null});
    let changed = patch(&app, "/v1/agents/agent_1", change).send().await.ok(200);
    assert_eq!(changed["version"], json!(2));
    assert_eq!(changed["name"], json!("Terse"));
    assert_eq!(changed["temperature"], json!(null));
    assert_eq!(changed["model_id"], json!("neuralhub/offline"));
    assert_eq!(changed["system_prompt"], made["system_prompt"]);
    assert_eq!(changed["updated_at"], json!("2026-02-06T12:00:01.000Z"));

    app.delete("/v1/agents/agent_1").send().await.ok(204);
    for reply in [app.get("/v1/agents/agent_1").send().await, app.delete("/v1/agents/agent_1").send().await] {
        assert_eq!(reply.code(404), "not_found");
    }
}

#[tokio::test]
async fn null_puts_back_what_a_new_agent_has_and_no_change_makes_no_version() {
    let app = TestApp::new().await;
    let body = json!({"id": "clerk", "name": "Clerk", "description": "d", "system_prompt": "p",
        "tools": ["calculate"], "max_steps": 3, "temperature": 1.0, "model_id": "m"});
    let made = app.post("/v1/agents", body).send().await.ok(201);
    app.clock.advance_ms(1000);
    for same in [json!({}), json!({"name": "Clerk"}), json!({"tools": ["calculate"], "memory": null})] {
        assert_eq!(patch(&app, "/v1/agents/clerk", same).send().await.ok(200), made);
    }
    let null = json!({"description": null, "system_prompt": null, "tools": null, "max_steps": null,
        "temperature": null, "model_id": null});
    let changed = patch(&app, "/v1/agents/clerk", null).send().await.ok(200);
    let new = app.post("/v1/agents", json!({"id": "clerk2", "name": "Clerk"})).send().await.ok(201);
    assert_eq!(changed["version"], json!(2));
    for field in ["description", "system_prompt", "tools", "max_steps", "temperature", "model_id"] {
        assert_eq!(changed[field], new[field], "{field}");
    }
    let reply = patch(&app, "/v1/agents/clerk", json!({"name": null})).send().await;
    assert_eq!(reply.error(400), ("invalid_request".to_owned(), Some("name".to_owned())));
}

#[tokio::test]
async fn faults_in_an_agent_are_named() {
    let app = TestApp::new().await;
    for (body, status, code, param) in [
        (json!({}), 400, "invalid_request", "name"),
        (json!({"name": "n", "model": "x"}), 400, "unknown_field", "model"),
        (json!({"name": "n", "id": "a/b"}), 422, "invalid_value", "id"),
        (json!({"name": ""}), 422, "invalid_value", "name"),
        (json!({"name": "n", "temperature": 3}), 422, "invalid_value", "temperature"),
        (json!({"name": "n", "max_steps": 0}), 422, "invalid_value", "max_steps"),
        (json!({"name": "n", "tools": ["nope"]}), 422, "invalid_value", "tools[0]"),
        (json!({"name": "n", "max_steps": -1}), 422, "invalid_value", "max_steps"),
        (json!({"name": "n", "memory": "always"}), 422, "invalid_value", "memory"),
        (json!({"name": "n", "memory": {"colour": "n"}}), 422, "invalid_value", "memory"),
        (json!({"name": "n", "memory": {"max_tokens": 7}}), 422, "invalid_value", "memory.max_tokens"),
        (json!({"name": "n", "memory": {"namespace": "*"}}), 422, "invalid_value", "memory.namespace"),
        (
            json!({"name": "n", "memory": {"mode": "off", "extract": true}}),
            422,
            "invalid_value",
            "memory.extract",
        ),
        (json!({"name": "n", "output_schema": {}}), 422, "invalid_value", "output_schema"),
    ] {
        let reply = app.post("/v1/agents", body.clone()).send().await;
        assert_eq!(reply.error(status), (code.to_owned(), Some(param.to_owned())), "{body}");
    }
    let reply = app.post("/v1/agents", json!({"name": "n", "id": "agent_default"})).send().await;
    assert_eq!(reply.error(409), ("already_exists".to_owned(), Some("id".to_owned())));
    assert_eq!(reply.header("x-should-retry"), "false");
    let reply = patch(&app, "/v1/agents/agent_default", json!({"id": "other"})).send().await;
    assert_eq!(reply.code(400), "unknown_field");
    for id in ["nobody", "a%2Fb", "%00", "ä", &"x".repeat(300)] {
        let path = format!("/v1/agents/{}", id.replace('ä', "%C3%A4"));
        assert_eq!(app.get(&path).send().await.code(404), "not_found", "{id}");
    }
}

#[tokio::test]
async fn a_repeated_creation_gives_the_first_answer() {
    let app = TestApp::new().await;
    let post = |name: &str| app.post("/v1/agents", json!({"name": name})).header("idempotency-key", "k1");
    let first = post("one").send().await.ok(201);
    app.clock.advance_ms(60_000);
    assert_eq!(post("one").send().await.ok(201), first);
    assert_eq!(post("two").send().await.code(409), "idempotency_mismatch");
    // The record lasts 24 hours.
    app.clock.advance_ms(24 * 60 * 60 * 1000);
    assert_ne!(post("two").send().await.ok(201)["id"], first["id"]);
}

#[tokio::test]
async fn the_next_page_is_in_the_link_header() {
    let app = TestApp::new().await;
    for number in 0..3 {
        app.clock.advance_ms(1);
        app.post("/v1/agents", json!({"id": format!("a{number}"), "name": "n"})).send().await.ok(201);
    }
    let mut ids = Vec::new();
    let mut path = "/v1/agents?limit=3".to_owned();
    loop {
        let reply = app.get(&path).send().await;
        let page = reply.ok(200);
        ids.extend(
            page.as_array().expect("array").iter().map(|agent| agent["id"].as_str().expect("id").to_owned()),
        );
        if reply.headers.get("link").is_none() {
            break;
        }
        let link = reply.header("link");
        let url = link.strip_prefix('<').and_then(|rest| rest.strip_suffix(">; rel=\"next\"")).expect(link);
        path = url.strip_prefix("http://127.0.0.1:8080").expect(url).to_owned();
    }
    assert_eq!(ids, ["a2", "a1", "a0", "agent_default"]);
    assert_eq!(app.get("/v1/agents?limit=0").send().await.error(422).1.as_deref(), Some("limit"));
    assert_eq!(app.get("/v1/agents?cursor=!").send().await.error(422).1.as_deref(), Some("cursor"));
    assert_eq!(app.get("/v1/agents?cursor=eHg").send().await.error(422).1.as_deref(), Some("cursor"));
    assert_eq!(app.get("/v1/agents?page=2").send().await.error(400).1.as_deref(), Some("page"));
}
