//! Providers of models that workspaces registered.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;
use nh_http::Outbound;
use nh_models::{Caller, Models, ModelsSetup, OwnProviders, ResolvedProvider, WorkspaceLimits};
use nh_server::ServerSettings;
use nh_store::seals::{MasterKey, Sealer};
use nh_testkit::TestStore;
use nh_testkit::upstream::{Reply, Upstream, models};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::receiver::client;
use crate::upstream::provider_of;

const KEY: &str = "sk-hush-0123456789";

/// A hub that may ask this machine for its workspaces.
async fn app_with(providers: Vec<ResolvedProvider>) -> TestApp {
    let store = TestStore::of_environment().await;
    TestApp::telling(store, ServerSettings::default(), providers, client(&["127.0.0.0/8"], None)).await
}

fn ours(name: &str, upstream: &Upstream) -> Value {
    json!({"name": name, "kind": "openai", "base_url": upstream.base_url(), "api_key": KEY,
        "models": [{"id": "m", "input_cost": 1.0, "output_cost": 2.0}]})
}

fn asks(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Hello!"}]})
}

fn configured(upstream: &Upstream) -> ResolvedProvider {
    provider_of(upstream.base_url(), serde_json::from_value(json!({"id": "m"})).expect("settings"))
}

async fn names(app: &TestApp) -> Vec<(String, String)> {
    let list = app.get("/v1/providers").send().await.ok(200);
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let providers = list["providers"].as_array().expect("providers").iter();
    providers.map(|provider| (text(&provider["name"]), text(&provider["source"]))).collect()
}

fn authorization(upstream: &Upstream) -> Vec<String> {
    let seen = upstream.calls().into_iter();
    seen.map(|call| call.headers["authorization"].to_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn a_workspaces_own_come_first_and_serve_nobody_else() {
    let (theirs, own) = (Upstream::start().await.expect("a port"), Upstream::start().await.expect("a port"));
    let app = app_with(vec![configured(&theirs)]).await;
    let made = app.post("/v1/providers", ours("mine", &own)).send().await.ok(201);
    assert_eq!((&made["source"], &made["has_api_key"]), (&json!("workspace"), &json!(true)), "{made}");
    assert_eq!((&made["status"], &made["listing_failure"]), (&json!("healthy"), &Value::Null), "{made}");
    assert_eq!(own.listings(), 1, "it is asked for its models at once");
    assert_eq!(
        names(&app).await,
        [("mine", "workspace"), ("local", "configuration")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    let listed = app.get("/v1/models").send().await.ok(200);
    let ids: Vec<_> =
        listed["data"].as_array().expect("models").iter().map(|one| one["id"].clone()).collect();
    assert!(ids.starts_with(&[json!("m")]) && ids.contains(&json!("local/m")), "{ids:?}");

    for model in ["m", "mine/m"] {
        let answer = app.post("/v1/chat/completions", asks(model)).send().await.ok(200);
        assert!(answer["usage"]["cost"].as_f64().expect("a cost") > 0.0, "{answer}");
    }
    app.post("/v1/chat/completions", asks("local/m")).send().await.ok(200);
    assert_eq!(authorization(&own), [format!("Bearer {KEY}"), format!("Bearer {KEY}")]);
    assert_eq!(authorization(&theirs), ["Bearer upstream-secret"]);
    let used = app.until("/v1/usage?by=provider", |used| used["total"]["calls"] == 3).await;
    assert!(used.to_string().contains("\"mine\""), "{used}");

    let (_, other) = app.other_workspace().await;
    let seen = app.get("/v1/providers").key(&other).send().await.ok(200);
    assert_eq!(seen["providers"].as_array().expect("providers").len(), 1, "{seen}");
    app.get("/v1/providers/mine").key(&other).send().await.error(404);
    let refused = app.post("/v1/chat/completions", asks("mine/m")).key(&other).send().await;
    assert_eq!(refused.code(404), "model_not_found");
    app.post("/v1/chat/completions", asks("m")).key(&other).send().await.ok(200);
    assert_eq!((own.calls().len(), theirs.calls().len()), (2, 2));
}

#[tokio::test]
async fn one_of_the_same_name_takes_the_place_of_the_configurations_until_it_is_deleted() {
    let (theirs, own) = (Upstream::start().await.expect("a port"), Upstream::start().await.expect("a port"));
    let app = app_with(vec![configured(&theirs)]).await;
    let change = |body: Value| app.call(Method::PATCH, "/v1/providers/local").json(body);
    let told = change(json!({"models": []})).send().await.error(409).0;
    assert_eq!(told, "conflict", "it is the operator's");
    app.delete("/v1/providers/local").send().await.error(409);

    app.post("/v1/providers", ours("local", &own)).send().await.ok(201);
    assert_eq!(names(&app).await, [("local".to_owned(), "workspace".to_owned())]);
    app.post("/v1/chat/completions", asks("local/m")).send().await.ok(200);
    change(json!({"api_key": "another-key"})).send().await.ok(200);
    app.post("/v1/chat/completions", asks("local/m")).send().await.ok(200);
    assert_eq!(authorization(&own), [format!("Bearer {KEY}"), "Bearer another-key".to_owned()]);
    let bare = change(json!({"api_key": null})).send().await.ok(200);
    assert_eq!(bare["has_api_key"], false);
    app.post("/v1/chat/completions", asks("local/m")).send().await.ok(200);
    assert!(own.calls()[2].headers.get("authorization").is_none());
    assert!(theirs.calls().is_empty());

    assert_eq!(app.delete("/v1/providers/local").send().await.status.as_u16(), 204);
    app.post("/v1/chat/completions", asks("local/m")).send().await.ok(200);
    assert_eq!((own.calls().len(), theirs.calls().len()), (3, 1));
    app.delete("/v1/providers/local").send().await.error(409);
    app.delete("/v1/providers/nobody").send().await.error(404);
}

#[tokio::test]
async fn a_key_is_told_to_its_provider_alone() {
    let (own, other) = (Upstream::start().await.expect("a port"), Upstream::start().await.expect("a port"));
    let app = app_with(Vec::new()).await;
    let mut said = vec![app.post("/v1/providers", ours("mine", &own)).send().await];
    own.reply(Reply::error(401, "invalid_api_key", &format!("Incorrect API key: {KEY}")));
    let refused = app.post("/v1/chat/completions", asks("m")).send().await;
    assert_eq!(refused.code(502), "upstream_refused");
    own.reply(Reply::error(400, "no", &format!("what is {KEY}?")));
    said.extend([refused, app.post("/v1/chat/completions", asks("m")).send().await]);
    // A change of the address tells the key to no other server.
    let change = |body: Value| app.call(Method::PATCH, "/v1/providers/mine").json(body);
    let moved = change(json!({"base_url": other.base_url()})).send().await;
    assert_eq!(moved.error(422).1.as_deref(), Some("api_key"));
    let odd = change(json!({"api_key": "sk-hush with a blank"})).send().await;
    assert_eq!(odd.error(422).1.as_deref(), Some("api_key"));
    said.extend([moved, odd]);
    for path in ["/v1/providers", "/v1/providers/mine", "/v1/models", "/openapi.json", "/metrics"] {
        said.push(app.get(path).send().await);
    }
    for said in said {
        let body = String::from_utf8_lossy(&said.body).into_owned();
        assert!(!body.contains("sk-hush"), "{body}");
    }
    if let Some(file) = app.store_file() {
        for part in ["", "-wal"] {
            let bytes = std::fs::read(format!("{}{part}", file.display())).expect("readable");
            assert!(!bytes.windows(7).any(|window| window == b"sk-hush"), "the store's file{part} has it");
        }
    }
    change(json!({"base_url": other.base_url(), "api_key": "for-the-other"})).send().await.ok(200);
    app.post("/v1/chat/completions", asks("m")).send().await.ok(200);
    assert_eq!(authorization(&other), ["Bearer for-the-other"]);
    // Registered anew, it has nothing of before.
    app.delete("/v1/providers/mine").send().await;
    let bare = json!({"name": "mine", "kind": "openai", "base_url": other.base_url()});
    app.post("/v1/providers", bare).send().await.ok(201);
    app.post("/v1/chat/completions", asks("mine/mock-1")).send().await.ok(200);
    assert!(other.calls()[1].headers.get("authorization").is_none());
}

#[tokio::test]
async fn the_hubs_own_surroundings_are_not_reached() {
    let upstream = Upstream::start().await.expect("a port");
    let app = TestApp::new().await;
    let made = app.post("/v1/providers", ours("mine", &upstream)).send().await.ok(201);
    assert!(made["listing_failure"].as_str().expect("a reason").contains("127.0.0.1"), "{made}");
    let told = app.post("/v1/chat/completions", asks("mine/m")).send().await;
    assert_eq!(told.code(502), "upstream_error");
    assert_eq!((upstream.calls().len(), upstream.listings()), (0, 0));
}

#[tokio::test]
async fn what_cannot_be_registered_is_told_by_its_field() {
    let app = app_with(Vec::new()).await;
    let with = |field: &str, value: Value| {
        let mut body = json!({"name": "mine", "kind": "openai", "base_url": "http://127.0.0.1:1/v1"});
        body[field] = value;
        body
    };
    for (body, field) in [
        (with("name", json!("a/b")), "name"),
        (with("name", json!("neuralhub")), "name"),
        (with("base_url", json!("nowhere")), "base_url"),
        (with("base_url", json!("ftp://a.example")), "base_url"),
        (with("base_url", json!("https://me:secret@a.example")), "base_url"),
        (with("base_url", json!(format!("https://a.example/{}", "a".repeat(3000)))), "base_url"),
        (with("api_key", json!("")), "api_key"),
        (with("api_key", json!("k".repeat(5000))), "api_key"),
        (with("models", json!([{"id": ""}])), "models[0].id"),
        (with("models", json!([{"id": "a", "input_cost": -1.0}])), "models[0].input_cost"),
        (with("models", json!(vec![json!({"id": "a"}); 101])), "models"),
    ] {
        assert_eq!(app.post("/v1/providers", body).send().await.error(422).1.as_deref(), Some(field));
    }
    app.post("/v1/providers", with("kind", json!("mistral"))).send().await.error(422);
    app.post("/v1/providers", with("surprise", json!(1))).send().await.error(400);

    for number in 0..10 {
        app.post("/v1/providers", with("name", json!(format!("p{number}")))).send().await.ok(201);
    }
    let full = app.post("/v1/providers", with("name", json!("p10"))).send().await;
    assert_eq!(full.code(409), "conflict");
    app.delete("/v1/providers/p9").send().await;
    let taken = app.post("/v1/providers", with("name", json!("p0"))).send().await;
    assert_eq!(taken.code(409), "already_exists");
}

#[tokio::test]
async fn a_limited_key_changes_no_providers() {
    let app = app_with(Vec::new()).await;
    let limited = json!({"name": "limited", "scopes": ["*"], "budget_usd": 1.0});
    let key = app.post("/v1/keys", limited).send().await.ok(201)["key"].as_str().expect("a key").to_owned();
    let body = json!({"name": "mine", "kind": "openai", "base_url": "http://127.0.0.1:1/v1"});
    assert_eq!(app.post("/v1/providers", body.clone()).key(&key).send().await.code(403), "limited_key");
    app.post("/v1/providers", body).send().await.ok(201);
    let change = app.call(Method::PATCH, "/v1/providers/mine").json(json!({"models": []})).key(&key);
    assert_eq!(change.send().await.code(403), "limited_key");
    assert_eq!(app.delete("/v1/providers/mine").key(&key).send().await.code(403), "limited_key");
}

#[tokio::test]
async fn agents_without_a_model_ask_the_workspaces_own() {
    let own = Upstream::start().await.expect("a port");
    let app = app_with(Vec::new()).await;
    app.post("/v1/providers", ours("mine", &own)).send().await.ok(201);
    let agent = app.post("/v1/agents", json!({"name": "a"})).send().await.ok(201);
    assert_eq!(agent["model_id"], "m");
    let body = json!({"target": agent["id"], "type": "agent", "input": {"goal": "Hello!"}});
    let ended = app.post("/v1/run", body).send().await.ok(200);
    assert_eq!((&ended["state"], own.calls().len()), (&json!("SUCCESS"), 1), "{ended}");
}

/// What another process on the same store knows.
fn node(app: &TestApp, providers: Vec<ResolvedProvider>) -> Models {
    let (clock, ids) = (Arc::new(app.clock.clone()), app.ids.clone());
    let master = MasterKey::from_bytes(&[7; MasterKey::LENGTH_BYTES]).expect("a key");
    let sealer = Arc::new(Sealer::new(&master, &[], ids.clone()));
    let guarded = client(&["127.0.0.0/8"], None);
    Models::new(ModelsSetup {
        own: Some(OwnProviders::new(app.store().clone(), sealer, guarded, clock.clone(), ids.clone())),
        aliases: Vec::new(),
        local: None,
        workspace_limits: WorkspaceLimits::default(),
        cache: None,
        providers,
        default_model: None,
        http: Outbound::operator().expect("a client"),
        clock,
        ids,
        usage: app.hub.models.usage().clone(),
    })
}

#[tokio::test]
async fn another_node_sees_a_change_within_a_second() {
    let own = Upstream::start().await.expect("a port");
    own.list(Reply::json(200, &models(&["a", "b"])));
    let app = app_with(Vec::new()).await;
    let node = node(&app, Vec::new());
    let known = async || {
        let found = node.provider(&app.workspace_id, "mine", true).await.expect("read");
        found.map(|provider| (provider.known_models, provider.has_api_key))
    };
    assert_eq!(known().await, None);
    app.post("/v1/providers", ours("mine", &own)).send().await.ok(201);
    assert_eq!(known().await, None);
    app.clock.advance_ms(1_000);
    assert_eq!(known().await, Some((3, Some(true))));
    let asked = own.listings();
    app.clock.advance_ms(1_000);
    assert_eq!((known().await, own.listings()), (Some((3, Some(true))), asked), "what was seen is kept");
    app.delete("/v1/providers/mine").send().await;
    app.clock.advance_ms(1_000);
    assert_eq!(known().await, None);
}

/// Whoever has not been asked for its models yet may serve this one all the same.
#[tokio::test]
async fn a_node_that_has_just_begun_asks_the_workspaces_own_too() {
    let (theirs, own) = (Upstream::start().await.expect("a port"), Upstream::start().await.expect("a port"));
    own.list(Reply::json(200, &models(&["m"])));
    let app = app_with(vec![configured(&theirs)]).await;
    let mut body = ours("mine", &own);
    body["models"] = json!([]);
    app.post("/v1/providers", body).send().await.ok(201);
    let node = node(&app, vec![configured(&theirs)]);
    let caller = Caller {
        workspace_id: app.workspace_id.clone(),
        key_id: None,
        run_id: None,
        agent: None,
        limits: Default::default(),
        cache: Default::default(),
        charge: None,
    };
    let body = asks("m").as_object().cloned().expect("an object");
    node.chat(&caller, Cow::Owned(body)).await.expect("an answer");
    assert_eq!((own.calls().len(), theirs.calls().len()), (1, 0));
}

#[tokio::test]
async fn a_hostile_provider_harms_its_own_workspace_alone() {
    let own = Upstream::start().await.expect("a port");
    let app = app_with(Vec::new()).await;
    own.list(Reply::error(500, "no", "no"));
    app.post("/v1/providers", ours("mine", &own)).send().await.ok(201);
    // No name of a model keeps what others used from being written.
    let odd = app.post("/v1/chat/completions", asks("mine/\u{0}")).send().await;
    assert_eq!(odd.code(502), "upstream_error");
    assert!(own.calls().is_empty());
    // Small values take many times their text in memory.
    own.reply(Reply::json(200, &json!({"choices": vec![0; 600_000]})));
    let told = app.post("/v1/chat/completions", asks("mine/m")).send().await;
    assert_eq!(told.code(502), "upstream_error");
}

#[tokio::test]
async fn an_odd_name_deletes_nothing_of_anothers() {
    let own = Upstream::start().await.expect("a port");
    let app = app_with(Vec::new()).await;
    app.post("/v1/providers", ours("mine", &own)).send().await.ok(201);
    app.delete("/v1/providers/mine%2Fapi_key").send().await.error(404);
    let node = node(&app, Vec::new());
    assert!(node.provider(&app.workspace_id, "mine", true).await.expect("read").is_some());
    app.post("/v1/chat/completions", asks("m")).send().await.ok(200);
    let fresh = app.call(Method::PATCH, "/v1/providers/mine").json(json!({"models": [{"id": "m"}]}));
    fresh.send().await.ok(200);
    app.post("/v1/chat/completions", asks("m")).send().await.ok(200);
    assert_eq!(authorization(&own), [format!("Bearer {KEY}"), format!("Bearer {KEY}")]);
}

#[tokio::test]
async fn a_registration_that_is_sent_again_is_the_first() {
    let own = Upstream::start().await.expect("a port");
    let app = app_with(Vec::new()).await;
    let register = || app.post("/v1/providers", ours("mine", &own)).header("idempotency-key", "once");
    let made = register().send().await.ok(201);
    assert_eq!(register().send().await.ok(201)["created_at"], made["created_at"]);
}
