//! Signed URLs: one object, one method, one key, for a while.

use http::Method;
use serde_json::{Value, json};

use crate::app::{Call, TestApp};
use crate::storage::{names, read, upload};

async fn sign(app: &TestApp, body: Value) -> Value {
    app.post("/v1/storage/sign", body).send().await.ok(201)
}

fn path_of(signed: &Value) -> String {
    let url = signed["url"].as_str().expect("a url");
    url[url.find("/v1/").expect("a path")..].to_owned()
}

fn put(app: &TestApp, signed: &Value, bytes: impl Into<axum::body::Body>) -> Call {
    app.anonymous(Method::PUT, &path_of(signed)).body(bytes)
}

#[tokio::test]
async fn who_has_the_url_reads_without_a_key_until_it_expires() {
    let app = TestApp::new().await;
    upload(&app, "pathname=a%20b%23.txt", "secret").send().await.ok(201);
    let signed = sign(&app, json!({"pathname": "a b#.txt", "expires_in_seconds": 60})).await;
    assert_eq!(signed["expiresAt"], "2026-02-06T12:01:00.000Z");
    let get = |method: Method| app.anonymous(method, &path_of(&signed)).send();
    let shown = get(Method::GET).await;
    assert_eq!((shown.status.as_u16(), &shown.body[..]), (200, &b"secret"[..]));
    assert_eq!(shown.header("access-control-allow-origin"), "*");
    assert_eq!(get(Method::HEAD).await.header("content-length"), "6");
    let part = app.anonymous(Method::GET, &path_of(&signed)).header("range", "bytes=1-2").send().await;
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &b"ec"[..]));
    let saved = sign(&app, json!({"pathname": "a b#.txt", "download": true})).await;
    let saved = app.anonymous(Method::GET, &path_of(&saved)).send().await;
    assert!(saved.header("content-disposition").starts_with("attachment;"));
    app.clock.advance_ms(60_000);
    assert_eq!(get(Method::GET).await.error(401), ("invalid_credential".to_owned(), Some("sig".to_owned())));
}

#[tokio::test]
async fn what_is_changed_in_it_is_refused() {
    let app = TestApp::new().await;
    for name in ["a", "b"] {
        upload(&app, &format!("pathname={name}"), name).send().await.ok(201);
    }
    let path = path_of(&sign(&app, json!({"pathname": "a"})).await);
    let (before, sig) = path.split_once("?sig=").expect("a signature");
    let mut changed = vec![
        path.replace("/a?", "/b?"),
        format!("{before}?sig="),
        format!("{before}?sig={}", &sig[1..]),
        format!("{before}?sig={}", "A".repeat(sig.len())),
        format!("{before}?sig={}", "A".repeat(5000)),
    ];
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for at in 0..sig.len() - 1 {
        let mut other = sig.as_bytes().to_vec();
        let place = alphabet.iter().position(|letter| *letter == other[at]).expect("base64");
        other[at] = alphabet[(place + 1) % 64];
        changed.push(format!("{before}?sig={}", String::from_utf8(other).expect("ASCII")));
    }
    for path in changed {
        let reply = app.anonymous(Method::GET, &path).send().await;
        assert_eq!(reply.code(401), "invalid_credential", "{path}");
    }
    assert_eq!(app.anonymous(Method::GET, &path).send().await.body, "a");
    let reply = app.anonymous(Method::PUT, &path).body("x").send().await;
    assert_eq!(reply.code(401), "invalid_credential", "it is for reading");
    assert_eq!(app.anonymous(Method::DELETE, &path).send().await.code(401), "missing_credential");
}

#[tokio::test]
async fn it_ends_with_the_key_that_made_it() {
    let app = TestApp::new().await;
    upload(&app, "pathname=a", "a").send().await.ok(201);
    let made =
        app.post("/v1/keys", json!({"name": "short", "scopes": ["storage:read"]})).send().await.ok(201);
    let key = made["key"].as_str().expect("a key");
    let signed = app.post("/v1/storage/sign", json!({"pathname": "a"})).key(key).send().await.ok(201);
    assert_eq!(app.anonymous(Method::GET, &path_of(&signed)).send().await.body, "a");
    let upload =
        app.post("/v1/storage/sign", json!({"pathname": "b", "method": "PUT"})).key(key).send().await;
    assert_eq!(upload.error(403), ("missing_scope".to_owned(), Some("storage:write".to_owned())));
    app.delete(&format!("/v1/keys/{}", made["id"])).send().await.ok(204);
    let ended = app.anonymous(Method::GET, &path_of(&signed)).send().await;
    assert_eq!(ended.code(401), "invalid_credential");
}

#[tokio::test]
async fn a_key_of_another_workspace_signs_nothing_of_ours() {
    let app = TestApp::new().await;
    let (_, key) = app.other_workspace().await;
    let blob = upload(&app, "pathname=a", "a").send().await.ok(201);
    let named = json!({"pathname": blob["pathname"]});
    assert_eq!(app.post("/v1/storage/sign", named).key(&key).send().await.code(404), "not_found");
    let theirs = app.post("/v1/storage/sign", json!({"pathname": "a"})).key(&key).send().await.ok(201);
    let path = path_of(&theirs);
    let (_, sig) = path.split_once("?sig=").expect("a signature");
    let ours = format!("/v1/storage/{}?sig={sig}", blob["pathname"].as_str().expect("a name"));
    assert_eq!(app.anonymous(Method::GET, &ours).send().await.code(401), "invalid_credential");
    assert_eq!(app.anonymous(Method::GET, &path).send().await.code(404), "not_found");
}

#[tokio::test]
async fn an_upload_is_held_to_what_was_signed() {
    let app = TestApp::new().await;
    let wanted = json!({"pathname": "in/a", "method": "PUT", "max_size": 100_000, "content_type": "image/*"});
    let signed = sign(&app, wanted).await;
    let png = |bytes: Vec<u8>| put(&app, &signed, bytes).header("content-type", "image/png");
    assert_eq!(put(&app, &signed, "x").send().await.code(415), "unsupported_media_type");
    let html = put(&app, &signed, "x").header("content-type", "text/html").send().await;
    assert_eq!(html.error(415), ("unsupported_media_type".to_owned(), Some("Content-Type".to_owned())));
    assert_eq!(png(vec![0; 100_001]).send().await.code(413), "payload_too_large");
    let told = png(Vec::new()).header("content-length", "100001").send().await;
    assert_eq!(told.code(413), "payload_too_large");
    assert_eq!(names(&app, "").await, Vec::<String>::new());
    let blob = png(vec![0; 100_000]).send().await.ok(201);
    assert_eq!((&blob["contentType"], &blob["access"]), (&json!("image/png"), &json!("private")));
    assert_eq!(read(&app, &blob).await.body.len(), 100_000);
    assert_eq!(png(vec![1]).send().await.code(409), "blob_exists");
    let reading = app.anonymous(Method::GET, &path_of(&signed)).send().await;
    assert_eq!(reading.code(401), "invalid_credential", "it is for uploading");
    let again = json!({"pathname": "in/a", "method": "PUT", "overwrite": true, "access": "public"});
    let again = sign(&app, again).await;
    for (name, value) in [("if-match", "\"other\""), ("if-none-match", "*")] {
        assert_eq!(put(&app, &again, "no").header(name, value).send().await.code(412), "precondition_failed");
    }
    let any = json!({"pathname": "any", "method": "PUT", "content_type": "application/*"});
    let any = put(&app, &sign(&app, any).await, "x")
        .header("content-type", "application/octet-stream")
        .send()
        .await;
    assert_eq!(any.ok(201)["contentType"], "application/octet-stream");
    let blob = put(&app, &again, "now").send().await.ok(201);
    assert_eq!((read(&app, &blob).await.body, &blob["access"]), ("now".into(), &json!("public")));
    let bare = format!("/v1/storage/{}", blob["pathname"].as_str().expect("a name"));
    assert_eq!(app.anonymous(Method::PUT, &bare).body("x").send().await.code(401), "missing_credential");
}

#[tokio::test]
async fn pages_of_other_origins_may_use_a_link_and_nothing_else() {
    let app = TestApp::new().await;
    let signed = sign(&app, json!({"pathname": "a", "method": "PUT"})).await;
    let asked = app
        .anonymous(Method::OPTIONS, &path_of(&signed))
        .header("origin", "https://app.example")
        .send()
        .await;
    assert_eq!((asked.status.as_u16(), asked.header("access-control-allow-origin")), (204, "*"));
    assert!(asked.header("access-control-allow-methods").contains("PUT"));
    assert!(!asked.header("access-control-allow-headers").contains("authorization"));
    let sent = put(&app, &signed, "x").header("origin", "https://app.example").send().await;
    assert_eq!((sent.status.as_u16(), sent.header("access-control-allow-origin")), (201, "*"));
    let refused = put(&app, &signed, "y").send().await;
    assert_eq!((refused.status.as_u16(), refused.header("access-control-allow-origin")), (409, "*"));
    let private = app.get(path_of(&signed).split('?').next().expect("a path")).send().await;
    assert!(private.headers.get("access-control-allow-origin").is_none());
    let list = app.anonymous(Method::OPTIONS, "/v1/storage/list").send().await;
    assert!(list.headers.get("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn mistakes_are_named_and_a_url_is_shown_once() {
    let app = TestApp::new().await;
    for (body, param) in [
        (json!({"pathname": "a/../b"}), "pathname"),
        (json!({"pathname": "folder/"}), "pathname"),
        (json!({"pathname": "a", "expires_in_seconds": 0}), "expires_in_seconds"),
        (json!({"pathname": "a", "expires_in_seconds": 604_801}), "expires_in_seconds"),
        (json!({"pathname": "a", "method": "DELETE"}), "method"),
        (json!({"pathname": "a", "max_size": 1}), "max_size"),
        (json!({"pathname": "a", "method": "PUT", "download": true}), "download"),
        (json!({"pathname": "a", "method": "PUT", "content_type": "a\nb/c"}), "content_type"),
        (json!({"pathname": "a", "method": "PUT", "content_type": "*/*"}), "content_type"),
    ] {
        let reply = app.post("/v1/storage/sign", body.clone()).send().await;
        assert!(matches!(reply.status.as_u16(), 400 | 422), "{body}: {reply:?}");
        assert_eq!(reply.json()["error"]["param"], param, "{body}");
    }
    let once =
        || app.post("/v1/storage/sign", json!({"pathname": "a"})).header("idempotency-key", "one").send();
    let first = once().await.ok(201);
    let id = first["id"].as_str().expect("an id").to_owned();
    assert_eq!(once().await.error(409), ("already_created".to_owned(), Some(id)));
}

#[tokio::test]
async fn with_a_key_an_object_is_put_to_its_url_in_place_of_what_is_there() {
    let app = TestApp::new().await;
    let path = format!("/v1/storage/{}/a.txt", app.workspace_id);
    let put = |bytes: &'static str| app.call(Method::PUT, &path).body(bytes);
    let first = put("one").header("if-none-match", "*").send().await.ok(201);
    assert_eq!(put("two").header("if-none-match", "*").send().await.code(412), "precondition_failed");
    let second = put("two").header("if-match", first["etag"].as_str().expect("etag")).send().await.ok(201);
    assert_eq!(
        put("three").header("if-match", first["etag"].as_str().expect("etag")).send().await.status,
        412
    );
    put("three").header("if-match", "*").send().await.ok(201);
    let absent = format!("/v1/storage/{}/absent", app.workspace_id);
    assert_eq!(app.call(Method::PUT, &absent).body("x").header("if-match", "*").send().await.status, 412);
    assert_eq!(put("x").header("if-match", "\"a\", \"b\"").send().await.status, 400);
    assert_eq!(put("x").header("if-none-match", "\"a\"").send().await.status, 400);
    assert_eq!(read(&app, &second).await.body, "three");
    let (other, _) = app.other_workspace().await;
    let theirs = app.call(Method::PUT, &format!("/v1/storage/{other}/a.txt")).body("x").send().await;
    assert_eq!(theirs.code(404), "not_found");
    let folder =
        app.call(Method::PUT, &format!("/v1/storage/{}/a/", app.workspace_id)).body("x").send().await;
    assert_eq!(folder.code(400), "invalid_request");
}
