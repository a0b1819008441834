//! Threads, and how many runs may be under way at once.

use http::Method;
use nh_store::runs::Share;
use nh_store::workspaces;
use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, call, calls, says, sent};
use crate::app::{Call, TestApp};
use crate::waits::{ended, start, until, until_waiting};

async fn say(app: &TestApp, thread: &str, goal: &str) -> Value {
    let body = json!({"target": "a", "type": "agent", "input": {"goal": goal}, "thread_id": thread});
    app.post("/v1/run", body).send().await.ok(200)
}

fn shown(upstream: &Upstream, call: usize) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sent = sent(upstream, call);
    let messages = sent["messages"].as_array().unwrap();
    messages.iter().map(|message| (text(&message["role"]), text(&message["content"]))).collect()
}

fn pairs(told: &[(&str, &str)]) -> Vec<(String, String)> {
    told.iter().map(|(role, content)| ((*role).to_owned(), (*content).to_owned())).collect()
}

#[tokio::test]
async fn a_thread_continues_its_conversation() {
    let failure = || Reply::error(400, "bad", "no");
    let (app, upstream) =
        app_and_model([says("Hello, Ada."), failure(), says("Ada."), says("Nobody."), says("Ada!")]).await;
    say(&app, "t", "I am Ada.").await;
    assert_eq!(say(&app, "t", "What?").await["state"], "FAILED");
    let third = say(&app, "t", "Who am I?").await;
    assert_eq!((&third["result"], &third["threadId"]), (&json!("Ada."), &json!("t")), "{third}");
    let before = [("system", "Be brief."), ("user", "I am Ada."), ("assistant", "Hello, Ada.")];
    let with = |last| pairs(&[&before[..], &[("user", last)]].concat());
    assert_eq!(shown(&upstream, 2), with("Who am I?"), "what failed is not part of it");

    // Another thread, and no thread, know nothing of it.
    say(&app, "u", "Who am I?").await;
    assert_eq!(shown(&upstream, 3), pairs(&[("system", "Be brief."), ("user", "Who am I?")]));

    // A fork sees what the original saw, and is not part of the thread itself.
    let fork = format!("/v1/run/{}/fork", third["runId"].as_str().unwrap());
    let forked = app.post(&fork, json!({})).send().await.ok(200);
    assert_eq!((&forked["result"], forked.get("threadId")), (&json!("Ada!"), None), "{forked}");
    assert_eq!(shown(&upstream, 4), with("Who am I?"));

    let listed = app.get("/v1/runs?thread_id=t").send().await.ok(200);
    assert_eq!(listed["runs"].as_array().unwrap().len(), 3, "{listed}");
    let (_, other) = app.other_workspace().await;
    let body =
        json!({"target": "agent_default", "type": "agent", "input": {"goal": "1 + 1"}, "thread_id": "t"});
    let theirs = app.post("/v1/run", body).key(&other).send().await.ok(200);
    assert!(!theirs.to_string().contains("Ada"), "{theirs}");
}

#[tokio::test]
async fn two_runs_on_one_thread_queue_up() {
    let asks = calls(&[call("c1", "calculate", "{\"expression\": \"1 + 1\"}")]);
    let (app, upstream) = app_and_model([asks, says("Two."), says("Three.")]).await;
    let change = json!({"requires_approval": ["calculate"]});
    app.call(Method::PATCH, "/v1/agents/a").json(change).send().await.ok(200);
    let input = |goal: &str| json!({"goal": goal, "thread_id": "t"});
    let first = start(&app, "a", "agent", input("Add.")).await;
    until_waiting(&app, &first, 1).await;
    let second = start(&app, "a", "agent", input("One more.")).await;
    let waiting = app.get(&format!("/v1/run/{second}")).send().await.ok(200);
    assert_eq!((&waiting["state"], &waiting["startedAt"]), (&json!("PENDING"), &Value::Null));
    app.post(&format!("/v1/run/{first}/approve"), json!({})).send().await.ok(202);
    assert_eq!(ended(&app, &first).await["result"], "Two.");
    assert_eq!(ended(&app, &second).await["result"], "Three.");
    let last = shown(&upstream, 2);
    assert_eq!(last[1..], pairs(&[("user", "Add."), ("assistant", "Two."), ("user", "One more.")]));
}

#[tokio::test]
async fn a_run_that_left_a_thread_unbegun_lets_nobody_overtake() {
    let asks = calls(&[call("c1", "calculate", "{\"expression\": \"1 + 1\"}")]);
    let (app, upstream) = app_and_model([asks, says("Two."), says("Three.")]).await;
    let change = json!({"requires_approval": ["calculate"]});
    app.call(Method::PATCH, "/v1/agents/a").json(change).send().await.ok(200);
    let input = |goal: &str| json!({"goal": goal, "thread_id": "t"});
    let first = start(&app, "a", "agent", input("Add.")).await;
    until_waiting(&app, &first, 1).await;
    let second = start(&app, "a", "agent", input("Never asked.")).await;
    app.post(&format!("/v1/run/{second}/cancel"), json!({})).send().await.ok(200);
    let third = start(&app, "a", "agent", input("One more.")).await;
    let waiting = app.get(&format!("/v1/run/{third}")).send().await.ok(200);
    assert_eq!(waiting["state"], "PENDING", "the first goes on: {waiting}");
    app.post(&format!("/v1/run/{first}/approve"), json!({})).send().await.ok(202);
    assert_eq!(ended(&app, &third).await["result"], "Three.");
    let last = shown(&upstream, 2);
    assert_eq!(last[1..], pairs(&[("user", "Add."), ("assistant", "Two."), ("user", "One more.")]));
}

#[tokio::test]
async fn threads_that_make_no_sense_are_refused_by_name() {
    let app = TestApp::new().await;
    for (more, status, param) in [
        (json!({"thread_id": ""}), 422, "thread_id"),
        (json!({"thread_id": "x".repeat(129)}), 422, "thread_id"),
        (json!({"thread_id": 7}), 400, "thread_id"),
        (json!({"thread_id": "a", "input": {"goal": "x", "thread_id": "b"}}), 422, "thread_id"),
        (json!({"input": {"goal": "x", "thread_id": 7}}), 400, "input.thread_id"),
        (
            json!({"target": "calculate", "type": "tool", "input": {"expression": "1"}, "thread_id": "t"}),
            422,
            "thread_id",
        ),
    ] {
        let mut body = json!({"target": "agent_default", "type": "agent", "input": {"goal": "x"}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = app.post("/v1/run", body).send().await.error(status);
        assert_eq!(error.1.as_deref(), Some(param), "{more}");
    }
}

/// The first run's model does not answer: while only one run of `a` may be
/// under way, the second begins when that one is cancelled.
async fn one_at_a_time(app: &TestApp, key: Option<&str>) {
    let with_key = |call: Call| if let Some(key) = key { call.key(key) } else { call };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let body = json!({"target": "a", "type": "agent", "input": {"goal": "Add."}, "async": true});
        let accepted = with_key(app.post("/v1/run", body)).send().await.ok(202);
        ids.push(accepted["runId"].as_str().unwrap().to_owned());
        until(app, &ids[0], |run| run["state"] == "RUNNING").await;
    }
    // Whatever could begin has begun once a later run has ended.
    let sum = json!({"target": "calculate", "type": "tool", "input": {"expression": "1 + 1"}});
    let other = app.other_workspace().await.1;
    app.post("/v1/run", sum).key(&other).send().await.ok(200);
    let second = app.get(&format!("/v1/run/{}", ids[1])).send().await.ok(200);
    assert_eq!(second["state"], "PENDING", "{second}");
    app.post(&format!("/v1/run/{}/cancel", ids[0]), json!({})).send().await.ok(200);
    assert_eq!(ended(app, &ids[1]).await["state"], "SUCCESS");
}

#[tokio::test]
async fn an_agent_keeps_to_its_bound() {
    let (app, _upstream) = app_and_model([Reply::Silent, says("Two.")]).await;
    let change = json!({"limits": {"max_running": 1}});
    app.call(Method::PATCH, "/v1/agents/a").json(change).send().await.ok(200);
    one_at_a_time(&app, None).await;
}

#[tokio::test]
async fn a_key_keeps_to_its_bound() {
    let (app, _upstream) = app_and_model([Reply::Silent, says("Two.")]).await;
    let body = json!({"name": "k", "scopes": ["run:write"], "limits": {"max_running": 1}});
    let key = app.post("/v1/keys", body).send().await.ok(201)["key"].as_str().unwrap().to_owned();
    one_at_a_time(&app, Some(&key)).await;
}

#[tokio::test]
async fn a_workspace_keeps_to_its_bound() {
    let (app, _upstream) = app_and_model([Reply::Silent, says("Two.")]).await;
    let share = Share { weight: 1, max_running: Some(1) };
    let set = workspaces::SetShare { id: app.workspace_id.clone(), share };
    assert!(app.store().write(set).await.unwrap());
    app.clock.advance_ms(1000);
    one_at_a_time(&app, None).await;
}

#[tokio::test]
async fn what_the_models_window_does_not_hold_is_left_out_the_oldest_first() {
    let upstream = Upstream::start().await.unwrap();
    let long = |letter: &str| letter.repeat(20_000);
    for letter in ["a", "b", "c", "d"] {
        upstream.reply(says(&long(letter)));
    }
    // 20,000 letters are taken for 5,000 tokens; 9 tenths of the window less
    // 4,096 tokens hold two such answers.
    let model = serde_json::from_value(json!({"id": "m", "context_length": 18_000})).unwrap();
    let app = crate::upstream::app_serving(upstream.base_url(), model).await;
    let agent = json!({"id": "a", "name": "A", "model_id": crate::upstream::MODEL, "system_prompt": "Be brief.", "tools": []});
    app.post("/v1/agents", agent).send().await.ok(201);
    let mut last = Value::Null;
    for goal in ["one", "two", "three", "four"] {
        last = say(&app, "t", goal).await;
    }
    let told = shown(&upstream, 3);
    let ends = |text: &str| text.chars().next_back().unwrap().to_string();
    let order: Vec<String> = told.iter().map(|(_, text)| ends(text)).collect();
    assert_eq!(order, [")", "o", "b", "e", "c", "r"], "the first exchange went");
    assert!(told[0].1.contains("(2 earlier messages were left out"), "{}", told[0].1);
    let journal =
        app.get(&format!("/v1/run/{}/events", last["runId"].as_str().unwrap())).send().await.ok(200);
    let left_out = &journal["events"][2]["data"]["output"]["left_out"];
    assert_eq!(left_out, &json!({"messages": 2, "bytes": 0}), "{journal}");
}

#[tokio::test]
async fn a_provider_that_finds_a_prompt_too_long_gets_a_shorter_one() {
    let refusal =
        Reply::error(400, "context_length_exceeded", "This model's maximum context length is 8192 tokens.");
    let (long, short) = ("a".repeat(20_000), "b".repeat(10_000));
    let (app, upstream) = app_and_model([says(&long), says(&short), refusal, says("Yes.")]).await;
    say(&app, "t", "one").await;
    say(&app, "t", "two").await;
    assert_eq!(say(&app, "t", "three").await["result"], json!("Yes."));
    assert_eq!((shown(&upstream, 2).len(), shown(&upstream, 3).len()), (6, 4));
}
