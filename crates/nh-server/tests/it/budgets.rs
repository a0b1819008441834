//! What runs and keys may spend: reserved before a call, settled after it.

use nh_models::ModelSettings;
use nh_testkit::upstream::{Reply, Upstream};
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, call, calls, says, sent};
use crate::app::TestApp;
use crate::upstream::{MODEL, app_on, app_serving, chat};

/// A million tokens in cost a dollar, a million out ten.
async fn priced_app(replies: impl IntoIterator<Item = Reply>) -> (TestApp, Upstream) {
    let upstream = Upstream::start().await.expect("a port");
    replies.into_iter().for_each(|reply| upstream.reply(reply));
    let model = json!({"id": "m", "input_cost": 1.0, "output_cost": 10.0});
    let model: ModelSettings = serde_json::from_value(model).expect("settings");
    let app = app_serving(upstream.base_url(), model).await;
    app.post("/v1/agents", json!({"id": "a", "name": "A", "model_id": MODEL, "tools": ["calculate"]}))
        .send()
        .await
        .ok(201);
    (app, upstream)
}

fn sum(id: &str) -> Value {
    call(id, "calculate", "{\"expression\": \"1 + 1\"}")
}

async fn run_with(app: &TestApp, more: Value) -> Value {
    let mut body = json!({"target": "a", "type": "agent", "input": {"goal": "Add."}});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    app.post("/v1/run", body).send().await.ok(200)
}

fn spent_up(run: &Value) -> &str {
    assert_eq!(
        (&run["state"], &run["error"]["code"]),
        (&json!("FAILED"), &json!("budget_exceeded")),
        "{run}"
    );
    run["error"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn a_run_that_would_go_beyond_its_tokens_ends_and_keeps_what_it_has() {
    let thinks = Reply::json(
        200,
        &json!({
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message":
                {"role": "assistant", "content": "Let me add.", "tool_calls": [sum("c1")]}}],
            "usage": {"prompt_tokens": 900, "completion_tokens": 50, "total_tokens": 950},
        }),
    );
    let (app, upstream) = app_and_model([thinks]).await;
    // A prompt with all tools would be too long for the first call.
    let change = json!({"tools": ["calculate"]});
    app.call(http::Method::PATCH, "/v1/agents/a").json(change).send().await.ok(200);
    let run = run_with(&app, json!({"budget": {"max_tokens": 1000}})).await;
    assert_eq!(
        spent_up(&run).split(':').next(),
        Some("the run's budget of 1000 tokens is not enough"),
        "{run}"
    );
    assert_eq!((&run["partialResult"], &run["result"]), (&json!("Let me add."), &Value::Null));
    assert_eq!((&run["budget"], &run["usage"]["inputTokens"]), (&json!({"max_tokens": 1000}), &json!(900)));
    assert_eq!(upstream.calls().len(), 1, "the second call was never made");
    let granted = sent(&upstream, 0)["max_tokens"].as_i64().unwrap();
    assert!((16..1000).contains(&granted), "the answer was held to what is left: {granted}");
}

#[tokio::test]
async fn steps_count_models_tools_and_the_runs_within() {
    let (app, upstream) = app_and_model([
        calls(&[call("c1", "run_agent_sub", "{\"goal\": \"Add.\"}")]),
        calls(&[sum("c2")]),
        says("Never asked for."),
    ])
    .await;
    app.post("/v1/agents", json!({"id": "sub", "name": "S", "model_id": MODEL})).send().await.ok(201);
    let change = json!({"tools": ["agent:sub"]});
    app.call(http::Method::PATCH, "/v1/agents/a").json(change).send().await.ok(200);
    let run = run_with(&app, json!({"budget": {"max_steps": 3}})).await;
    assert_eq!(spent_up(&run), "the run's budget of 3 steps is used up");
    assert_eq!(upstream.calls().len(), 2);
    let child =
        &app.get(&format!("/v1/runs?parent_run_id={}", run["runId"].as_str().unwrap())).send().await.ok(200)
            ["runs"][0];
    assert_eq!(child["error"]["code"], "budget_exceeded", "{child}");
    // What the child used is the parent's too.
    let by_model = &run["usage"]["byModel"];
    assert_eq!((&by_model[0]["model"], &by_model[0]["calls"]), (&json!(MODEL), &json!(2)), "{run}");
    assert_eq!(by_model[0]["inputTokens"], json!(20));
    assert_eq!(run["usage"]["byTool"][0]["tool"], "calculate");
}

#[tokio::test]
async fn an_agents_limits_hold_for_each_of_its_runs() {
    let (app, _upstream) = app_and_model([calls(&[sum("c1")]), calls(&[sum("c2")])]).await;
    let change = json!({"limits": {"max_steps": 1, "timeout_seconds": 60}});
    let agent = app.call(http::Method::PATCH, "/v1/agents/a").json(change).send().await.ok(200);
    assert_eq!(agent["limits"], json!({"max_steps": 1, "timeout_seconds": 60}));
    for more in [json!({}), json!({"budget": {"max_steps": 50}})] {
        let run = run_with(&app, more).await;
        assert!(spent_up(&run).contains("1 steps"), "{run}");
    }
}

#[tokio::test]
async fn money_is_reserved_by_the_price_and_settled_by_what_was_used() {
    let (app, upstream) = priced_app([calls(&[sum("c1")]), says("Two.")]).await;
    let run = run_with(&app, json!({"budget": {"max_cost_usd": 0.0013}})).await;
    assert_eq!(run["state"], "SUCCESS", "{run}");
    assert_eq!(run["usage"]["costUsd"], json!(0.000_12), "20 tokens in, 10 out");
    // A hundredth of a cent is ten tokens out.
    let granted = sent(&upstream, 0)["max_tokens"].as_i64().unwrap();
    assert!((16..100).contains(&granted), "{granted}");
    let broke = run_with(&app, json!({"budget": {"max_cost_usd": 0.0001}})).await;
    assert!(spent_up(&broke).starts_with("the run's budget of $0.0001 is not enough"), "{broke}");
    assert_eq!(upstream.calls().len(), 2);
}

#[tokio::test]
async fn a_keys_budget_holds_for_its_calls_and_its_runs_of_a_month() {
    let answer = Reply::json(
        200,
        &json!({
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hi."}}],
            "usage": {"prompt_tokens": 1000, "completion_tokens": 900, "total_tokens": 1900},
        }),
    );
    let (app, upstream) = priced_app([answer, says("Hello.")]).await;
    let body = json!({"name": "k", "scopes": ["chat:write", "run:write", "keys:write"], "budget_usd": 0.01});
    let created = app.post("/v1/keys", body).send().await.ok(201);
    let key = created["key"].as_str().unwrap().to_owned();
    app.post("/v1/chat/completions", chat(false)).key(&key).send().await.ok(200);
    assert_eq!(
        app.post("/v1/chat/completions", chat(false)).key(&key).send().await.code(402),
        "budget_exceeded"
    );
    let keys = app.get("/v1/keys").send().await.ok(200);
    let shown = keys["keys"].as_array().unwrap().iter().find(|shown| shown["id"] == created["id"]).unwrap();
    assert_eq!((&shown["budget_usd"], &shown["spent_usd"]), (&json!(0.01), &json!(0.01)), "{shown}");
    let run = json!({"target": "a", "type": "agent", "input": {"goal": "Add."}});
    assert_eq!(app.post("/v1/run", run).key(&key).send().await.code(402), "budget_exceeded");
    let more = json!({"name": "k", "scopes": ["chat:write"]});
    assert_eq!(app.post("/v1/keys", more).key(&key).send().await.code(403), "limited_key");
    assert_eq!(upstream.calls().len(), 1);
    // A new month begins.
    app.clock.advance_ms(31 * 24 * 3600 * 1000);
    app.post("/v1/chat/completions", chat(false)).key(&key).send().await.ok(200);
}

#[tokio::test]
async fn a_key_can_bound_each_of_its_runs() {
    let (app, _upstream) = app_and_model([calls(&[sum("c1")]), calls(&[sum("c1")])]).await;
    let body = json!({"name": "k", "scopes": ["run:write"], "limits": {"max_steps": 1}});
    let key = app.post("/v1/keys", body).send().await.ok(201)["key"].as_str().unwrap().to_owned();
    let run = json!({"target": "a", "type": "agent", "input": {"goal": "Add."}});
    let run = app.post("/v1/run", run).key(&key).send().await.ok(200);
    spent_up(&run);
    // What it forks is held to it too.
    let fork = format!("/v1/run/{}/fork", run["runId"].as_str().unwrap());
    spent_up(&app.post(&fork, json!({})).key(&key).send().await.ok(200));
}

#[tokio::test]
async fn without_a_price_no_budget_in_dollars_is_kept() {
    let upstream = Upstream::start().await.expect("a port");
    let app = app_on(upstream.base_url()).await;
    app.post("/v1/agents", json!({"id": "a", "name": "A", "model_id": MODEL})).send().await.ok(201);
    let run = run_with(&app, json!({"budget": {"max_cost_usd": 1}})).await;
    assert_eq!(
        (&run["state"], &run["error"]["code"]),
        (&json!("FAILED"), &json!("invalid_request")),
        "{run}"
    );
    assert!(run["error"]["message"].as_str().unwrap().contains("the price of `m` is not known"), "{run}");
    assert!(upstream.calls().is_empty());
}

#[tokio::test]
async fn a_workflow_without_means_fails_whatever_its_steps_say_of_errors() {
    let app = TestApp::new().await;
    let sums = |id: &str| json!({"id": id, "uses": "tool:calculate", "with": {"expression": "1 + 1"}, "on_error": "continue"});
    let mut last = sums("b");
    last["needs"] = json!(["a"]);
    let workflow = json!({"id": "w", "name": "W", "steps": [sums("a"), last]});
    app.post("/v1/workflows", workflow).send().await.ok(201);
    let body = json!({"target": "w", "type": "workflow", "budget": {"max_steps": 1}});
    let run = app.post("/v1/run", body).send().await.ok(200);
    spent_up(&run);
    assert_eq!(run["partialResult"]["a"]["result"], "2", "{run}");
}

#[tokio::test]
async fn budgets_that_make_no_sense_are_refused_by_name() {
    let app = TestApp::new().await;
    for (budget, param) in [
        (json!({"max_tokens": 0}), "budget.max_tokens"),
        (json!({"max_steps": -1}), "budget.max_steps"),
        (json!({"max_cost_usd": -0.5}), "budget.max_cost_usd"),
        (json!({"max_cost_usd": 1e9}), "budget.max_cost_usd"),
    ] {
        let body =
            json!({"target": "agent_default", "type": "agent", "input": {"goal": "x"}, "budget": budget});
        let error = app.post("/v1/run", body).send().await.error(422);
        assert_eq!(error, ("invalid_value".to_owned(), Some(param.to_owned())));
    }
    let wrong =
        json!({"target": "agent_default", "type": "agent", "input": {"goal": "x"}, "budget": {"usd": 1}});
    assert_eq!(app.post("/v1/run", wrong).send().await.code(400), "unknown_field");
    let agent = json!({"name": "n", "limits": {"max_running": 0}});
    let error = app.post("/v1/agents", agent).send().await.error(422);
    assert_eq!(error.1.as_deref(), Some("limits.max_running"));
}

#[tokio::test]
async fn a_retried_run_has_its_budget_anew() {
    let (app, _upstream) = app_and_model([calls(&[sum("c1")]), says("Two.")]).await;
    let body = json!({"target": "a", "type": "agent", "input": {"goal": "Add."}, "budget": {"max_steps": 2}});
    let run = app.post("/v1/run", body).send().await.ok(200);
    spent_up(&run);
    let retry = format!("/v1/run/{}/retry", run["runId"].as_str().unwrap());
    let again = app.post(&retry, json!({})).send().await.ok(200);
    assert_eq!((&again["state"], &again["budget"]), (&json!("SUCCESS"), &json!({"max_steps": 2})), "{again}");
}

#[tokio::test]
async fn a_call_that_is_made_again_with_a_shorter_prompt_is_counted() {
    let too_long = Reply::error(400, "context_length_exceeded", "The context length is exceeded.");
    let (app, upstream) = app_and_model([too_long, says("Two.")]).await;
    let run = run_with(&app, json!({"budget": {"max_steps": 5}})).await;
    assert_eq!((&run["state"], upstream.calls().len()), (&json!("SUCCESS"), 2), "{run}");
    // Its settlement is committed with its row.
    let (store, since) = (app.store(), nh_types::Timestamp::default());
    while nh_store::usage::totals(store, &app.workspace_id, since).await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    let account = nh_store::ledger::run_account(run["runId"].as_str().unwrap().parse().unwrap());
    let spent = nh_store::ledger::spent(store, &app.workspace_id, &account).await.unwrap();
    assert_eq!((spent.steps, spent.tokens), (1, 15));
}

#[tokio::test]
async fn a_key_whose_budget_is_0_may_spend_nothing() {
    let (app, upstream) = priced_app([]).await;
    let body = json!({"name": "k", "scopes": ["chat:write"], "budget_usd": 0});
    let key = app.post("/v1/keys", body).send().await.ok(201)["key"].as_str().unwrap().to_owned();
    let refused = app.post("/v1/chat/completions", chat(false)).key(&key).send().await.code(402);
    assert_eq!(refused, "budget_exceeded");
    assert!(upstream.calls().is_empty());
}
