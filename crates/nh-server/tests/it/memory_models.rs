//! `PUT /v1/memory/model`: memories that a provider embeds, and who pays for it.

use http::Method;
use nh_agents::memory::ByProvider;
use nh_models::{ModelSettings, WorkspaceLimits};
use nh_store::usage::{UsageKind, UsageTotal};
use nh_testkit::upstream::{Reply, Upstream};
use nh_types::{Clock, Timestamp, WorkspaceId};
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;

use crate::app::{Reply as Answer, TestApp};
use crate::upstream::{app_serving, provider_of};

const LOCAL: &str = "neuralhub/minilm";
const REMOTE: &str = "local/embed";
/// What the mock says that a call has read.
const TOKENS_PER_CALL: u64 = 3;

/// The letters of a text: near are those that are spelt alike.
fn letters(text: &str) -> Vec<f32> {
    let mut counts = vec![0.0; 26];
    for letter in text.to_ascii_lowercase().bytes().filter(u8::is_ascii_lowercase) {
        counts[usize::from(letter - b'a')] += 1.0;
    }
    counts
}

/// A hub with a provider of a model that costs so much a million tokens.
async fn app_with_embeddings(dollars: f64) -> (TestApp, Upstream) {
    let upstream = Upstream::start().await.expect("a port");
    upstream.embed_by(letters);
    let model = json!({"id": "embed", "input_cost": dollars, "capabilities": ["embeddings"]});
    let model: ModelSettings = serde_json::from_value(model).expect("settings");
    (app_serving(upstream.base_url(), model).await, upstream)
}

async fn change(app: &TestApp, model: &str) -> Answer {
    app.call(Method::PUT, "/v1/memory/model").json(json!({"model": model})).send().await
}

async fn model(app: &TestApp) -> Value {
    app.get("/v1/memory/model").send().await.ok(200)
}

/// Begins what a hub does in the background.
fn keep(app: &TestApp) {
    let hub = app.hub.clone();
    let remote = move |workspace_id: &WorkspaceId| ByProvider::of_workspace(&hub, workspace_id);
    TaskTracker::new().spawn(nh_memory::keep(app.hub.memories.clone(), remote, app.stopping.clone()));
}

async fn until_it_is(app: &TestApp, wanted: &str) -> Value {
    loop {
        let now = model(app).await;
        if now["model"] == wanted && now["next"].is_null() {
            return now;
        }
        assert_eq!(now["next"]["error"], Value::Null, "{now}");
        tokio::task::yield_now().await;
    }
}

async fn remember(app: &TestApp, content: &str) {
    app.post("/v1/memory", json!({"content": content})).send().await.ok(201);
}

/// The best for a question, and how near it is.
async fn best(app: &TestApp, question: &str) -> (String, f64) {
    let hits = app.get(&format!("/v1/memory/search?q={}", question.replace(' ', "+"))).send().await.ok(200);
    let text = hits[0]["content"].as_str().unwrap_or_default().to_owned();
    (text, hits[0]["similarity"].as_f64().unwrap_or_default())
}

/// What the provider's embeddings took, once so many calls are written down.
async fn used(app: &TestApp, calls: i64) -> UsageTotal {
    loop {
        let totals = nh_store::usage::totals(app.store(), &app.workspace_id, Timestamp::default()).await;
        let found = totals.expect("totals").into_iter().find(|total| total.provider == "local");
        if let Some(total) = found.filter(|total| total.calls >= calls) {
            return total;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_workspace_changes_to_a_providers_model_and_back_while_it_is_searched() {
    let (app, upstream) = app_with_embeddings(2.0).await;
    for content in ["Mara prefers window seats on planes.", "The printer is out of paper.", "Tea is at four."]
    {
        remember(&app, content).await;
    }
    let question = "Where does she like to sit when flying?";
    assert!(best(&app, question).await.0.contains("window"));
    assert!(upstream.calls().is_empty());

    let begun = change(&app, REMOTE).await.ok(202);
    assert_eq!((&begun["model"], &begun["dimensions"]), (&json!(LOCAL), &json!(384)), "{begun}");
    assert_eq!(begun["next"], json!({"model": REMOTE, "embedded": 0, "error": null}));
    let probes = upstream.calls().len();
    assert!(best(&app, question).await.0.contains("window"), "searches go by the old one");
    remember(&app, "Bread is bought on Fridays.").await;
    assert_eq!(upstream.calls().len(), probes);

    keep(&app);
    let now = until_it_is(&app, REMOTE).await;
    assert_eq!((&now["dimensions"], &now["memories"]), (&json!(26), &json!(4)), "{now}");
    let (content, similarity) = best(&app, "at four is tea").await;
    assert_eq!(
        (content.as_str(), (similarity - 1.0).abs() < 1e-6),
        ("Tea is at four.", true),
        "{similarity}"
    );
    remember(&app, "Keys hang behind the door.").await;
    assert_eq!(best(&app, "the door behind hang keys").await.0, "Keys hang behind the door.");
    assert_eq!(best(&app, "fridays on bought is bread").await.0, "Bread is bought on Fridays.");

    let calls = upstream.calls();
    assert!(calls.iter().all(|call| call.path == "/v1/embeddings" && call.body["model"] == "embed"));
    let used = used(&app, calls.len() as i64).await;
    assert_eq!((used.kind, used.model.as_str()), (UsageKind::Embeddings, "embed"));
    assert_eq!(used.calls, calls.len() as i64);
    let tokens = TOKENS_PER_CALL * calls.len() as u64;
    assert_eq!((used.usage.input_tokens, used.estimated_calls), (tokens, 0));
    let cost = used.usage.cost_usd.expect("its price is known");
    assert!((cost - 2.0 * tokens as f64 / 1e6).abs() < 1e-12, "{cost}");

    change(&app, LOCAL).await.ok(202);
    assert_eq!(until_it_is(&app, LOCAL).await["memories"], 5);
    assert!(best(&app, question).await.0.contains("window"));
}

#[tokio::test]
async fn a_model_that_is_not_there_or_cannot_embed_changes_nothing() {
    let (app, upstream) = app_with_embeddings(2.0).await;
    remember(&app, "Tea is at four.").await;
    let before = model(&app).await;
    assert_eq!(change(&app, "no/such").await.code(404), "model_not_found");
    assert_eq!(change(&app, "neuralhub/offline").await.error(400).1.as_deref(), Some("model"));
    upstream.reply(Reply::error(400, "no", "This model does not support embeddings."));
    let refused = change(&app, REMOTE).await;
    assert!(refused.status.is_client_error(), "{refused:?}");
    upstream.reply(Reply::json(200, &json!({"object": "list", "data": [{"index": 0, "embedding": [0.0]}]})));
    upstream.reply(Reply::json(200, &json!({"object": "list", "data": [{"index": 0, "embedding": [0.0]}]})));
    assert_eq!(change(&app, REMOTE).await.code(503), "embedder_unavailable");
    for (body, param) in [
        (json!({}), "model"),
        (json!({"model": ""}), "model"),
        (json!({"model": 7}), "model"),
        (json!({"model": LOCAL, "colour": 1}), "colour"),
    ] {
        let refused = app.call(Method::PUT, "/v1/memory/model").json(body).send().await;
        assert_eq!(refused.error(400).1.as_deref(), Some(param));
    }
    assert_eq!(model(&app).await, before);
    assert_eq!(change(&app, LOCAL).await.ok(202), before, "the present one is no change");
}

#[tokio::test]
async fn a_provider_that_is_down_takes_searches_with_it_and_nothing_else() {
    let (app, upstream) = app_with_embeddings(2.0).await;
    change(&app, REMOTE).await.ok(202);
    remember(&app, "Tea is at four.").await;
    let refuse = || upstream.reply(Reply::error(401, "invalid_api_key", "Incorrect API key provided."));
    refuse();
    let refused = app.get("/v1/memory/search?q=tea").send().await;
    assert_eq!(refused.code(503), "embedder_unavailable");
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains(REMOTE) && !message.contains("upstream-secret"), "{message}");
    refuse();
    let refused = app.post("/v1/memory", json!({"content": "Bread is bought on Fridays."})).send().await;
    assert_eq!(refused.code(503), "embedder_unavailable");
    // What is there already needs no embedding.
    app.post("/v1/memory", json!({"content": "Tea is at four."})).send().await.ok(200);
    assert_eq!(app.get("/v1/memory").send().await.ok(200)["memories"].as_array().map(Vec::len), Some(1));
    assert_eq!(best(&app, "tea at four").await.0, "Tea is at four.");
}

#[tokio::test]
async fn embeddings_count_against_the_budget_of_the_key_that_asks() {
    // A call reads three tokens, three dollars, and may read a few more.
    let (app, upstream) = app_with_embeddings(1e6).await;
    change(&app, REMOTE).await.ok(202);
    remember(&app, "Tea is at four.").await;
    let key = |budget: f64| {
        let body = json!({"name": "k", "scopes": ["memories:write"], "budget_usd": budget});
        app.post("/v1/keys", body).send()
    };
    let made = key(0.0).await.ok(201);
    let before = upstream.calls().len();
    let poor = made["key"].as_str().expect("a key");
    let search = app.get("/v1/memory/search?q=tea").key(poor).send().await;
    assert_eq!(search.code(402), "budget_exceeded");
    let add = app.post("/v1/memory", json!({"content": "Bread."})).key(poor).send().await;
    assert_eq!(add.code(402), "budget_exceeded");
    // What is done in the background is on no key's account.
    let change = app.call(Method::PUT, "/v1/memory/model").key(poor).json(json!({"model": LOCAL}));
    assert_eq!(change.send().await.code(403), "limited_key");
    assert_eq!(upstream.calls().len(), before);

    // What an import embeds side by side stays within it together.
    let made = key(100.0).await.ok(201);
    let lines: Vec<String> =
        (0..300).map(|number| json!({"content": format!("Fact {number}.")}).to_string()).collect();
    let import = app.call(Method::POST, "/v1/memory/import").header("content-type", "application/x-ndjson");
    let import = import.key(made["key"].as_str().expect("a key")).body(lines.join("\n"));
    assert_eq!(import.send().await.code(402), "budget_exceeded");
    let paid = upstream.calls().len() - before;
    assert!(paid <= 33, "{paid} calls of three dollars within a hundred");
}

#[tokio::test]
async fn a_key_that_may_ask_few_models_remembers_by_that_of_the_workspace() {
    let (app, _upstream) = app_with_embeddings(1.0).await;
    change(&app, REMOTE).await.ok(202);
    let limits = json!({"models": ["none/such"], "max_prompt_tokens": 1});
    let body = json!({"name": "k", "scopes": ["memories:write"], "model_limits": limits});
    let made = app.post("/v1/keys", body).send().await.ok(201);
    let key = made["key"].as_str().expect("a key");
    app.post("/v1/memory", json!({"content": "Tea is at four."})).key(key).send().await.ok(201);
    let found = app.get("/v1/memory/search?q=tea").key(key).send().await.ok(200);
    assert_eq!(found.as_array().or(found["memories"].as_array()).map(Vec::len), Some(1), "{found}");
    let change = app.call(Method::PUT, "/v1/memory/model").key(key).json(json!({"model": LOCAL}));
    assert_eq!(change.send().await.code(403), "limited_key");
}

#[tokio::test]
async fn an_embedding_is_no_step_of_its_own() {
    let (app, _upstream) = app_with_embeddings(1.0).await;
    change(&app, REMOTE).await.ok(202);
    remember(&app, "tea at four").await;
    let body = json!({"target": "memory_search", "type": "tool", "input": {"query": "tea"},
        "budget": {"max_steps": 1, "max_cost_usd": 1.0}});
    let run = app.post("/v1/run", body).send().await.ok(200);
    assert_eq!(run["state"], "SUCCESS", "{run}");
    assert_eq!(run["result"]["memories"][0]["content"], "tea at four", "{run}");
}

#[tokio::test]
async fn a_run_tells_what_its_embeddings_cost() {
    let (app, _upstream) = app_with_embeddings(2.0).await;
    change(&app, REMOTE).await.ok(202);
    remember(&app, "tea at four").await;
    let cost = 2.0 * TOKENS_PER_CALL as f64 / 1e6;
    let memory = json!({"mode": "auto"});
    app.post("/v1/agents", json!({"id": "keeper", "name": "Keeper", "memory": memory})).send().await.ok(201);
    let goal = json!({"goal": "When is tea?"});
    for (body, tool) in [
        (json!({"target": "memory_search", "type": "tool", "input": {"query": "tea"}}), "memory_search"),
        (
            json!({"target": "memory_store", "type": "tool", "input": {"content": "cake at five"}}),
            "memory_store",
        ),
        (json!({"target": "keeper", "type": "agent", "input": goal}), "memory_search"),
    ] {
        let run = app.post("/v1/run", body).send().await.ok(200);
        assert_eq!(run["state"], "SUCCESS", "{run}");
        let (usage, used) = (&run["usage"], &run["usage"]["byTool"][0]);
        assert_eq!((&used["tool"], &used["calls"]), (&json!(tool), &json!(1)), "{run}");
        assert_eq!(
            (&used["inputTokens"], &used["costUsd"]),
            (&json!(TOKENS_PER_CALL), &json!(cost)),
            "{run}"
        );
        let by_model = usage["byModel"][0]["inputTokens"].as_u64().unwrap_or_default();
        assert_eq!(usage["inputTokens"], json!(TOKENS_PER_CALL + by_model), "{run}");
    }
}

#[tokio::test]
async fn what_is_embedded_in_the_background_is_on_the_workspaces_account() {
    let upstream = Upstream::start().await.expect("a port");
    upstream.embed_by(letters);
    let model = json!({"id": "embed", "input_cost": 1e6, "capabilities": ["embeddings"]});
    let provider = provider_of(upstream.base_url(), serde_json::from_value(model).expect("settings"));
    let limits = WorkspaceLimits { budget_usd: Some(40.0), ..WorkspaceLimits::default() };
    let app = TestApp::limited(limits, vec![provider]).await;
    for number in 0..8 {
        // Each may take some twenty-five tokens, of a dollar each, and takes three.
        remember(&app, &format!("Fact {number} of those that are kept for long.")).await;
    }
    change(&app, REMOTE).await.ok(202);
    keep(&app);
    let now = app.until("/v1/memory/model", |now| !now["next"]["error"].is_null()).await;
    assert!(now["next"]["error"].to_string().contains("the budget of this workspace"), "{now}");
    let paid = upstream.calls().len() as u64 * TOKENS_PER_CALL;
    assert!((6..=39).contains(&paid), "{paid}");
    used(&app, upstream.calls().len() as i64).await;
    let account = nh_store::ledger::workspace_account(app.clock.now());
    let spent = nh_store::ledger::spent(app.store(), &app.workspace_id, &account).await.expect("an account");
    assert_eq!(spent.tokens as u64, paid);
}
