//! What holds for every request: ids, forms of errors, hosts, bodies.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Method;
use nh_server::ServerSettings;
use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn health_needs_no_key_and_readiness_ends_with_the_store_and_the_hub() {
    let app = TestApp::new().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(app.anonymous(Method::GET, path).send().await.ok(200), json!({"status": "ok"}));
    }
    app.stopping.cancel();
    assert_eq!(app.anonymous(Method::GET, "/readyz").send().await.code(503), "shutting_down");
    app.anonymous(Method::GET, "/healthz").send().await.ok(200);
    let app = TestApp::new().await;
    app.store().close().await;
    let reply = app.anonymous(Method::GET, "/readyz").send().await;
    assert_eq!(reply.status.as_u16(), 503);
    assert!(reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_another_replaced() {
    let app = TestApp::new().await;
    let with = |id: &str| app.anonymous(Method::GET, "/healthz").header("x-request-id", id);
    assert_eq!(with("abc-1_2.3").send().await.header("x-request-id"), "abc-1_2.3");
    for bad in ["", "a b", "<script>", "ä", &"x".repeat(129)] {
        let reply = with(bad).send().await;
        assert_eq!(reply.header("x-request-id").len(), 36, "{bad}");
    }
    let one = app.anonymous(Method::GET, "/healthz").send().await;
    let two = app.anonymous(Method::GET, "/healthz").send().await;
    assert_ne!(one.header("x-request-id"), two.header("x-request-id"));
    assert_eq!(one.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn unknown_paths_and_methods_have_the_one_body() {
    let app = TestApp::new().await;
    for path in ["/", "/v1", "/v2/run", "/v1/keys/", "/v1/run/a/b/c", "//v1/keys", "/v1/../v1/keys"] {
        assert_eq!(app.get(path).send().await.code(404), "not_found", "{path}");
    }
    let reply = app.call(Method::PUT, "/v1/keys").send().await;
    assert_eq!(reply.code(405), "method_not_allowed");
    let message = "this path does not take PUT; it takes GET, HEAD, POST";
    assert_eq!(reply.json()["error"]["message"], message);
    let reply = app.call(Method::POST, "/docs/").send().await;
    assert_eq!(reply.code(405), "method_not_allowed");
    assert!(
        reply.json()["error"]["message"].as_str().is_some_and(|text| text.ends_with("it takes GET, HEAD"))
    );
    let reply = app.call(Method::PUT, "/v1/keys").send().await;
    let mut allow: Vec<_> = reply.header("allow").split(',').collect();
    allow.sort_unstable();
    assert_eq!(allow, ["GET", "HEAD", "POST"]);
    let options = app.anonymous(Method::OPTIONS, "/v1/keys").send().await;
    assert_eq!(options.status.as_u16(), 204);
    assert_eq!(options.header("allow").split(',').count(), 3);
    assert!(options.headers.get("access-control-allow-origin").is_none());
    let head = app.call(Method::HEAD, "/v1/keys").send().await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn on_a_loopback_bind_a_foreign_host_is_refused() {
    let app = TestApp::new().await;
    let with = |host: &str| app.anonymous(Method::GET, "/healthz").header("host", host);
    for own in ["127.0.0.1:8080", "localhost", "LOCALHOST:9", "[::1]:8080", "127.9.9.9"] {
        with(own).send().await.ok(200);
    }
    for foreign in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "192.0.2.1",
        "",
    ] {
        let reply = with(foreign).send().await;
        assert_eq!(reply.error(403), ("origin_refused".to_owned(), Some("Host".to_owned())), "{foreign}");
    }
    let absolute = app.anonymous(Method::GET, "http://evil.example/healthz").send().await;
    assert_eq!(absolute.code(403), "origin_refused");

    let public_url = Some("https://hub.example.com".parse().expect("url"));
    let app = TestApp::with(ServerSettings { public_url, ..Default::default() }, Vec::new()).await;
    app.anonymous(Method::GET, "/healthz").header("host", "hub.example.com").send().await.ok(200);

    let bind = "0.0.0.0:8080".parse().expect("address");
    let app = TestApp::with(ServerSettings { bind, ..Default::default() }, Vec::new()).await;
    app.anonymous(Method::GET, "/healthz").header("host", "anything.example").send().await.ok(200);
}

#[tokio::test]
async fn a_body_must_be_json_by_its_type() {
    let app = TestApp::new().await;
    let body = json!({"name": "n", "scopes": ["run:read"]}).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let call = app.call(Method::POST, "/v1/keys").header("content-type", kind).body(body.clone());
        assert_eq!(call.send().await.code(415), "unsupported_media_type");
    }
    assert_eq!(
        app.call(Method::POST, "/v1/keys").body(body).send().await.code(415),
        "unsupported_media_type"
    );
    for broken in ["", "{", "[1,", "\u{feff}{}", "{\"name\":\"\u{1}\"}"] {
        let call = app.call(Method::POST, "/v1/keys").header("content-type", "application/json");
        assert_eq!(call.body(broken.to_owned()).send().await.code(400), "invalid_json", "{broken}");
    }
    let not_utf8 = app.call(Method::POST, "/v1/keys").header("content-type", "application/json");
    assert_eq!(not_utf8.body(vec![b'"', 0xff, b'"']).send().await.status.as_u16(), 400);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_announced_or_not() {
    let settings = ServerSettings { max_body_bytes: 1024, ..Default::default() };
    let app = TestApp::with(settings, Vec::new()).await;
    let post = || app.call(Method::POST, "/v1/keys").header("content-type", "application/json");
    let announced = post().header("content-length", "1025").send().await;
    assert_eq!(announced.code(413), "payload_too_large");
    assert!(announced.json()["error"]["message"].as_str().is_some_and(|text| text.contains("1024")));
    let pieces =
        futures_util::stream::iter((0..100).map(|_| Ok::<_, Infallible>(Bytes::from_static(&[b' '; 64]))));
    assert_eq!(post().body(Body::from_stream(pieces)).send().await.code(413), "payload_too_large");
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let settings = ServerSettings { body_timeout_ms: 100, ..Default::default() };
    let app = TestApp::with(settings, Vec::new()).await;
    app.get("/v1/auth/me").send().await.ok(200);
    let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
    let post = app.call(Method::POST, "/v1/keys").header("content-type", "application/json").body(never);
    assert_eq!(post.send().await.code(408), "request_timeout");
}

#[tokio::test]
async fn bodies_that_are_sent_slowly_cannot_take_all_memory() {
    let app = TestApp::new().await;
    let post = || app.call(Method::POST, "/v1/chat/completions").header("content-type", "application/json");
    let never = || Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
    let slow = (0..60).map(|_| post().header("content-length", "9900000").body(never()).send());
    let mut slow: FuturesUnordered<_> = slow.collect();
    let refused = slow.next().await.expect("one that found no room");
    assert_eq!(refused.code(503), "overloaded");
    assert_eq!(refused.header("retry-after"), "1");
    let small = json!({"model": "neuralhub/offline", "messages": [{"role": "user", "content": "hello"}]});
    app.post("/v1/chat/completions", small).send().await.ok(200);
    drop(slow);
    let large = json!({"model": "neuralhub/offline", "messages": [{"role": "user", "content": "x".repeat(9_000_000)}]});
    app.post("/v1/chat/completions", large).send().await.ok(200);
}

#[tokio::test]
async fn who_has_no_key_cannot_make_the_hub_read_a_body() {
    let app = TestApp::new().await;
    let never = Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>());
    let post = app.anonymous(Method::POST, "/v1/keys").header("content-type", "application/json").body(never);
    assert_eq!(post.send().await.code(401), "missing_credential");
}

#[tokio::test]
async fn deep_and_wide_json_is_refused() {
    let app = TestApp::new().await;
    let post = |body: String| {
        app.call(Method::POST, "/v1/chat/completions")
            .header("content-type", "application/json")
            .body(body)
            .send()
    };
    let deep = format!("{{\"model\":{}{}}}", "[".repeat(65), "]".repeat(65));
    assert_eq!(post(deep).await.code(400), "invalid_json");
    assert_eq!(post("[".repeat(1_000_000)).await.code(400), "invalid_json");
    let wide = format!("{{\"model\":[{}0]}}", "{},".repeat(600_000));
    assert_eq!(post(wide).await.code(400), "invalid_json");
}

#[tokio::test]
async fn metrics_are_for_keys_that_may_see_usage_and_name_no_workspace() {
    let app = TestApp::new().await;
    assert_eq!(app.anonymous(Method::GET, "/metrics").send().await.code(401), "missing_credential");
    let key = app.key_with("usage:read").await;
    app.get("/v1/models").send().await.ok(200);
    let reply = app.get("/metrics").key(&key).send().await;
    let text = String::from_utf8(reply.body.to_vec()).expect("text");
    assert!(
        text.contains("neuralhub_http_requests_total{route=\"/v1/models\",method=\"GET\",status=\"2xx\"}"),
        "{text}"
    );
    assert!(!text.contains("ws_"), "{text}");
    let open = nh_server::metrics_router(app.app.clone());
    crate::app::Call::new(open, Method::GET, "/metrics").send().await;
}

#[tokio::test]
async fn docs_come_from_the_binary_under_a_policy() {
    let app = TestApp::new().await;
    let reply = app.anonymous(Method::GET, "/docs").send().await;
    assert_eq!((reply.status.as_u16(), reply.header("location")), (303, "/docs/"));
    let page = app.anonymous(Method::GET, "/docs/").send().await;
    assert!(String::from_utf8_lossy(&page.body).contains("swagger-ui"));
    assert!(page.header("content-security-policy").starts_with("default-src 'self'"));
    let script = app.anonymous(Method::GET, "/docs/swagger-initializer.js").send().await;
    assert!(String::from_utf8_lossy(&script.body).contains("/openapi.json"));
    for missing in ["/docs/nothing.js", "/docs/%2e%2e/secret", "/docs/..%2f..%2fetc%2fpasswd"] {
        assert_eq!(app.anonymous(Method::GET, missing).send().await.code(404), "not_found");
    }
}
