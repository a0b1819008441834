//! What keys and workspaces are held to.

use futures_util::future::join_all;
use nh_models::WorkspaceLimits;
use nh_testkit::upstream::{Part, Reply, Upstream, chunk};
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, says};
use crate::app::TestApp;
use crate::upstream::{MODEL, chat, provider_of};

const CHAT: &str = "/v1/chat/completions";

async fn key_of(app: &TestApp, more: Value) -> String {
    let mut body = json!({"name": "k", "scopes": ["chat:write", "run:write", "run:read", "keys:write"]});
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    app.post("/v1/keys", body).send().await.ok(201)["key"].as_str().expect("a key").to_owned()
}

async fn limited(limits: WorkspaceLimits) -> (TestApp, Upstream) {
    let upstream = Upstream::start().await.expect("a port");
    let model = json!({"id": "m", "input_cost": 1.0, "output_cost": 10.0});
    let provider = provider_of(upstream.base_url(), serde_json::from_value(model).expect("settings"));
    (TestApp::limited(limits, vec![provider]).await, upstream)
}

fn bounded(max_tokens: u64) -> Value {
    let mut body = chat(false);
    body["max_tokens"] = json!(max_tokens);
    body
}

#[tokio::test]
async fn a_key_asks_only_the_models_that_it_may() {
    let (app, upstream) = app_and_model([says("Yes.")]).await;
    let key = key_of(&app, json!({"model_limits": {"models": ["neuralhub/*"]}})).await;
    let refused = app.post(CHAT, chat(false)).key(&key).send().await;
    assert_eq!(refused.code(403), "model_not_allowed");
    let mut several = chat(false);
    several["models"] = json!(["neuralhub/offline", MODEL]);
    assert_eq!(app.post(CHAT, several).key(&key).send().await.code(403), "model_not_allowed");
    let embeddings = json!({"model": MODEL, "input": "x"});
    assert_eq!(app.post("/v1/embeddings", embeddings).key(&key).send().await.code(403), "model_not_allowed");
    let mut offline = chat(false);
    offline["model"] = json!("neuralhub/offline");
    app.post(CHAT, offline).key(&key).send().await.ok(200);
    // Nor do its runs.
    let goal = json!({"target": "a", "type": "agent", "input": {"goal": "Go."}});
    let run = app.post("/v1/run", goal).key(&key).send().await.ok(200);
    assert_eq!(run["state"], "FAILED", "{run}");
    assert!(run.to_string().contains("may not ask the model"), "{run}");
    assert!(upstream.calls().is_empty());
    let keys = app.get("/v1/keys").send().await.ok(200);
    let shown = keys["keys"].as_array().expect("keys").iter().find(|key| key["name"] == "k").expect("it");
    assert_eq!(shown["model_limits"], json!({"models": ["neuralhub/*"]}));
    let more = json!({"name": "k", "scopes": ["chat:write"]});
    assert_eq!(app.post("/v1/keys", more).key(&key).send().await.code(403), "limited_key");
}

#[tokio::test]
async fn limits_are_checked_when_a_key_is_made() {
    let app = TestApp::new().await;
    for (limits, param) in [
        (json!({"models": []}), "model_limits.models"),
        (json!({"models": ["a", ""]}), "model_limits.models[1]"),
        (json!({"max_prompt_tokens": 0}), "model_limits.max_prompt_tokens"),
        (json!({"tokens_per_minute": -1}), "model_limits.tokens_per_minute"),
        (json!({"max_concurrent": 100_001}), "model_limits.max_concurrent"),
    ] {
        let body = json!({"name": "k", "scopes": ["chat:write"], "model_limits": limits});
        assert_eq!(app.post("/v1/keys", body).send().await.error(422).1.as_deref(), Some(param));
    }
}

#[tokio::test]
async fn a_prompt_may_be_too_long() {
    let (app, upstream) = app_and_model([says("Yes.")]).await;
    let key = key_of(&app, json!({"model_limits": {"max_prompt_tokens": 100}})).await;
    app.post(CHAT, chat(false)).key(&key).send().await.ok(200);
    let mut long = chat(true);
    long["messages"][0]["content"] = json!("word ".repeat(200));
    let refused = app.post(CHAT, long).key(&key).send().await;
    assert_eq!(refused.error(413), ("payload_too_large".to_owned(), Some("messages".to_owned())));
    assert!(refused.json().to_string().contains("it may have 100 at most"), "{}", refused.json());
    assert_eq!(upstream.calls().len(), 1);
}

#[tokio::test]
async fn tokens_of_a_minute_are_reserved() {
    let (app, upstream) = limited(WorkspaceLimits::default()).await;
    let key = key_of(&app, json!({"model_limits": {"tokens_per_minute": 300}})).await;
    app.post(CHAT, bounded(200)).key(&key).send().await.ok(200);
    // 11 are used; 300 do not hold what this may take.
    let refused = app.post(CHAT, bounded(290)).key(&key).send().await;
    assert_eq!(refused.code(429), "rate_limited");
    assert_eq!((refused.header("retry-after"), refused.header("x-ratelimit-limit-tokens")), ("60", "300"));
    assert_eq!(refused.header("x-ratelimit-remaining-tokens"), "289");
    assert_eq!(refused.header("x-ratelimit-reset-tokens"), "60s");
    // What asks for more than a minute ever has gets what there is, once nothing is used.
    assert_eq!(app.post(CHAT, bounded(1_000)).key(&key).send().await.code(429), "rate_limited");
    app.clock.advance_ms(60_000);
    app.post(CHAT, bounded(1_000)).key(&key).send().await.ok(200);
    let granted = upstream.calls()[1].body["max_tokens"].as_i64().expect("a bound");
    assert!((200..300).contains(&granted), "{granted}");
    assert_eq!(upstream.calls().len(), 2);
}

#[tokio::test]
async fn so_many_calls_may_be_under_way() {
    let (app, upstream) = app_and_model([]).await;
    let key = key_of(&app, json!({"model_limits": {"max_concurrent": 1}})).await;
    let hangs = Reply::chunks(&[chunk(json!({"role": "assistant", "content": "x"}), None)]).then(Part::Hang);
    upstream.reply(hangs);
    let stream = app.post(CHAT, chat(true)).key(&key).open().await;
    let refused = app.post(CHAT, chat(false)).key(&key).send().await;
    assert_eq!((refused.code(429).as_str(), refused.header("retry-after")), ("rate_limited", "1"));
    drop(stream);
    app.post(CHAT, chat(false)).key(&key).send().await.ok(200);
}

#[tokio::test]
async fn a_workspace_is_held_to_its_requests_and_calls() {
    let limits = WorkspaceLimits { requests_per_minute: Some(3), ..WorkspaceLimits::default() };
    let (app, _upstream) = limited(limits).await;
    let key = key_of(&app, json!({"rate_limit": 10})).await;
    let answer = app.post(CHAT, chat(false)).key(&key).send().await;
    assert_eq!((answer.header("x-ratelimit-limit-requests"), answer.status.as_u16()), ("10", 200));
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), "9");
    app.get("/v1/models").send().await.ok(200);
    let refused = app.get("/v1/models").send().await;
    assert_eq!(refused.code(429), "rate_limited");
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), "0");
    let (_, other) = app.other_workspace().await;
    app.get("/v1/models").key(&other).send().await.ok(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_calls_at_once_spend_no_more_than_a_workspace_may() {
    let limits = WorkspaceLimits { budget_usd: Some(0.0099), ..WorkspaceLimits::default() };
    let (app, upstream) = limited(limits).await;
    // Ten of them fit: each is reserved at a little under a tenth, and uses that.
    for _ in 0..1_000 {
        upstream.reply(Reply::json(
            200,
            &json!({
                "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "x"}}],
                "usage": {"prompt_tokens": 20, "completion_tokens": 96, "total_tokens": 116},
            }),
        ));
    }
    let keys = [app.key.clone(), key_of(&app, json!({})).await];
    let calls = (0..1_000).map(|number: usize| app.post(CHAT, bounded(96)).key(&keys[number % 2]).send());
    let answers = join_all(calls).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status.as_u16() == status).count();
    assert_eq!((count(200), count(402)), (10, 990));
    assert_eq!(upstream.calls().len(), 10);
    let path = "/v1/usage?by=kind";
    let report = app.until(path, |report| report["total"]["calls"] == 10).await;
    let spent = report["total"]["cost_usd"].as_f64().expect("dollars");
    assert!((0.009..=0.0099).contains(&spent), "{spent}");
    let refused = app.post(CHAT, bounded(96)).send().await;
    assert_eq!(refused.code(402), "budget_exceeded");
    let message = refused.json()["error"]["message"].to_string();
    assert!(
        message.contains("the budget of this workspace for 2026-02 of $0.0099 is not enough"),
        "{message}"
    );
}

#[tokio::test]
async fn the_local_model_is_held_to_the_tokens_of_a_minute_and_recorded() {
    let (app, _upstream) = limited(WorkspaceLimits::default()).await;
    let key = key_of(&app, json!({"budget_usd": 0, "model_limits": {"tokens_per_minute": 265}})).await;
    let embed = async |input: Value| {
        let body = json!({"model": "neuralhub/minilm", "input": input});
        app.post("/v1/embeddings", body).key(&key).send().await
    };
    let used = embed(json!("Tea is at four.")).await.ok(200)["usage"]["total_tokens"].clone();
    let report = app.until("/v1/usage?by=model", |report| report["usage"][0]["calls"] == 1).await;
    let recorded = &report["usage"][0];
    assert_eq!((&recorded["model"], &recorded["input_tokens"]), (&json!("neuralhub/minilm"), &used));
    // It reads 256 tokens of a text at most.
    embed(json!("tea ".repeat(5_000))).await.ok(200);
    assert_eq!(embed(json!("Tea is at five.")).await.code(429), "rate_limited");
    app.clock.advance_ms(60_000);
    embed(json!("Tea is at five.")).await.ok(200);
    app.until("/v1/usage", |report| report["total"]["calls"] == 3).await;
}

#[tokio::test]
async fn a_key_over_its_rate_takes_none_of_the_workspaces() {
    let limits = WorkspaceLimits { requests_per_minute: Some(3), ..WorkspaceLimits::default() };
    let (app, _upstream) = limited(limits).await;
    // Made by two of the three, which are there again after a minute.
    let [noisy, other] = [key_of(&app, json!({"rate_limit": 1})).await, key_of(&app, json!({})).await];
    app.clock.advance_ms(60_000);
    app.get("/v1/models").key(&noisy).send().await.ok(200);
    for _ in 0..5 {
        assert_eq!(app.get("/v1/models").key(&noisy).send().await.code(429), "rate_limited");
    }
    for _ in 0..2 {
        app.get("/v1/models").key(&other).send().await.ok(200);
    }
    let refused = app.get("/v1/models").key(&other).send().await;
    assert_eq!(refused.code(429), "rate_limited");
}

#[tokio::test]
async fn what_no_minute_holds_is_too_large() {
    let (app, upstream) = limited(WorkspaceLimits::default()).await;
    let key = key_of(&app, json!({"model_limits": {"tokens_per_minute": 300}})).await;
    let mut long = bounded(20);
    long["messages"][0]["content"] = json!("word ".repeat(200));
    let refused = app.post(CHAT, long).key(&key).send().await;
    assert_eq!(refused.error(413), ("payload_too_large".to_owned(), Some("messages".to_owned())));
    assert!(!refused.headers.contains_key("retry-after"), "it never fits");
    assert!(refused.json().to_string().contains("may use 300 tokens a minute"), "{}", refused.json());
    assert!(upstream.calls().is_empty());
}

#[tokio::test]
async fn a_clock_that_is_set_back_locks_nobody_out() {
    let app = TestApp::new().await;
    let key = key_of(&app, json!({"rate_limit": 1, "scopes": ["models:read"]})).await;
    let ask = async || app.get("/v1/models").key(&key).send().await.status.as_u16();
    assert_eq!((ask().await, ask().await), (200, 429));
    app.clock.advance_ms(-600_000);
    assert_eq!(ask().await, 429);
    app.clock.advance_ms(60_000);
    assert_eq!((ask().await, ask().await), (200, 429));
}
