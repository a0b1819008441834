//! Runs that wait: approvals, signals, runs of their own.

use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, call, calls, says, sent};
use crate::app::TestApp;

/// Until the run waits for so many things.
pub(crate) async fn until_waiting(app: &TestApp, id: &str, count: usize) -> Value {
    until(app, id, |run| {
        run["state"] == "WAITING" && run["waitingFor"].as_array().is_some_and(|waits| waits.len() == count)
    })
    .await
}

pub(crate) async fn until(app: &TestApp, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let run_id = id.parse().expect("an id");
    let mut watch = app.hub.engine.watch(run_id);
    let found = async {
        loop {
            let run = app.get(&format!("/v1/run/{id}")).send().await.ok(200);
            if is_so(&run) {
                return run;
            }
            assert!(run["finishedAt"].is_null(), "it has ended: {run}");
            watch.changed().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), found).await.expect("it comes to that")
}

pub(crate) async fn ended(app: &TestApp, id: &str) -> Value {
    let run_id = id.parse().expect("an id");
    let wait = app.hub.wait_for_run(&app.workspace_id, run_id, std::time::Duration::from_secs(20)).await;
    wait.expect("a wait").expect("the run ends");
    app.get(&format!("/v1/run/{id}")).send().await.ok(200)
}

pub(crate) async fn start(app: &TestApp, target: &str, kind: &str, input: Value) -> String {
    let body = json!({"target": target, "type": kind, "input": input, "async": true});
    app.post("/v1/run", body).send().await.ok(202)["runId"].as_str().expect("an id").to_owned()
}

async fn asking_app(
    answers: impl IntoIterator<Item = nh_testkit::upstream::Reply>,
) -> (TestApp, nh_testkit::upstream::Upstream) {
    let (app, upstream) = app_and_model(answers).await;
    let change = json!({"requires_approval": ["calculate"]});
    app.call(http::Method::PATCH, "/v1/agents/a").json(change).send().await.ok(200);
    (app, upstream)
}

fn sums() -> nh_testkit::upstream::Reply {
    calls(&[call("c1", "calculate", "{\"expression\": \"1 + 1\"}"), call("c2", "calculate", "{\"oops\": 1}")])
}

#[tokio::test]
async fn a_tool_that_wants_approval_is_called_when_a_person_says_so() {
    let (app, upstream) = asking_app([sums(), says("Two.")]).await;
    let id = start(&app, "a", "agent", json!({"goal": "Add."})).await;
    let run = until_waiting(&app, &id, 1).await;
    let wait = &run["waitingFor"][0];
    assert_eq!((&wait["for"], &wait["name"]), (&json!("approval"), &json!("calculate")), "{run}");
    assert_eq!(wait["arguments"], json!({"expression": "1 + 1"}));
    assert_eq!(run["events"].as_array().expect("events").len(), 1, "what cannot be called asks nobody");

    let approve = format!("/v1/run/{id}/approve");
    for (body, status, param) in [
        (json!({"step": "approval:9.9"}), 409, "step"),
        (json!({"arguments": {"expression": 5}}), 422, "arguments.expression"),
        (json!({"comment": "x".repeat(5000)}), 422, "comment"),
        (json!({"comments": "x"}), 400, "comments"),
    ] {
        assert_eq!(app.post(&approve, body).send().await.error(status).1.as_deref(), Some(param));
    }
    let decided = app.post(&approve, json!({"step": wait["step"]})).send().await.ok(202);
    assert_eq!(decided, json!({"runId": id, "step": "approval:1.1", "approved": true}));
    let run = ended(&app, &id).await;
    assert_eq!((&run["result"], run.get("waitingFor")), (&json!("Two."), None), "{run}");
    assert_eq!(sent(&upstream, 1)["messages"][3]["content"], json!("1 + 1 = 2"));
    assert_eq!(app.post(&approve, json!({})).send().await.error(409).1.as_deref(), Some("runId"));
}

#[tokio::test]
async fn a_person_may_deny_a_call_or_have_another_made() {
    let (app, upstream) = asking_app([sums(), sums(), says("None.")]).await;
    let id = start(&app, "a", "agent", json!({"goal": "Add."})).await;
    until_waiting(&app, &id, 1).await;
    app.post(&format!("/v1/run/{id}/deny"), json!({"comment": "too dear"})).send().await.ok(202);
    until(&app, &id, |run| run["waitingFor"][0]["step"] == "approval:2.1").await;
    let edited = json!({"arguments": {"expression": "2 + 2"}});
    app.post(&format!("/v1/run/{id}/approve"), edited).send().await.ok(202);
    let run = ended(&app, &id).await;
    assert_eq!(run["state"], json!("SUCCESS"), "{run}");
    let told =
        |call, place: usize| sent(&upstream, call)["messages"][place]["content"].as_str().map(str::to_owned);
    assert_eq!(told(1, 3).as_deref(), Some("Error (denied): A person denied it: too dear"));
    let edited = told(2, 6).expect("a text");
    assert!(edited.ends_with("2 + 2 = 4") && edited.contains("instead"), "{edited}");
}

#[tokio::test]
async fn an_agent_may_be_another_ones_tool() {
    let (app, upstream) = app_and_model([
        calls(&[call("c1", "run_agent_b", "{\"goal\": \"Think.\"}"), call("c2", "run_agent_b", "{}")]),
        says("A thought."),
        says("Done."),
    ])
    .await;
    let b = json!({"id": "b", "name": "Thinker", "description": "thinks", "model_id": crate::upstream::MODEL, "tools": []});
    app.post("/v1/agents", b).send().await.ok(201);
    for tools in [json!(["agent:nobody"]), json!(["workflow:nobody"]), json!(["tool:calculate"])] {
        let change = app.call(http::Method::PATCH, "/v1/agents/a").json(json!({"tools": tools}));
        assert_eq!(change.send().await.error(422).1.as_deref(), Some("tools[0]"));
    }
    app.call(http::Method::PATCH, "/v1/agents/a").json(json!({"tools": ["agent:b"]})).send().await.ok(200);

    let id = start(&app, "a", "agent", json!({"goal": "Ask."})).await;
    let run = ended(&app, &id).await;
    assert_eq!((&run["state"], &run["result"]), (&json!("SUCCESS"), &json!("Done.")), "{run}");
    assert_eq!(run["usage"]["inputTokens"], json!(30), "with the child's");
    let offered = &sent(&upstream, 0)["tools"][0]["function"];
    assert_eq!(
        (&offered["name"], &offered["description"]),
        (&json!("run_agent_b"), &json!("Thinker: thinks"))
    );
    assert_eq!(sent(&upstream, 2)["messages"][3]["content"], json!("A thought."));
    assert_eq!(run["events"][0]["output"], json!("A thought."));
    assert_eq!(run["events"][1]["error"]["code"], json!("invalid_arguments"));

    let listed = app.get("/v1/runs").send().await.ok(200);
    assert_eq!(listed["runs"].as_array().expect("runs").len(), 1, "children are listed apart");
    let children = app.get(&format!("/v1/runs?parent_run_id={id}")).send().await.ok(200);
    assert_eq!(children["runs"][0]["parentRunId"], json!(id));
    assert_eq!(
        (&children["runs"][0]["target"], &children["runs"][0]["state"]),
        (&json!("b"), &json!("SUCCESS"))
    );
}

#[tokio::test]
async fn agents_that_call_each_other_are_refused_when_they_are_run() {
    let (app, _) = app_and_model([]).await;
    app.call(http::Method::PATCH, "/v1/agents/a").json(json!({"tools": ["agent:a"]})).send().await.ok(200);
    let body = json!({"target": "a", "type": "agent", "input": {"goal": "Ask."}});
    let reply = app.post("/v1/run", body).send().await;
    assert_eq!(reply.error(422), ("invalid_value".to_owned(), Some("target".to_owned())));
}

#[tokio::test]
async fn signals_are_checked_and_told_apart() {
    let app = TestApp::new().await;
    let workflow = json!({"id": "w", "name": "W", "steps": [
        {"id": "paid", "uses": "signal", "with": {"name": "payment"}}]});
    app.post("/v1/workflows", workflow).send().await.ok(201);
    let id = start(&app, "w", "workflow", json!({})).await;
    let run = until_waiting(&app, &id, 1).await;
    assert_eq!(
        (&run["waitingFor"][0]["for"], &run["waitingFor"][0]["name"]),
        (&json!("signal"), &json!("payment"))
    );
    let signal = format!("/v1/run/{id}/signal");
    for (body, status, param) in [
        (json!({"name": "approval:paid"}), 422, "name"),
        (json!({"name": ""}), 422, "name"),
        (json!({"name": "payment", "id": "run:1"}), 422, "id"),
        (json!({"name": "payment", "data": "x".repeat(70_000)}), 413, "data"),
        (json!({}), 400, "name"),
    ] {
        assert_eq!(app.post(&signal, body).send().await.error(status).1.as_deref(), Some(param));
    }
    assert_eq!(
        app.post(&format!("/v1/run/{id}/approve"), json!({})).send().await.error(409).1.as_deref(),
        Some("step")
    );
    let first = json!({"name": "other", "id": "one"});
    assert_eq!(app.post(&signal, first.clone()).send().await.ok(202)["status"], json!("accepted"));
    assert_eq!(app.post(&signal, first).send().await.ok(202)["status"], json!("repeated"));
    let paid = json!({"name": "payment", "data": {"amount": 391}});
    app.post(&signal, paid.clone()).send().await.ok(202);
    assert_eq!(ended(&app, &id).await["result"], json!({"paid": {"amount": 391}}));
    assert_eq!(app.post(&signal, paid).send().await.error(409).1.as_deref(), Some("runId"));
}
