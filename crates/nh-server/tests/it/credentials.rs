//! Who gets in, and who does not.

use http::Method;
use nh_server::auth::api_key::ApiKey;
use nh_types::SystemIds;
use serde_json::json;

use crate::app::{Call, TestApp};

#[tokio::test]
async fn a_request_without_a_good_key_is_a_401_that_says_how() {
    let app = TestApp::new().await;
    let reply = app.anonymous(Method::GET, "/v1/keys").send().await;
    assert_eq!(reply.code(401), "missing_credential");
    assert_eq!(reply.header("www-authenticate"), "Bearer");

    let unknown = ApiKey::generate(&SystemIds).expose().to_owned();
    let mistyped = format!("{}!", &app.key[..42]);
    let cut = app.key[..42].to_owned();
    for header in [
        format!("Bearer {unknown}"),
        format!("Bearer {mistyped}"),
        format!("Bearer {cut}"),
        format!("Bearer  {}x", app.key),
        format!("Basic {}", app.key),
        format!("Bearer: {}", app.key),
        app.key.clone(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "\u{fffd}".to_owned(),
    ] {
        let reply = app.anonymous(Method::GET, "/v1/keys").header("authorization", &header).send().await;
        assert_eq!(reply.code(401), "invalid_credential", "{header}");
        assert_eq!(reply.header("www-authenticate"), "Bearer");
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(!text.contains(&app.key[7..30]), "the answer repeats the key");
    }
    app.anonymous(Method::GET, "/v1/keys")
        .header("authorization", &format!("bearer {}", app.key))
        .send()
        .await
        .ok(200);
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let app = TestApp::new().await;
    let mut call = app.get("/v1/keys");
    call = call.append("authorization", &format!("Bearer {}", app.key));
    assert_eq!(call.send().await.code(401), "invalid_credential");
}

#[tokio::test]
async fn a_missing_scope_is_named_and_writing_includes_reading() {
    let app = TestApp::new().await;
    let key = app.key_with("run:write").await;
    let reply = app.get("/v1/keys").key(&key).send().await;
    assert_eq!(reply.error(403), ("missing_scope".to_owned(), Some("keys:read".to_owned())));
    app.get("/v1/runs").key(&key).send().await.ok(200);
    let chat = app.key_with("chat:write").await;
    app.get("/v1/models").key(&chat).send().await.ok(200);
    assert_eq!(app.get("/v1/runs").key(&chat).send().await.code(403), "missing_scope");
}

#[tokio::test]
async fn an_expired_key_is_refused_from_its_very_instant() {
    let app = TestApp::new().await;
    let body = json!({"name": "short", "scopes": ["keys:read"], "expires_at": "2026-02-06T12:01:00Z"});
    let key = app.post("/v1/keys", body).send().await.ok(201)["key"].as_str().expect("key").to_owned();
    app.clock.advance_ms(59_999);
    app.get("/v1/keys").key(&key).send().await.ok(200);
    app.clock.advance_ms(1);
    assert_eq!(app.get("/v1/keys").key(&key).send().await.code(401), "invalid_credential");
    let listed = app.get("/v1/keys").send().await.ok(200);
    let names: Vec<_> = listed["keys"].as_array().expect("keys").iter().map(|key| &key["name"]).collect();
    assert_eq!(names, ["test"], "only active keys are listed");
}

#[tokio::test]
async fn a_revoked_key_ends_at_once_here_and_within_a_second_elsewhere() {
    let app = TestApp::new().await;
    let elsewhere = app.second_process().await;
    let there = |key: &str| Call::new(elsewhere.clone(), Method::GET, "/v1/keys").key(key);
    let made = app.post("/v1/keys", json!({"name": "n", "scopes": ["keys:read"]})).send().await.ok(201);
    let key = made["key"].as_str().expect("key").to_owned();
    app.get("/v1/keys").key(&key).send().await.ok(200);
    there(&key).send().await.ok(200);

    app.delete(&format!("/v1/keys/{}", made["id"])).send().await.ok(204);
    assert_eq!(app.get("/v1/keys").key(&key).send().await.code(401), "invalid_credential");
    app.clock.advance_ms(249);
    there(&key).send().await.ok(200);
    app.clock.advance_ms(1);
    assert_eq!(there(&key).send().await.code(401), "invalid_credential");
}

#[tokio::test]
async fn while_the_store_cannot_be_read_nobody_gets_in_for_long() {
    let app = TestApp::new().await;
    app.get("/v1/auth/me").send().await.ok(200);
    let models = |app: &TestApp| app.get("/v1/models");
    models(&app).send().await.ok(200);
    app.store().close().await;
    app.clock.advance_ms(999);
    models(&app).send().await.ok(200);
    app.clock.advance_ms(1);
    let reply = models(&app).send().await;
    assert_eq!(reply.status.as_u16(), 503, "{reply:?}");
    assert_eq!(reply.header("retry-after"), "1");
}

#[tokio::test]
async fn a_rate_limit_is_enforced_with_retry_after() {
    let app = TestApp::new().await;
    let body = json!({"name": "slow", "scopes": ["keys:read"], "rate_limit": 2});
    let key = app.post("/v1/keys", body).send().await.ok(201)["key"].as_str().expect("key").to_owned();
    for _ in 0..2 {
        app.get("/v1/keys").key(&key).send().await.ok(200);
    }
    let reply = app.get("/v1/keys").key(&key).send().await;
    assert_eq!(reply.code(429), "rate_limited");
    assert_eq!(reply.header("retry-after"), "30");
    // A new epoch renews the cached key, not what it has used up.
    let other = app.key_with("run:read").await;
    app.get("/v1/runs").key(&other).send().await.ok(200);
    app.clock.advance_ms(29_999);
    assert_eq!(app.get("/v1/keys").key(&key).send().await.code(429), "rate_limited");
    app.clock.advance_ms(1);
    app.get("/v1/keys").key(&key).send().await.ok(200);
}

#[tokio::test]
async fn the_last_use_of_a_key_is_noted() {
    let app = TestApp::new().await;
    let before = app.get("/v1/keys").send().await.ok(200);
    assert_eq!(before["keys"][0]["last_used_at"], json!(null));
    app.clock.advance_ms(5_000);
    app.app.flush().await.expect("flushed");
    let after = app.get("/v1/keys").send().await.ok(200);
    assert_eq!(after["keys"][0]["last_used_at"], json!("2026-02-06T12:00:00.000Z"));
}

#[tokio::test]
async fn a_key_in_a_query_string_is_refused_everywhere() {
    let app = TestApp::new().await;
    for path in ["/v1/keys", "/healthz", "/nowhere"] {
        for query in [format!("api_key={}", app.key), format!("x=a%20{}", app.key), format!("{}=1", app.key)]
        {
            let reply = app.get(&format!("{path}?{query}")).send().await;
            assert_eq!(reply.error(400), ("invalid_request".to_owned(), Some("Authorization".to_owned())));
            assert!(!String::from_utf8_lossy(&reply.body).contains(&app.key));
        }
    }
}
