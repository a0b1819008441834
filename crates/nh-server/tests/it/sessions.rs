//! Browser sessions: sign-in, cookies, origins, throttles.

use http::Method;
use nh_server::ServerSettings;
use nh_server::auth::password::hash_password;
use nh_store::users::{self, Role, User};
use nh_types::{Clock, UserId, WorkspaceId};
use serde_json::json;

use crate::app::{Call, HOST, Reply, TestApp};

const PASSWORD: &str = "correct horse battery staple";
const ORIGIN: &str = "http://127.0.0.1:8080";

async fn user(app: &TestApp, email: &str, workspace_id: &WorkspaceId, role: Role) -> UserId {
    let user = User {
        id: UserId::generate(app.ids.as_ref()),
        email: email.to_owned(),
        password_hash: hash_password(app.ids.as_ref(), &PASSWORD.into()).expect("hash"),
        created_at: app.clock.now(),
    };
    let id = user.id.clone();
    let create = users::Create { user, workspace_id: workspace_id.clone(), role };
    app.store().write(create).await.expect("user");
    id
}

fn login(app: &TestApp, email: &str, password: &str) -> Call {
    app.anonymous(Method::POST, "/v1/auth/login")
        .header("origin", ORIGIN)
        .json(json!({"email": email, "password": password}))
}

fn cookie(reply: &Reply) -> String {
    reply.header("set-cookie").split(';').next().expect("cookie").to_owned()
}

async fn signed_in(app: &TestApp, role: Role) -> String {
    user(app, "ada@example.com", &app.workspace_id, role).await;
    let reply = login(app, "ada@example.com", PASSWORD).send().await;
    reply.ok(200);
    cookie(&reply)
}

#[tokio::test]
async fn a_user_signs_in_acts_and_signs_out() {
    let app = TestApp::new().await;
    user(&app, "ada@example.com", &app.workspace_id, Role::Owner).await;
    let reply = login(&app, " Ada@Example.com", PASSWORD).send().await;
    let me = reply.ok(200);
    assert_eq!(me["user"]["email"], json!("ada@example.com"));
    assert_eq!(me["workspace"]["role"], json!("owner"));
    let set = reply.header("set-cookie");
    assert!(set.starts_with("nh_session="), "{set}");
    assert!(set.contains("; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax"), "{set}");
    assert!(!set.contains("Secure"), "{set}");

    let cookie = cookie(&reply);
    let get = |path: &str| app.anonymous(Method::GET, path).header("cookie", &cookie);
    assert_eq!(get("/v1/auth/me").send().await.ok(200)["user"], me["user"]);
    let create = |origin: Option<&str>| {
        let call = app.anonymous(Method::POST, "/v1/keys").header("cookie", &cookie);
        let call = call.json(json!({"name": "n", "scopes": ["run:read"]}));
        match origin {
            Some(origin) => call.header("origin", origin),
            None => call,
        }
    };
    create(Some(ORIGIN)).send().await.ok(201);
    for origin in [
        None,
        Some("http://evil.example"),
        Some("null"),
        Some("https://127.0.0.1:8080"),
        Some("http://127.0.0.1:8081"),
    ] {
        let reply = create(origin).send().await;
        assert_eq!(reply.error(403), ("origin_refused".to_owned(), Some("Origin".to_owned())), "{origin:?}");
    }

    let out =
        app.anonymous(Method::POST, "/v1/auth/logout").header("cookie", &cookie).header("origin", ORIGIN);
    let reply = out.send().await;
    reply.ok(204);
    assert!(reply.header("set-cookie").starts_with("nh_session=; Path=/; Max-Age=0"));
    assert_eq!(get("/v1/auth/me").send().await.code(401), "invalid_credential");
}

#[tokio::test]
async fn every_failed_sign_in_looks_the_same() {
    let app = TestApp::new().await;
    user(&app, "ada@example.com", &app.workspace_id, Role::Owner).await;
    let long = "x".repeat(2000);
    let mut seen = Vec::new();
    for (email, password) in [
        ("ada@example.com", "wrong"),
        ("nobody@example.com", PASSWORD),
        ("", ""),
        ("ada@example.com", long.as_str()),
    ] {
        let reply = login(&app, email, password).send().await;
        assert_eq!(reply.code(401), "invalid_login");
        seen.push(reply.json()["error"]["message"].clone());
        assert!(reply.headers.get("set-cookie").is_none());
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);
}

#[tokio::test]
async fn signing_in_needs_the_hubs_own_origin() {
    let app = TestApp::new().await;
    let call = app.anonymous(Method::POST, "/v1/auth/login").json(json!({"email": "a", "password": "b"}));
    assert_eq!(call.send().await.code(403), "origin_refused");
    let foreign = login(&app, "a", "b").header("origin", "http://evil.example");
    assert_eq!(foreign.send().await.code(403), "origin_refused");
    let bomb = login(&app, &"a".repeat(20_000), "b").send().await;
    assert_eq!(bomb.code(413), "payload_too_large");
}

#[tokio::test]
async fn five_tries_a_minute_per_email_and_per_address() {
    let app = TestApp::new().await;
    let peer = |number: u8| format!("192.0.2.{number}:999").parse().expect("address");
    for number in 0..5 {
        let reply = login(&app, "ada@example.com", "wrong-one").peer(peer(number)).send().await;
        assert_eq!(reply.code(401), "invalid_login");
    }
    let reply = login(&app, "ADA@example.com", "wrong-one").peer(peer(9)).send().await;
    assert_eq!(reply.code(429), "rate_limited");
    assert_eq!(reply.header("retry-after"), "12");
    for number in 0..4 {
        // Address 0 tried once above.
        let reply = login(&app, &format!("user{number}@example.com"), "wrong-one").peer(peer(0)).send().await;
        assert_eq!(reply.code(401), "invalid_login");
    }
    let reply = login(&app, "user9@example.com", "wrong-one").peer(peer(0)).send().await;
    assert_eq!(reply.code(429), "rate_limited");
    app.clock.advance_ms(60_000);
    assert_eq!(
        login(&app, "ada@example.com", "wrong-one").peer(peer(0)).send().await.code(401),
        "invalid_login"
    );
}

#[tokio::test]
async fn a_member_may_not_make_keys() {
    let app = TestApp::new().await;
    let cookie = signed_in(&app, Role::Member).await;
    let call = app.anonymous(Method::POST, "/v1/keys").header("cookie", &cookie).header("origin", ORIGIN);
    let reply = call.json(json!({"name": "n", "scopes": ["run:read"]})).send().await;
    assert_eq!(reply.error(403), ("missing_scope".to_owned(), Some("keys:write".to_owned())));
    app.anonymous(Method::GET, "/v1/keys").header("cookie", &cookie).send().await.ok(200);
}

#[tokio::test]
async fn a_session_ends_when_idle_and_when_old() {
    const DAY_MS: i64 = 24 * 60 * 60 * 1000;
    let app = TestApp::new().await;
    let cookie = signed_in(&app, Role::Owner).await;
    let me = || app.anonymous(Method::GET, "/v1/auth/me").header("cookie", &cookie);
    for _ in 0..4 {
        app.clock.advance_ms(7 * DAY_MS - 1);
        me().send().await.ok(200);
        app.app.flush().await.expect("flushed");
    }
    app.clock.advance_ms(2 * DAY_MS + 4);
    assert_eq!(me().send().await.code(401), "invalid_credential");
}

#[tokio::test]
async fn an_idle_session_ends_after_seven_days() {
    let app = TestApp::new().await;
    let cookie = signed_in(&app, Role::Owner).await;
    app.clock.advance_ms(7 * 24 * 60 * 60 * 1000);
    let reply = app.anonymous(Method::GET, "/v1/auth/me").header("cookie", &cookie).send().await;
    assert_eq!(reply.code(401), "invalid_credential");
}

#[tokio::test]
async fn a_session_moves_between_the_users_workspaces_only() {
    let app = TestApp::new().await;
    let (other, _) = app.other_workspace().await;
    let id = user(&app, "ada@example.com", &app.workspace_id, Role::Owner).await;
    let reply = login(&app, "ada@example.com", PASSWORD).send().await;
    let cookie = cookie(&reply);
    let go = |workspace: &str| {
        let call = app.anonymous(Method::POST, "/v1/auth/workspace").header("cookie", &cookie);
        call.header("origin", ORIGIN).json(json!({"workspace_id": workspace}))
    };
    for wrong in [other.as_str(), "ws_aaaaaaaaaaaaaaaaaaaa", "nonsense"] {
        assert_eq!(go(wrong).send().await.error(422).1.as_deref(), Some("workspace_id"));
    }
    let at = app.clock.now();
    let join = users::AddMembership { user_id: id, workspace_id: other.clone(), role: Role::Member, at };
    app.store().write(join).await.expect("joined");
    let me = go(other.as_str()).send().await.ok(200);
    assert_eq!(me["workspace"]["id"], json!(other.as_str()));
    assert_eq!(me["workspace"]["role"], json!("member"));
    assert_eq!(me["workspaces"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn behind_https_the_cookie_is_bound_to_the_host() {
    let public_url = Some("https://hub.example.com".parse().expect("url"));
    let app = TestApp::with(ServerSettings { public_url, ..Default::default() }, Vec::new()).await;
    user(&app, "ada@example.com", &app.workspace_id, Role::Owner).await;
    let reply =
        login(&app, "ada@example.com", PASSWORD).header("origin", "https://hub.example.com").send().await;
    reply.ok(200);
    let set = reply.header("set-cookie");
    assert!(set.starts_with("__Host-nh_session=") && set.ends_with("; Secure"), "{set}");
    let plain = cookie(&reply).replace("__Host-", "");
    let me = app.anonymous(Method::GET, "/v1/auth/me").header("cookie", &plain);
    assert_eq!(me.send().await.code(401), "missing_credential");
}

#[tokio::test]
async fn a_bearer_header_wins_over_a_cookie_even_when_it_is_wrong() {
    let app = TestApp::new().await;
    let cookie = signed_in(&app, Role::Owner).await;
    let reply =
        app.anonymous(Method::GET, "/v1/auth/me").header("cookie", &cookie).key("nh_wrong").send().await;
    assert_eq!(reply.code(401), "invalid_credential");
    let me = app.get("/v1/auth/me").header("cookie", &cookie).send().await.ok(200);
    assert_eq!(me["user"], json!(null));
    assert!(me["key_id"].is_i64());
    // With a bearer key no Origin is needed: no browser sends one by itself.
    let call = app.post("/v1/keys", json!({"name": "n", "scopes": ["run:read"]})).header("cookie", &cookie);
    call.send().await.ok(201);
    for path in ["/v1/auth/logout", "/v1/auth/workspace"] {
        let reply = app.post(path, json!({"workspace_id": "x"})).send().await;
        assert_eq!(reply.code(400), "invalid_request");
    }
}

#[tokio::test]
async fn forged_cookies_are_no_credential() {
    let app = TestApp::new().await;
    for cookie in
        ["nh_session=", "nh_session=x", "nh_session", "=; ;;", &format!("nh_session={}", "a".repeat(44))]
    {
        let reply = app.anonymous(Method::GET, "/v1/auth/me").header("cookie", cookie).send().await;
        assert_eq!(reply.code(401), "missing_credential", "{cookie}");
    }
    let guessed = format!("nh_session={}", "a".repeat(43));
    let reply = app.anonymous(Method::GET, "/v1/auth/me").header("cookie", &guessed).send().await;
    assert_eq!(reply.code(401), "invalid_credential");
    assert_eq!(HOST, &ORIGIN[7..]);
}
