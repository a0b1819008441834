//! Tools that a workspace registered.

use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::sandboxes::{app, close};

fn vat() -> Value {
    json!({
        "name": "vat",
        "description": "Adds value-added tax to a price.",
        "kind": "code",
        "language": "python",
        "code": "def main(price, rate=0.19):\n    print('working')\n    return {'gross': round(price * (1 + rate), 2)}",
        "input_schema": {
            "type": "object",
            "properties": {"price": {"type": "number"}, "rate": {"type": "number"}},
            "required": ["price"],
            "additionalProperties": false,
        },
        "output_schema": {"type": "object", "properties": {"gross": {"type": "number"}}, "required": ["gross"]},
    })
}

async fn run(app: &TestApp, target: &str, input: Value) -> Value {
    app.post("/v1/run", json!({"target": target, "type": "tool", "input": input})).send().await.ok(200)
}

#[tokio::test]
async fn a_registered_function_is_a_tool_like_any_other() {
    let app = app().await;
    let made = app.post("/v1/tools", vat()).send().await.ok(201);
    assert_eq!((&made["kind"], &made["available"]), (&json!("code"), &json!(true)));
    assert_eq!((&made["language"], &made["scopes"]), (&json!("python"), &json!(["resources:write"])));
    let listed = app.get("/v1/tools").send().await.ok(200);
    assert!(listed["tools"].as_array().expect("tools").contains(&made), "{listed}");
    assert_eq!(app.get("/v1/tools/vat").send().await.ok(200), made);

    // A run of its own, a step of a workflow, an agent's.
    let told = run(&app, "vat", json!({"price": 100})).await;
    assert_eq!((&told["state"], &told["result"]), (&json!("SUCCESS"), &json!({"gross": 119.0})), "{told}");
    let unfit =
        app.post("/v1/run", json!({"target": "vat", "type": "tool", "input": {"cost": 1}})).send().await;
    assert_eq!(unfit.code(422), "invalid_input");
    let workflow = json!({"id": "sell", "name": "Sell", "steps": [
        {"id": "price", "uses": "tool:vat", "with": {"price": 200, "rate": 0.07}},
    ], "output": "{{ steps.price.output.gross }}"});
    app.post("/v1/workflows", workflow).send().await.ok(201);
    let sold =
        app.post("/v1/run", json!({"target": "sell", "type": "workflow", "input": {}})).send().await.ok(200);
    assert_eq!(sold["result"], 214.0, "{sold}");
    let agent = json!({"id": "seller", "name": "Seller", "tools": ["vat"]});
    app.post("/v1/agents", agent).send().await.ok(201);
    let goal = json!({"target": "seller", "type": "agent", "input": {"goal": "Add the tax to the price 50"}});
    let sold = app.post("/v1/run", goal).send().await.ok(200);
    assert_eq!(sold["events"][0]["arguments"], json!({"price": 50.0}), "{sold}");
    assert!(sold["result"].as_str().expect("text").contains("59.5"), "{sold}");

    // A person who is asked may change the arguments, to what it takes.
    let agent = json!({"id": "careful", "name": "Careful", "tools": ["vat"], "requires_approval": ["vat"]});
    app.post("/v1/agents", agent).send().await.ok(201);
    let goal = json!({"target": "careful", "type": "agent", "input": {"goal": "Add the tax to the price 50"}, "async": true});
    let path = format!(
        "/v1/run/{}",
        app.post("/v1/run", goal).send().await.ok(202)["runId"].as_str().expect("an id")
    );
    while app.get(&path).send().await.ok(200)["state"] != "WAITING" {
        tokio::task::yield_now().await;
    }
    let approve =
        |price: Value| app.post(&format!("{path}/approve"), json!({"arguments": {"price": price}})).send();
    let unfit = approve(json!("fifty")).await.error(422);
    assert_eq!(unfit, ("invalid_input".to_owned(), Some("arguments.price".to_owned())));
    approve(json!(10)).await.ok(202);

    // Whoever lacks the scope is not offered it.
    let key = app.key_with("run:write tools:call").await;
    let refused =
        app.post("/v1/run", json!({"target": "vat", "type": "tool", "input": {"price": 1}})).key(&key).send();
    assert_eq!(refused.await.error(403), ("missing_scope".to_owned(), Some("resources:write".to_owned())));
    // And another workspace does not have it.
    let (_, theirs) = app.other_workspace().await;
    assert_eq!(app.get("/v1/tools/vat").key(&theirs).send().await.code(404), "not_found");
    let body = json!({"target": "vat", "type": "tool", "input": {"price": 1}});
    assert_eq!(app.post("/v1/run", body).key(&theirs).send().await.code(422), "unknown_target");
    close(&app).await;
}

#[tokio::test]
async fn a_tool_is_changed_and_deleted_and_old_runs_keep_theirs() {
    let app = app().await;
    app.post("/v1/tools", vat()).send().await.ok(201);
    // A run that waits, of a workflow that calls the tool afterwards.
    let workflow = json!({"id": "later", "name": "Later", "steps": [
        {"id": "ok", "uses": "approval", "with": {"question": "Go on?"}},
        {"id": "price", "uses": "tool:vat", "needs": ["ok"], "with": {"price": 100}},
    ], "output": "{{ steps.price.output.gross }}"});
    app.post("/v1/workflows", workflow).send().await.ok(201);
    let begin = json!({"target": "later", "type": "workflow", "input": {}, "async": true});
    let run_id = app.post("/v1/run", begin).send().await.ok(202)["runId"].as_str().expect("an id").to_owned();
    let path = format!("/v1/run/{run_id}");
    while app.get(&path).send().await.ok(200)["state"] != "WAITING" {
        tokio::task::yield_now().await;
    }
    let change = json!({"code": "def main(price):\n    return 'free'", "output_schema": null});
    let changed = app.call(Method::PATCH, "/v1/tools/vat").json(change).send().await.ok(200);
    assert_eq!((&changed["output_schema"], &changed["description"]), (&json!(null), &vat()["description"]));
    assert_eq!(run(&app, "vat", json!({"price": 100})).await["result"], "free");
    app.delete("/v1/tools/vat").send().await.ok(204);
    assert_eq!(app.delete("/v1/tools/vat").send().await.code(404), "not_found");
    assert_eq!(app.get("/v1/tools/vat").send().await.code(404), "not_found");
    app.post(&format!("{path}/approve"), json!({"step": "ok"})).send().await.ok(202);
    let ended = loop {
        let seen = app.get(&path).send().await.ok(200);
        if !["RUNNING", "WAITING", "PENDING"].contains(&seen["state"].as_str().expect("a state")) {
            break seen;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(ended["result"], 119.0, "as it was when the run began: {ended}");
    close(&app).await;
}

#[tokio::test]
async fn what_a_function_does_wrong_is_told() {
    let app = app().await;
    let register = async |name: &str, code: &str| {
        let tool = json!({"name": name, "description": "x", "language": "python", "code": code, "timeout_seconds": 1,
            "output_schema": {"type": "number"}});
        app.post("/v1/tools", tool).send().await.ok(201);
    };
    for (name, code, wanted, said) in [
        ("raises", "def main():\n    raise ValueError('of mine')", "tool_failed", "ValueError: of mine"),
        ("none", "x = 1", "tool_failed", "defines no function `main`"),
        ("syntax", "def main(:", "tool_failed", "SyntaxError"),
        ("odd", "def main():\n    return object()", "tool_failed", "not JSON serializable"),
        ("nan", "def main():\n    return float('nan')", "tool_failed", "ValueError"),
        ("text", "def main():\n    return 'text'", "invalid_output", "does not fit its schema"),
        ("slow", "def main():\n    while True: pass", "killed", "timeout"),
    ] {
        register(name, code).await;
        let told = run(&app, name, json!({})).await;
        let message = told["error"]["message"].as_str().expect("a message");
        assert!(told["error"]["code"] == wanted && message.contains(said), "{name}: {told}");
    }
    register("fine", "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    return 5").await;
    assert_eq!(run(&app, "fine", json!({})).await["result"], 5);
    close(&app).await;
}

#[tokio::test]
async fn mistakes_are_named() {
    let app = TestApp::new().await;
    let with = |field: &str, value: Value| {
        let mut tool = vat();
        tool[field] = value;
        tool
    };
    for (body, status, code, param) in [
        (with("name", json!("no spaces")), 422, "invalid_value", "name"),
        (with("name", json!("calculate")), 409, "already_exists", "name"),
        (with("name", json!("run_agent_x")), 422, "invalid_value", "name"),
        (with("kind", json!("shell")), 422, "invalid_value", "kind"),
        (with("kind", json!("http")), 422, "invalid_value", "language"),
        (with("url", json!("https://example.com")), 422, "invalid_value", "url"),
        (with("code", Value::Null), 422, "invalid_value", "code"),
        (with("language", json!("bash")), 422, "invalid_value", "language"),
        (with("language", json!("ruby")), 422, "invalid_value", "language"),
        (with("code", json!("")), 422, "invalid_value", "code"),
        (with("description", json!("")), 422, "invalid_value", "description"),
        (with("input_schema", json!({"type": "array"})), 422, "invalid_value", "input_schema"),
        (with("input_schema", json!({"type": "objekt"})), 422, "invalid_value", "input_schema"),
        (with("output_schema", json!({"type": 5})), 422, "invalid_value", "output_schema"),
        (with("timeout_seconds", json!(0)), 422, "invalid_value", "timeout_seconds"),
        (with("colour", json!("red")), 400, "unknown_field", "colour"),
    ] {
        let reply = app.post("/v1/tools", body.clone()).send().await;
        assert_eq!(reply.error(status), (code.to_owned(), Some(param.to_owned())), "{body}");
    }
    // Where there can be no sandbox it is kept, and says why it does not work.
    let made = app.post("/v1/tools", vat()).send().await.ok(201);
    assert_eq!(made["available"], false);
    assert_eq!(app.post("/v1/tools", vat()).send().await.code(409), "already_exists");
    assert_eq!(app.delete("/v1/tools/calculate").send().await.code(409), "conflict");
    let change = app.call(Method::PATCH, "/v1/tools/none").json(json!({"description": "x"}));
    assert_eq!(change.send().await.code(404), "not_found");
    let key = app.key_with("tools:read").await;
    assert_eq!(app.post("/v1/tools", vat()).key(&key).send().await.code(403), "missing_scope");
}
