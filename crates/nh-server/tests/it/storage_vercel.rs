//! `/v1/storage/vercel`: what the tests of the real client (`tests/clients/node`) do
//! not reach: its errors' codes, slashes, and two workspaces.

use http::Method;
use serde_json::{Value, json};

use crate::app::{Call, TestApp};
use crate::storage::{names, read, upload};

fn put(app: &TestApp, query: &str, bytes: impl Into<axum::body::Body>) -> Call {
    app.call(Method::PUT, &format!("/v1/storage/vercel/?{query}"))
        .body(bytes)
        .header("x-vercel-blob-access", "private")
}

#[tokio::test]
async fn every_error_has_a_code_that_the_client_knows() {
    let app = TestApp::new().await;
    let reader = app.key_with("storage:read").await;
    put(&app, "pathname=a", "x").send().await.ok(200);
    let stale = put(&app, "pathname=a", "y").header("x-if-match", "\"other\"");
    let calls = [
        (put(&app, "pathname=a", "y"), 400, "bad_request"),
        (put(&app, "pathname=", "y"), 422, "bad_request"),
        (put(&app, "pathname=a%2F..%2Fb", "y"), 422, "bad_request"),
        (put(&app, "", "y"), 400, "bad_request"),
        (put(&app, "pathname=b%2F", "y"), 400, "bad_request"),
        (put(&app, "pathname=b", "y").header("x-allow-overwrite", "yes"), 400, "bad_request"),
        (put(&app, "pathname=b", vec![0; 2_000_001]), 413, "file_too_large"),
        (stale, 412, "precondition_failed"),
        (put(&app, "pathname=b", "y").key(&reader), 403, "forbidden"),
        (app.anonymous(Method::GET, "/v1/storage/vercel"), 401, "forbidden"),
        (app.get("/v1/storage/vercel?url=nothing"), 404, "not_found"),
        (app.get("/v1/storage/vercel?url=https%3A%2F%2Fexample.com%2Fa"), 404, "not_found"),
        (app.get("/v1/storage/vercel?limit=5000"), 422, "bad_request"),
        (app.delete("/v1/storage/vercel"), 405, "bad_request"),
        (app.post("/v1/storage/vercel/signed-token", json!({})), 400, "bad_request"),
        (app.post("/v1/storage/vercel/delete", json!({"urls": "a"})), 400, "bad_request"),
        (app.post("/v1/storage/vercel/delete", json!({"urls": vec!["a"; 1001]})), 400, "bad_request"),
        (app.call(Method::POST, "/v1/storage/vercel/mpu?pathname=b"), 400, "bad_request"),
    ];
    for (number, (call, status, code)) in calls.into_iter().enumerate() {
        let reply = call.send().await;
        assert_eq!(reply.code(status), code, "call {number}: {reply:?}");
    }
    assert_eq!(names(&app, "").await, ["a"]);
}

#[tokio::test]
async fn slashes_at_the_end_of_the_base_url_change_nothing() {
    let app = TestApp::new().await;
    for (number, base) in
        ["/v1/storage/vercel", "/v1/storage/vercel/", "/v1/storage/vercel//"].iter().enumerate()
    {
        let path = format!("{base}?pathname={number}");
        app.call(Method::PUT, &path).body("x").send().await.ok(200);
        assert_eq!(app.get(&format!("{base}?url={number}")).send().await.ok(200)["size"], 1);
    }
    for path in ["/v1/storage/vercel/delete", "/v1/storage/vercel//delete"] {
        let gone = app.post(path, json!({"urls": ["0", "1"]})).send().await;
        assert_eq!((gone.status.as_u16(), gone.json()), (200, Value::Null));
    }
    assert_eq!(names(&app, "").await, ["2"]);
}

#[tokio::test]
async fn another_workspaces_objects_are_not_there() {
    let app = TestApp::new().await;
    let (other, key) = app.other_workspace().await;
    let theirs = upload(&app, "pathname=same&access=public", "theirs").key(&key).send().await.ok(201);
    put(&app, "pathname=same", "ours").send().await.ok(200);
    let url = theirs["url"].as_str().expect("a url");
    let url: String = url::form_urlencoded::byte_serialize(url.as_bytes()).collect();
    for call in [
        app.get(&format!("/v1/storage/vercel?url={url}")),
        app.get(&format!("/v1/storage/vercel?url={other}/same")),
        app.call(Method::PUT, &format!("/v1/storage/vercel?pathname=copy&fromUrl={url}")),
        app.call(Method::POST, &format!("/v1/storage/vercel/rename?pathname=copy&fromUrl={url}")),
        put(&app, &format!("pathname={other}/same"), "stolen").header("x-allow-overwrite", "1"),
    ] {
        assert_eq!(call.send().await.code(404), "not_found");
    }
    app.post("/v1/storage/vercel/delete", json!({"urls": [theirs["url"]]})).send().await.ok(200);
    let still = app.call(Method::GET, &format!("/v1/storage/{other}/same")).key(&key).send().await;
    assert_eq!(still.body, "theirs");
    assert_eq!(names(&app, "").await, ["same"]);
}

#[tokio::test]
async fn what_the_client_puts_is_the_workspaces_own() {
    let app = TestApp::new().await;
    let blob =
        put(&app, "pathname=dir%2Fa.txt", "x").header("content-type", "image/png").send().await.ok(200);
    assert_eq!(blob["contentType"], "text/plain; charset=utf-8", "by its extension");
    assert_eq!(blob["pathname"], format!("{}/dir/a.txt", app.workspace_id));
    assert_eq!(read(&app, &blob).await.body, "x");
    let named =
        put(&app, "pathname=dir%2Fa.txt", "y").header("x-add-random-suffix", "1").send().await.ok(200);
    let name = named["pathname"].as_str().expect("a name");
    assert!(name.contains("/dir/a-") && name.ends_with(".txt") && name.len() > 50, "{name}");
}
