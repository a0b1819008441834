//! `/v1/keys`.

use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn a_key_is_shown_once_listed_masked_and_revoked() {
    let app = TestApp::new().await;
    let made = app
        .post("/v1/keys", json!({"name": "n", "scopes": ["memory:read", "run:write"]}))
        .send()
        .await
        .ok(201);
    let key = made["key"].as_str().expect("key");
    assert_eq!(made["scopes"], json!(["memories:read", "run:write"]));
    assert_eq!(made["prefix"].as_str(), key.get(..7));

    let listed = app.get("/v1/keys").send().await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(&key[7..]), "a list shows a key");
    assert_eq!(listed.ok(200)["keys"][0]["id"], made["id"]);

    let path = format!("/v1/keys/{}", made["id"]);
    assert_eq!(app.delete(&path).send().await.ok(204), json!(null));
    assert_eq!(app.delete(&path).send().await.code(404), "not_found");
    let ids: Vec<_> = app.get("/v1/keys").send().await.ok(200)["keys"].as_array().expect("keys").clone();
    assert!(ids.iter().all(|key| key["id"] != made["id"]));
}

#[tokio::test]
async fn every_fault_in_a_new_key_is_named() {
    let app = TestApp::new().await;
    let cases = [
        (json!({"scopes": ["run:read"]}), 400, "invalid_request", "name"),
        (json!({"name": "n"}), 400, "invalid_request", "scopes"),
        (json!({"name": 7, "scopes": []}), 400, "invalid_request", "name"),
        (json!({"name": "n", "scopes": ["run:read"], "admin": true}), 400, "unknown_field", "admin"),
        (json!({"name": "", "scopes": ["run:read"]}), 422, "invalid_value", "name"),
        (json!({"name": "n".repeat(129), "scopes": ["run:read"]}), 422, "invalid_value", "name"),
        (json!({"name": "n", "scopes": []}), 422, "invalid_value", "scopes"),
        (json!({"name": "n", "scopes": ["run:read", "run:fly"]}), 422, "unknown_scope", "scopes[1]"),
        (json!({"name": "n", "scopes": ["run:read"], "rate_limit": 0}), 422, "invalid_value", "rate_limit"),
        (json!({"name": "n", "scopes": ["run:read"], "rate_limit": -1}), 422, "invalid_value", "rate_limit"),
        (
            json!({"name": "n", "scopes": ["run:read"], "expires_at": "2026-02-06T12:00:00Z"}),
            422,
            "invalid_value",
            "expires_at",
        ),
        (
            json!({"name": "n", "scopes": ["run:read"], "expires_at": "soon"}),
            400,
            "invalid_request",
            "expires_at",
        ),
        (json!({"name": "n", "scopes": ["run:read"], "budget_usd": -5}), 422, "invalid_value", "budget_usd"),
        (
            json!({"name": "n", "scopes": ["run:read"], "budget_usd": "5"}),
            400,
            "invalid_request",
            "budget_usd",
        ),
        (
            json!({"name": "n", "scopes": ["run:read"], "limits": {"timeout_seconds": 0}}),
            422,
            "invalid_value",
            "limits.timeout_seconds",
        ),
    ];
    for (body, status, code, param) in cases {
        let reply = app.post("/v1/keys", body.clone()).send().await;
        assert_eq!(reply.error(status), (code.to_owned(), Some(param.to_owned())), "{body}");
    }
}

#[tokio::test]
async fn a_key_never_makes_one_that_may_do_more() {
    let app = TestApp::new().await;
    let key = app.key_with("keys:write run:read").await;
    for (scopes, beyond) in [(json!(["run:read", "run:write"]), "run:write"), (json!(["*"]), "*")] {
        let reply = app.post("/v1/keys", json!({"name": "n", "scopes": scopes})).key(&key).send().await;
        assert_eq!(reply.error(403), ("missing_scope".to_owned(), Some(beyond.to_owned())));
    }
    app.post("/v1/keys", json!({"name": "n", "scopes": ["keys:read", "run:read"]}))
        .key(&key)
        .send()
        .await
        .ok(201);
}

#[tokio::test]
async fn a_limited_key_makes_no_keys() {
    let app = TestApp::new().await;
    for limit in [
        json!({"rate_limit": 100}),
        json!({"expires_at": "2026-03-01T00:00:00Z"}),
        json!({"budget_usd": 5}),
        json!({"limits": {"max_steps": 5}}),
    ] {
        let mut body = json!({"name": "n", "scopes": ["*"]});
        body.as_object_mut().expect("object").extend(limit.as_object().expect("object").clone());
        let key = app.post("/v1/keys", body).send().await.ok(201)["key"].as_str().expect("key").to_owned();
        let reply = app.post("/v1/keys", json!({"name": "m", "scopes": ["run:read"]})).key(&key).send().await;
        assert_eq!(reply.code(403), "limited_key");
    }
}

#[tokio::test]
async fn repeating_the_creation_of_a_key_never_shows_it_again() {
    let app = TestApp::new().await;
    let body = json!({"name": "n", "scopes": ["run:read"]});
    let post =
        |body: &serde_json::Value| app.post("/v1/keys", body.clone()).header("idempotency-key", "once");
    let first = post(&body).send().await.ok(201);
    let again = post(&body).send().await;
    assert_eq!(again.error(409), ("already_created".to_owned(), Some(first["id"].to_string())));
    assert_eq!(again.header("x-should-retry"), "false");
    assert!(!String::from_utf8_lossy(&again.body).contains(first["key"].as_str().expect("key")));
    let other = post(&json!({"name": "m", "scopes": ["run:read"]})).send().await;
    assert_eq!(other.code(409), "idempotency_mismatch");
    // The record is the calling key's own.
    let second = app.key_with("*").await;
    app.post("/v1/keys", body.clone()).key(&second).header("idempotency-key", "once").send().await.ok(201);
    let too_long = "k".repeat(256);
    let reply = app.post("/v1/keys", body).header("idempotency-key", &too_long).send().await;
    assert_eq!(reply.error(400).1.as_deref(), Some("Idempotency-Key"));
}

#[tokio::test]
async fn keys_are_paged_newest_first() {
    let app = TestApp::new().await;
    for number in 0..4 {
        app.post("/v1/keys", json!({"name": format!("k{number}"), "scopes": ["run:read"]}))
            .send()
            .await
            .ok(201);
    }
    let mut names = Vec::new();
    let mut path = "/v1/keys?limit=2".to_owned();
    loop {
        let page = app.get(&path).send().await.ok(200);
        names.extend(
            page["keys"]
                .as_array()
                .expect("keys")
                .iter()
                .map(|key| key["name"].as_str().expect("name").to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/keys?limit=2&cursor={cursor}");
    }
    assert_eq!(names, ["k3", "k2", "k1", "k0", "test"]);
}

#[tokio::test]
async fn another_workspaces_key_is_not_there() {
    let app = TestApp::new().await;
    let (_, theirs) = app.other_workspace().await;
    let made = app.post("/v1/keys", json!({"name": "n", "scopes": ["run:read"]})).send().await.ok(201);
    let path = format!("/v1/keys/{}", made["id"]);
    assert_eq!(app.delete(&path).key(&theirs).send().await.code(404), "not_found");
    app.get("/v1/runs").key(made["key"].as_str().expect("key")).send().await.ok(200);
}
