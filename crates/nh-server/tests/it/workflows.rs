//! `/v1/workflows`, and runs of them.

use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::waits::{ended, start, until, until_waiting};

async fn created(app: &TestApp, workflow: Value) -> Value {
    app.post("/v1/workflows", workflow).send().await.ok(201)
}

/// Runs steps, and gives the run.
async fn ran(app: &TestApp, steps: Value, input: Value) -> Value {
    let made = created(app, json!({"name": "W", "steps": steps})).await;
    let id = start(app, made["id"].as_str().expect("an id"), "workflow", input).await;
    ended(app, &id).await
}

fn calculate(id: &str, expression: &str) -> Value {
    json!({"id": id, "uses": "tool:calculate", "with": {"expression": expression}})
}

#[tokio::test]
async fn a_workflow_is_made_listed_changed_and_deleted() {
    let app = TestApp::new().await;
    let made = created(&app, json!({"id": "sums", "name": "Sums", "steps": [calculate("a", "1 + 1")]})).await;
    assert_eq!(
        (&made["id"], &made["version"], &made["description"]),
        (&json!("sums"), &json!(1), &json!(""))
    );
    assert_eq!(
        app.post("/v1/workflows", json!({"id": "sums", "name": "x", "steps": [calculate("a", "1")]}))
            .send()
            .await
            .error(409)
            .0,
        "already_exists"
    );
    let path = "/v1/workflows/sums";
    assert_eq!(app.get(path).send().await.ok(200), made);
    let same = app.call(Method::PATCH, path).json(json!({"name": "Sums"})).send().await.ok(200);
    assert_eq!(same["version"], json!(1), "what changes nothing makes no version");
    let first = start(&app, "sums", "workflow", json!({})).await;
    assert_eq!(ended(&app, &first).await["result"]["a"]["result"], json!("2"));
    let change = json!({"steps": [calculate("b", "2 + 2")], "description": "adds"});
    let changed = app.call(Method::PATCH, path).json(change).send().await.ok(200);
    assert_eq!((&changed["version"], &changed["steps"][0]["id"]), (&json!(2), &json!("b")));
    assert_eq!(app.get("/v1/workflows/sums?version=1").send().await.ok(200)["steps"], made["steps"]);
    assert_eq!(app.get("/v1/workflows/sums?version=3").send().await.error(404).0, "not_found");
    assert_eq!(app.get("/v1/workflows").send().await.ok(200), json!([changed]));
    let second = start(&app, "sums", "workflow", json!({})).await;
    assert_eq!(ended(&app, &second).await["result"]["b"]["result"], json!("4"), "what is new is run");
    app.delete(path).send().await.ok(204);
    assert_eq!(app.get(path).send().await.error(404).0, "not_found");
    let body = json!({"target": "sums", "type": "workflow"});
    assert_eq!(app.post("/v1/run", body).send().await.error(422).0, "unknown_target");
}

#[tokio::test]
async fn yaml_is_as_good_as_json() {
    let app = TestApp::new().await;
    let yaml = "name: Sums\nsteps:\n  - id: a\n    uses: tool:calculate\n    with: {expression: '{{ input.n }} * 2'}\n";
    let post = |text: &str| {
        app.call(Method::POST, "/v1/workflows")
            .header("content-type", "application/yaml")
            .body(text.to_owned())
    };
    let made = post(yaml).send().await.ok(201);
    let id = start(&app, made["id"].as_str().expect("an id"), "workflow", json!({"n": 21})).await;
    assert_eq!(ended(&app, &id).await["result"]["a"]["result"], json!("42"));
    assert_eq!(post("name: [").send().await.error(400).0, "invalid_request");
    assert_eq!(post("name: x\nstep: []").send().await.error(400).0, "unknown_field");
    let bomb: String =
        (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    assert_eq!(post(&format!("a0: &a0 x\n{bomb}")).send().await.error(400).0, "invalid_request");
}

#[tokio::test]
async fn what_cannot_work_is_refused_and_named() {
    let app = TestApp::new().await;
    let step = |id: &str, more: Value| {
        let mut step = calculate(id, "1");
        step.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
        step
    };
    let of = |steps: Value| json!({"name": "W", "steps": steps});
    for (workflow, param) in [
        (of(json!([])), "steps"),
        (of(json!([step("1a", json!({}))])), "steps[0].id"),
        (of(json!([step("a", json!({})), step("a", json!({}))])), "steps[1].id"),
        (of(json!([step("a", json!({"uses": "calculate"}))])), "steps[0].uses"),
        (of(json!([step("a", json!({"uses": "tool:nothing"}))])), "steps[0].uses"),
        (of(json!([step("a", json!({"uses": "agent:nobody"}))])), "steps[0].uses"),
        (of(json!([step("a", json!({"uses": "workflow:none"}))])), "steps[0].uses"),
        (of(json!([step("a", json!({"needs": ["b"]}))])), "steps[0].needs[0]"),
        (of(json!([step("a", json!({"needs": ["b"]})), step("b", json!({"needs": ["a"]}))])), "steps[0]"),
        (of(json!([calculate("a", "{{ steps.a.output }}")])), "steps[0]"),
        (of(json!([calculate("a", "{{ steps.b.output }}")])), "steps[0].with"),
        (of(json!([calculate("a", "{{ nothing }}")])), "steps[0].with"),
        (of(json!([calculate("a", "{{ item }}")])), "steps[0].with"),
        (of(json!([calculate("a", "{{ 1 + }}")])), "steps[0].with.expression"),
        (of(json!([step("a", json!({"with": {}}))])), "steps[0].with.expression"),
        (of(json!([step("a", json!({"with": {"expression": 5}}))])), "steps[0].with.expression"),
        (of(json!([step("a", json!({"with": {"expression": "1", "more": 1}}))])), "steps[0].with.more"),
        (
            of(json!([{"id": "a", "uses": "agent:agent_default", "with": {"gaol": "x"}}])),
            "steps[0].with.gaol",
        ),
        (of(json!([step("a", json!({"if": "1 +"}))])), "steps[0].if"),
        (of(json!([step("a", json!({"for_each": 5}))])), "steps[0].for_each"),
        (of(json!([step("a", json!({"max_parallel": 2}))])), "steps[0].max_parallel"),
        (of(json!([step("a", json!({"retry": {"max_attempts": 0}}))])), "steps[0].retry.max_attempts"),
        (of(json!([step("a", json!({"timeout_seconds": 0}))])), "steps[0].timeout_seconds"),
        (of(json!([{"id": "a", "uses": "sleep"}])), "steps[0].with"),
        (
            of(json!([{"id": "a", "uses": "sleep", "with": {"seconds": 1}, "timeout_seconds": 1}])),
            "steps[0].timeout_seconds",
        ),
        (of(json!([{"id": "a", "uses": "sleep", "with": {"hours": 1}}])), "steps[0].with.hours"),
        (
            of(json!([{"id": "a", "uses": "approval", "requires_approval": true}])),
            "steps[0].requires_approval",
        ),
        (json!({"name": "", "steps": [calculate("a", "1")]}), "name"),
        (json!({"name": "W", "steps": [calculate("a", "1")], "output": "{{ steps.b.output }}"}), "output"),
        (
            json!({"name": "W", "steps": [calculate("a", "1")], "input_schema": {"type": "strange"}}),
            "input_schema",
        ),
        (
            json!({"name": "W", "steps": [calculate("a", "{{ input.m }}")],
            "input_schema": {"type": "object", "properties": {"n": {"type": "number"}}}}),
            "steps[0].with",
        ),
    ] {
        let reply = app.post("/v1/workflows", workflow.clone()).send().await;
        assert_eq!(reply.error(422), ("invalid_value".to_owned(), Some(param.to_owned())), "{workflow}");
    }
    assert_eq!(app.get("/v1/workflows").send().await.ok(200), json!([]));
}

#[tokio::test]
async fn steps_take_up_what_came_of_others() {
    let app = TestApp::new().await;
    let steps = json!([
        calculate("total", "{{ steps.left.output.result }} + {{ steps.right.output.result }}"),
        calculate("left", "{{ input.n }} * 2"),
        calculate("right", "{{ input.n }} * 3"),
        {"id": "each", "uses": "tool:calculate", "for_each": "{{ input.list }}", "max_parallel": 2,
            "with": {"expression": "{{ item }} + {{ index }} + {{ steps.total.output.result }}"}},
        {"id": "never", "uses": "tool:calculate", "if": "input.n > 100", "with": {"expression": "1"}},
        {"id": "behind", "uses": "tool:calculate", "needs": ["never"],
            "with": {"expression": "1 + {{ 6 if steps.never.output else 7 }}"}},
    ]);
    let run = ran(&app, steps, json!({"n": 10, "list": [1, 2, 3]})).await;
    assert_eq!(run["state"], json!("SUCCESS"), "{run}");
    let each: Vec<_> =
        run["result"]["each"].as_array().expect("a list").iter().map(|item| &item["result"]).collect();
    assert_eq!(each, ["51", "53", "55"]);
    assert_eq!(run["result"]["behind"]["result"], json!("8"));
    let keys: Vec<_> = run["result"].as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["each", "behind"], "what no other step needs");
}

#[tokio::test]
async fn a_failure_ends_the_run_or_is_gone_on_from() {
    let app = TestApp::new().await;
    let run =
        ran(&app, json!([calculate("bad", "{{ input.n }} +"), calculate("good", "1")]), json!({"n": 1}))
            .await;
    assert_eq!(run["state"], json!("FAILED"), "{run}");
    assert!(run["error"]["message"].as_str().expect("text").starts_with("Step `bad` failed: "), "{run}");

    let run = ran(&app, json!([calculate("bad", "{{ input.none }}")]), json!({})).await;
    assert_eq!(run["error"]["code"], json!("expression_failed"), "{run}");

    let steps = json!([
        {"id": "bad", "uses": "tool:calculate", "on_error": "continue", "with": {"expression": "{{ input.n }} +"},
            "retry": {"max_attempts": 3, "backoff_seconds": 0}},
        {"id": "some", "uses": "tool:calculate", "on_error": "continue", "for_each": ["1", "1 +", "3"],
            "with": {"expression": "{{ item }}"}},
        calculate("after", "{{ 5 if steps.bad.error else 6 }} + 0"),
    ]);
    let run = ran(&app, steps, json!({"n": 1})).await;
    assert_eq!(run["state"], json!("SUCCESS"), "{run}");
    assert_eq!(run["result"]["after"]["result"], json!("5"));
    let some = run["result"]["some"].as_array().expect("a list");
    assert_eq!((&some[0]["result"], &some[1], &some[2]["result"]), (&json!("1"), &Value::Null, &json!("3")));
    let page =
        app.get(&format!("/v1/run/{}/events", run["runId"].as_str().expect("an id"))).send().await.ok(200);
    let begun =
        page["events"].as_array().expect("events").iter().filter(|event| event["type"] == "step.started");
    let begun: Vec<_> =
        begun.map(|event| event["data"]["step"].as_str().expect("a step").to_owned()).collect();
    for step in ["bad", "bad~2", "bad~3", "some[0]", "some[2]", "after"] {
        assert!(begun.contains(&step.to_owned()), "{step} of {begun:?}");
    }
}

#[tokio::test]
async fn people_approve_deny_and_edit_steps() {
    let app = TestApp::new().await;
    let gated = json!([{"id": "sum", "uses": "tool:calculate", "requires_approval": true,
        "with": {"expression": "{{ input.n }} + 1"}},
        {"id": "sure", "uses": "approval", "needs": ["sum"], "with": {"message": "{{ steps.sum.output.result }}?"}}]);
    let made = created(&app, json!({"name": "W", "steps": gated})).await;
    let workflow = made["id"].as_str().expect("an id");
    let id = start(&app, workflow, "workflow", json!({"n": 1})).await;
    let run = until_waiting(&app, &id, 1).await;
    assert_eq!(run["waitingFor"][0]["name"], json!("tool:calculate"), "{run}");
    assert_eq!(run["waitingFor"][0]["arguments"], json!({"expression": "1 + 1"}));
    let edit = json!({"arguments": {"expression": "20 + 1"}});
    app.post(&format!("/v1/run/{id}/approve"), edit).send().await.ok(202);
    let run = until(&app, &id, |run| run["waitingFor"][0]["step"] == "sure").await;
    assert_eq!(run["waitingFor"][0]["arguments"], json!({"message": "21?"}));
    app.post(&format!("/v1/run/{id}/approve"), json!({"comment": "yes"})).send().await.ok(202);
    let run = ended(&app, &id).await;
    assert_eq!(run["result"]["sure"]["comment"], json!("yes"), "{run}");

    let id = start(&app, workflow, "workflow", json!({"n": 1})).await;
    until_waiting(&app, &id, 1).await;
    app.post(&format!("/v1/run/{id}/deny"), json!({})).send().await.ok(202);
    let run = ended(&app, &id).await;
    assert_eq!((&run["state"], &run["error"]["code"]), (&json!("FAILED"), &json!("denied")), "{run}");
    assert_eq!(run["events"], json!([]), "it was not done");
}

#[tokio::test]
async fn workflows_begin_workflows_and_agents_and_keep_their_version() {
    let app = TestApp::new().await;
    created(
        &app,
        json!({"id": "inner", "name": "Inner", "steps": [
            {"id": "go", "uses": "signal", "with": {"name": "go"}}, calculate("sum", "{{ input.n }} + 1")],
        "input_schema": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]},
        "output": "{{ steps.sum.output.result }}"}),
    )
    .await;
    let wrong = json!({"name": "O", "steps": [{"id": "in", "uses": "workflow:inner", "with": {"m": 1}}]});
    assert_eq!(
        app.post("/v1/workflows", wrong).send().await.error(422).1.as_deref(),
        Some("steps[0].with.n")
    );
    created(&app, json!({"id": "outer", "name": "Outer", "steps": [
        {"id": "in", "uses": "workflow:inner", "with": {"n": "{{ input.n }}"}},
        {"id": "say", "uses": "agent:agent_default", "with": {"goal": "What is {{ steps.in.output }} * 2?"}}]})).await;
    let id = start(&app, "outer", "workflow", json!({"n": 20})).await;
    let run = until_waiting(&app, &id, 1).await;
    let child = run["waitingFor"][0]["runId"].as_str().expect("a run").to_owned();
    assert_eq!(run["waitingFor"][0]["for"], json!("run"));
    // Neither change reaches the run that has begun.
    let change = json!({"output": "0"});
    app.call(Method::PATCH, "/v1/workflows/inner").json(change).send().await.ok(200);
    app.delete("/v1/workflows/outer").send().await.ok(204);
    until_waiting(&app, &child, 1).await;
    app.post(&format!("/v1/run/{child}/signal"), json!({"name": "go"})).send().await.ok(202);
    let run = ended(&app, &id).await;
    assert_eq!(run["state"], json!("SUCCESS"), "{run}");
    assert!(run["result"]["say"].as_str().expect("text").contains("42"), "{run}");

    let body = json!({"target": "inner", "type": "workflow", "input": {"n": "x"}});
    assert_eq!(
        app.post("/v1/run", body).send().await.error(422),
        ("invalid_input".to_owned(), Some("input.n".to_owned()))
    );
    // A workflow cannot be its own step, nor through another.
    let itself = json!({"steps": [{"id": "in", "uses": "workflow:inner", "with": {"n": 1}}]});
    let reply = app.call(Method::PATCH, "/v1/workflows/inner").json(itself).send().await;
    assert_eq!(reply.error(422).1.as_deref(), Some("steps[0].uses"));
}

#[tokio::test]
async fn nobody_is_asked_about_what_would_be_refused() {
    let app = TestApp::new().await;
    let steps = json!([{"id": "sum", "uses": "tool:calculate", "requires_approval": true,
        "with": {"expression": "{{ input.n }}"}}]);
    let run = ran(&app, steps, json!({"n": 1})).await;
    assert_eq!(run["error"]["code"], json!("invalid_arguments"), "{run}");
}

#[tokio::test]
async fn a_workflow_is_no_way_around_a_scope() {
    let app = TestApp::new().await;
    created(&app, json!({"id": "w", "name": "W", "steps": [calculate("a", "1")]})).await;
    let key = app.key_with("run:write").await;
    let body = json!({"target": "w", "type": "workflow"});
    let reply = app.post("/v1/run", body).key(&key).send().await;
    assert_eq!(reply.error(403), ("missing_scope".to_owned(), Some("tools:call".to_owned())));
}

#[tokio::test]
async fn a_failed_workflow_is_retried_from_the_step_that_failed() {
    let app = TestApp::new().await;
    let steps = json!([calculate("good", "1 + 1"),
        {"id": "sure", "uses": "approval", "needs": ["good"]}, {"id": "last", "uses": "tool:calculate",
            "needs": ["sure"], "with": {"expression": "2 + 2"}}]);
    let made = created(&app, json!({"name": "W", "steps": steps})).await;
    let id = start(&app, made["id"].as_str().expect("an id"), "workflow", json!({})).await;
    until_waiting(&app, &id, 1).await;
    app.post(&format!("/v1/run/{id}/deny"), json!({})).send().await.ok(202);
    assert_eq!(ended(&app, &id).await["error"]["code"], json!("denied"));
    let again = app.post(&format!("/v1/run/{id}/retry"), json!({"async": true})).send().await.ok(202);
    let again = again["runId"].as_str().expect("an id").to_owned();
    until_waiting(&app, &again, 1).await;
    app.post(&format!("/v1/run/{again}/approve"), json!({})).send().await.ok(202);
    let run = ended(&app, &again).await;
    assert_eq!((&run["state"], &run["result"]["last"]["result"]), (&json!("SUCCESS"), &json!("4")), "{run}");
    let tools: Vec<_> = run["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| &event["arguments"]["expression"])
        .collect();
    assert_eq!(tools, ["1 + 1", "2 + 2"]);
}
