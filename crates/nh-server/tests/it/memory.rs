//! `/v1/memory`, with the local model. The clock stands at
//! 2026-02-06T12:00:00Z.

use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;

async fn add(app: &TestApp, body: Value) -> String {
    app.post("/v1/memory", body).send().await.ok(201)["id"].as_str().expect("an id").to_owned()
}

async fn remember(app: &TestApp, content: &str) -> String {
    add(app, json!({"content": content})).await
}

/// The contents that a search finds, best first.
async fn found(app: &TestApp, query: &str) -> Vec<String> {
    contents(&app.get(&format!("/v1/memory/search?{query}")).send().await.ok(200))
}

fn contents(list: &Value) -> Vec<String> {
    let items = list.as_array().expect("a list").iter();
    items.map(|item| item["content"].as_str().expect("text").to_owned()).collect()
}

fn query(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

#[tokio::test]
async fn what_is_remembered_is_found_by_its_meaning() {
    let app = TestApp::new().await;
    let made = app
        .post(
            "/v1/memory",
            json!({"content": "The user prefers Python over JavaScript.", "metadata": {"source": "chat_session_1"}}),
        )
        .send()
        .await
        .ok(201);
    assert_eq!(made["created_at"], "2026-02-06T12:00:00.000Z", "{made}");
    remember(&app, "The quarterly report is due on the third of March.").await;
    let hits = app.get("/v1/memory/search?q=Which+programming+language+do+they+like").send().await.ok(200);
    assert_eq!(hits.as_array().expect("a list").len(), 2, "{hits}");
    let best = &hits[0];
    assert_eq!(best["id"], made["id"]);
    assert_eq!(best["metadata"], json!({"source": "chat_session_1"}));
    let similarity = |place: usize| hits[place]["similarity"].as_f64().expect("a number");
    assert!(similarity(0) > 0.4 && similarity(0) <= 1.0 && similarity(1) < similarity(0) - 0.2, "{hits}");
    assert_eq!(
        found(&app, "query=When+must+the+report+be+ready&limit=1").await[0].split(' ').nth(1),
        Some("quarterly")
    );
    assert_eq!(found(&app, "q=programming+language&min_similarity=0.2").await.len(), 1);
}

#[tokio::test]
async fn the_same_content_is_one_memory() {
    let app = TestApp::new().await;
    let body = |metadata: Value| json!({"content": "Tea is at four.", "metadata": metadata});
    let id = add(&app, body(json!({"a": 1, "b": 1}))).await;
    app.clock.advance_ms(1000);
    let again = app.post("/v1/memory", body(json!({"b": 2, "c": 3}))).send().await.ok(200);
    assert_eq!(
        (again["id"].as_str(), &again["created_at"]),
        (Some(&*id), &json!("2026-02-06T12:00:00.000Z"))
    );
    let memory = app.get(&format!("/v1/memory/{id}")).send().await.ok(200);
    assert_eq!(memory["metadata"], json!({"a": 1, "b": 2, "c": 3}));
    assert_eq!(memory["updated_at"], "2026-02-06T12:00:01.000Z");
    let elsewhere = add(&app, json!({"content": "Tea is at four.", "namespace": "team/a"})).await;
    assert_ne!(elsewhere, id);
    assert_eq!(found(&app, "q=tea").await.len(), 1);
    assert_eq!(found(&app, "q=tea&namespace=*").await.len(), 2);
    assert_eq!(found(&app, "q=tea&namespace=team/a").await.len(), 1);
    assert_eq!(found(&app, "q=tea&namespace=nobody").await.len(), 0);
    remember(&app, "The light is on.").await;
    remember(&app, "The light is off.").await;
    assert_eq!(found(&app, "q=light&limit=2").await.len(), 2, "near-duplicates stay apart");
}

#[tokio::test]
async fn an_idempotency_key_stores_once() {
    let app = TestApp::new().await;
    let post = |content: &str| {
        app.post("/v1/memory", json!({"content": content})).header("idempotency-key", "k1").send()
    };
    let (first, second) = (post("One.").await, post("One.").await);
    assert_eq!(first.ok(201), second.ok(201));
    assert_eq!(post("Two.").await.code(409), "idempotency_mismatch");
}

#[tokio::test]
async fn nothing_of_another_workspace_is_seen_or_changed() {
    let app = TestApp::new().await;
    let id = remember(&app, "The vault's code is kept by Mara.").await;
    let (_, theirs) = app.other_workspace().await;
    let empty = app.get("/v1/memory/search?q=vault+code&namespace=*").key(&theirs).send().await.ok(200);
    assert_eq!(empty, json!([]));
    app.post("/v1/memory", json!({"content": "Something else."})).key(&theirs).send().await.ok(201);
    let hits =
        app.get("/v1/memory/search?q=vault+code&namespace=*&limit=100").key(&theirs).send().await.ok(200);
    assert_eq!(contents(&hits), ["Something else."]);
    let path = format!("/v1/memory/{id}");
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(app.call(method, &path).key(&theirs).send().await.code(404), "not_found");
    }
    let change = app.call(Method::PATCH, &path).key(&theirs).json(json!({"content": "x"}));
    assert_eq!(change.send().await.code(404), "not_found");
    let deleted = app.delete("/v1/memory?namespace=*").key(&theirs).send().await.ok(200);
    assert_eq!(deleted["deleted"], 1);
    let listed = app.get("/v1/memory?namespace=*").key(&theirs).send().await.ok(200);
    assert_eq!(listed["memories"], json!([]));
    let exported = app.get("/v1/memory/export?namespace=*").key(&theirs).send().await;
    assert_eq!((exported.status.as_u16(), exported.body.len()), (200, 0));
    let tool = json!({"target": "memory_search", "type": "tool", "input": {"query": "vault code", "namespace": "*"}});
    let run = app.post("/v1/run", tool).key(&theirs).send().await.ok(200);
    assert_eq!(run["result"]["memories"], json!([]), "{run}");
    assert_eq!(found(&app, "q=vault+code").await.len(), 1, "it is still there");
}

#[tokio::test]
async fn a_change_is_searched_at_once() {
    let app = TestApp::new().await;
    let id = remember(&app, "The meeting is in room Lisbon.").await;
    let other = remember(&app, "Bread is bought on Fridays.").await;
    assert_eq!(found(&app, "q=where+do+we+meet&limit=1").await, ["The meeting is in room Lisbon."]);
    let patch =
        |id: &str, body: Value| app.call(Method::PATCH, &format!("/v1/memory/{id}")).json(body).send();
    app.clock.advance_ms(5);
    let changed =
        patch(&id, json!({"content": "The meeting is in room Oslo.", "metadata": {"v": 2}})).await.ok(200);
    assert_eq!(changed["updated_at"], "2026-02-06T12:00:00.005Z");
    assert_eq!(found(&app, "q=where+do+we+meet&limit=1").await, ["The meeting is in room Oslo."]);
    assert_eq!(found(&app, "q=room+Lisbon&limit=10").await.len(), 2);
    let twin = patch(&other, json!({"content": "The meeting is in room Oslo."})).await;
    assert_eq!(twin.code(409), "already_exists");
    patch(&id, json!({"metadata": null, "namespace": "rooms"})).await.ok(200);
    assert_eq!(found(&app, "q=room+Oslo&namespace=rooms").await.len(), 1);
    assert_eq!(found(&app, "q=room+Oslo").await.len(), 1);
    app.delete(&format!("/v1/memory/{id}")).send().await.ok(204);
    assert_eq!(found(&app, "q=room+Oslo&namespace=rooms").await.len(), 0);
}

#[tokio::test]
async fn what_expired_is_gone() {
    let app = TestApp::new().await;
    let body = json!({"content": "The code of today is 4711.", "expires_at": "2026-02-06T13:00:00Z"});
    let id = add(&app, body.clone()).await;
    assert_eq!(found(&app, "q=code+of+today").await.len(), 1);
    app.clock.advance_ms(3_600_000);
    assert_eq!(found(&app, "q=code+of+today").await.len(), 0);
    assert_eq!(app.get(&format!("/v1/memory/{id}")).send().await.code(404), "not_found");
    assert_eq!(app.get("/v1/memory").send().await.ok(200)["memories"], json!([]));
    assert_eq!(app.post("/v1/memory", body).send().await.error(422).1.as_deref(), Some("expires_at"));
    let anew = remember(&app, "The code of today is 4711.").await;
    assert_ne!(anew, id, "what expired is no twin");
    assert_eq!(found(&app, "q=code+of+today").await.len(), 1);
}

#[tokio::test]
async fn filters_are_exact_however_far_down_the_match_is() {
    let app = TestApp::new().await;
    let lines: Vec<String> = (0..300)
        .map(|number| {
            json!({"content": format!("Note {number} about cats"), "metadata": {"n": number, "tags": ["cats"]}}).to_string()
        })
        .collect();
    let import = app.call(Method::POST, "/v1/memory/import").header("content-type", "application/x-ndjson");
    import.body(lines.join("\n")).send().await.ok(200);
    add(
        &app,
        json!({"content": "Rain fell on Tuesday.", "metadata": {"n": 1000, "place": {"city": "Riga"}}}),
    )
    .await;
    let filtered = |filter: &str| query(&[("q", "cats"), ("filter", filter)]);
    assert_eq!(found(&app, &filtered(r#"{"place.city": "Riga"}"#)).await, ["Rain fell on Tuesday."]);
    assert_eq!(found(&app, &filtered(r#"{"n": {"$gte": 297}}"#)).await.len(), 4);
    assert_eq!(found(&app, &filtered(r#"{"n": {"$in": [3, 5]}, "tags": "cats"}"#)).await.len(), 2);
    assert_eq!(found(&app, &filtered(r#"{"n": -1}"#)).await.len(), 0);
    let (code, param) =
        app.get(&format!("/v1/memory/search?{}", filtered(r#"{"a": {"$near": 1}}"#))).send().await.error(422);
    assert_eq!((code.as_str(), param.as_deref()), ("invalid_value", Some("filter.a.$near")));

    let page = query(&[("filter", r#"{"n": {"$lt": 7}}"#), ("limit", "4")]);
    let first = app.get(&format!("/v1/memory?{page}")).send().await.ok(200);
    let cursor = first["next_cursor"].as_str().expect("more");
    let second = app.get(&format!("/v1/memory?{page}&cursor={cursor}")).send().await.ok(200);
    let count = |page: &Value| page["memories"].as_array().expect("a list").len();
    assert_eq!((count(&first), count(&second), &second["next_cursor"]), (4, 3, &Value::Null));

    let deleted = app
        .delete(&format!("/v1/memory?{}", query(&[("filter", r#"{"tags": "cats"}"#)])))
        .send()
        .await
        .ok(200);
    assert_eq!(deleted["deleted"], 300);
    assert_eq!(found(&app, "q=cats").await, ["Rain fell on Tuesday."]);
}

#[tokio::test]
async fn an_export_can_be_imported() {
    let app = TestApp::new().await;
    add(
        &app,
        json!({"content": "Zürich is a city — 🏙", "metadata": {"x": [1, {"y": null}]}, "namespace": "n"}),
    )
    .await;
    remember(&app, "Second\nline and \"quotes\".").await;
    let exported = app.get("/v1/memory/export?namespace=*").send().await;
    assert_eq!(exported.header("content-type"), "application/x-ndjson");
    let (_, theirs) = app.other_workspace().await;
    let import = |body: Vec<u8>| {
        app.call(Method::POST, "/v1/memory/import")
            .key(&theirs)
            .header("content-type", "application/x-ndjson")
            .body(body)
            .send()
    };
    let first = import(exported.body.to_vec()).await.ok(200);
    assert_eq!((&first["created"], &first["existing"], &first["failed"]), (&json!(2), &json!(0), &json!(0)));
    let again = import(exported.body.to_vec()).await.ok(200);
    assert_eq!((&again["created"], &again["existing"]), (&json!(0), &json!(2)));
    let listed = app.get("/v1/memory?namespace=n").key(&theirs).send().await.ok(200);
    assert_eq!(listed["memories"][0]["metadata"], json!({"x": [1, {"y": null}]}));

    let long = format!("{{\"content\": \"{}\"}}", "x".repeat(600_000));
    let faulty = format!(
        "{{\"content\": \"fine\"}}\n\n{{\"content\": 1}}\n{long}\nnot json\n{{\"content\":\"last\"}}"
    );
    let told = import(faulty.into_bytes()).await.ok(200);
    assert_eq!((&told["created"], &told["failed"]), (&json!(2), &json!(3)), "{told}");
    let lines: Vec<_> =
        told["errors"].as_array().expect("faults").iter().map(|fault| fault["line"].as_u64()).collect();
    assert_eq!(lines, [Some(3), Some(4), Some(5)], "{told}");
    let other = app.post("/v1/memory/import", json!({"content": "x"})).send().await;
    assert_eq!(other.code(415), "unsupported_media_type");
}

#[tokio::test]
async fn a_long_content_is_found_by_any_part_of_it_and_once() {
    let app = TestApp::new().await;
    let filler = "The committee discussed the budget for office furniture at length. ".repeat(60);
    let topic = "The spare key of the house lies under the blue flower pot beside the garden door. \
                 Whoever has lost their own key takes it from there and puts it back. ";
    let content = format!("{filler}{}{filler}", topic.repeat(6));
    let id = remember(&app, &content).await;
    let hits = app.get("/v1/memory/search?q=Where+is+the+spare+key+hidden%3F").send().await.ok(200);
    assert_eq!(hits.as_array().expect("hits").len(), 1);
    assert_eq!(hits[0]["id"].as_str(), Some(&*id));
    assert!(hits[0]["similarity"].as_f64().expect("a number") > 0.3, "{}", hits[0]["similarity"]);
}

#[tokio::test]
async fn runs_remember_and_what_they_wrote_can_be_forgotten() {
    let app = TestApp::new().await;
    let store = |content: &str| {
        let body = json!({"target": "memory_store", "type": "tool", "input": {"content": content}});
        app.post("/v1/run", body).send()
    };
    let run = store("Mara likes window seats.").await.ok(200);
    assert_eq!(run["state"], "SUCCESS", "{run}");
    remember(&app, "Ben likes aisle seats.").await;
    let body = json!({"target": "memory_search", "type": "tool", "input": {"query": "Where should Mara sit?", "limit": 1}});
    let search = app.post("/v1/run", body).send().await.ok(200);
    assert_eq!(search["result"]["memories"][0]["content"], "Mara likes window seats.", "{search}");
    let run_id = run["runId"].as_str().expect("a run");
    let written = app.get(&format!("/v1/memory?run_id={run_id}")).send().await.ok(200);
    let source = &written["memories"][0]["source"];
    assert_eq!((&source["run_id"], &source["step"]), (&run["runId"], &json!("tool:1")), "{written}");
    let forgotten = app.delete(&format!("/v1/memory?run_id={run_id}")).send().await.ok(200);
    assert_eq!(forgotten["deleted"], 1);
    assert_eq!(found(&app, "q=seats").await, ["Ben likes aisle seats."]);
    let reader = app.key_with("run:write memories:read").await;
    let body = json!({"target": "memory_store", "type": "tool", "input": {"content": "x"}});
    let refused = app.post("/v1/run", body).key(&reader).send().await;
    assert_eq!(refused.code(403), "missing_scope");
}

#[tokio::test]
async fn mistakes_are_told() {
    let app = TestApp::new().await;
    let post = |body: Value| app.post("/v1/memory", body).send();
    for (body, status, param) in [
        (json!({}), 400, "content"),
        (json!({"content": " "}), 422, "content"),
        (json!({"content": "x".repeat(65_537)}), 422, "content"),
        (json!({"content": "a\u{0}b"}), 422, "content"),
        (json!({"content": "x", "namespace": ""}), 422, "namespace"),
        (json!({"content": "x", "namespace": "*"}), 422, "namespace"),
        (json!({"content": "x", "metadata": {"k": "v".repeat(17_000)}}), 422, "metadata"),
        (json!({"content": "x", "metadata": []}), 400, "metadata"),
        (json!({"content": "x", "colour": 1}), 400, "colour"),
    ] {
        assert_eq!(post(body).await.error(status).1.as_deref(), Some(param));
    }
    for (query, status, param) in [
        ("", 400, "q"),
        ("q=", 422, "q"),
        ("q=a&query=b", 400, "q"),
        ("q=a&limit=101", 422, "limit"),
        ("q=a&limit=x", 400, "limit"),
        ("q=a&min_similarity=2", 422, "min_similarity"),
        ("q=a&min_similarity=NaN", 422, "min_similarity"),
        ("q=a&filter=%7B", 422, "filter"),
        ("q=a&namespace=%20", 422, "namespace"),
        ("q=a&colour=red", 400, "colour"),
    ] {
        let reply = app.get(&format!("/v1/memory/search?{query}")).send().await;
        assert_eq!(reply.error(status).1.as_deref(), Some(param), "{query}");
    }
    assert_eq!(app.delete("/v1/memory").send().await.error(400).1.as_deref(), Some("namespace"));
    assert_eq!(app.get("/v1/memory/mem_123").send().await.code(404), "not_found");
}

#[tokio::test]
async fn the_local_model_serves_the_gateway() {
    let app = TestApp::new().await;
    let body = json!({"model": "neuralhub/minilm", "input": ["one", "two"], "encoding_format": "base64"});
    let answer = app.post("/v1/embeddings", body).send().await.ok(200);
    assert_eq!(answer["data"][1]["index"], 1);
    assert_eq!(answer["data"][1]["embedding"].as_str().map(str::len), Some(2048));
    assert!(answer["usage"]["prompt_tokens"].as_u64().is_some_and(|tokens| tokens >= 6), "{answer}");
    let floats = json!({"model": "neuralhub/minilm", "input": "one", "dimensions": 384});
    let answer = app.post("/v1/embeddings", floats).send().await.ok(200);
    assert_eq!(answer["data"][0]["embedding"].as_array().map(Vec::len), Some(384));
    for (body, param) in [
        (json!({"model": "neuralhub/minilm", "input": [1, 2]}), "input"),
        (json!({"model": "neuralhub/minilm", "input": "x", "dimensions": 12}), "dimensions"),
    ] {
        assert_eq!(app.post("/v1/embeddings", body).send().await.error(400).1.as_deref(), Some(param));
    }
    let chat = json!({"model": "neuralhub/minilm", "messages": [{"role": "user", "content": "hi"}]});
    assert_eq!(app.post("/v1/chat/completions", chat).send().await.error(400).1.as_deref(), Some("model"));
    let models = app.get("/v1/models").send().await.ok(200);
    let is_listed =
        models["data"].as_array().expect("models").iter().any(|model| model["id"] == "neuralhub/minilm");
    assert!(is_listed, "{models}");
}
