//! `/v1/storage`: objects are uploaded, read in part or whole, listed and deleted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::Method;
use nh_server::ServerSettings;
use serde_json::{Value, json};

use crate::app::{Call, Reply, TestApp};

pub(crate) fn upload(app: &TestApp, query: &str, bytes: impl Into<axum::body::Body>) -> Call {
    app.call(Method::POST, &format!("/v1/storage/upload?{query}")).body(bytes)
}

pub(crate) fn path_of(blob: &Value) -> String {
    format!("/v1/storage/{}", blob["pathname"].as_str().expect("a pathname"))
}

pub(crate) async fn read(app: &TestApp, blob: &Value) -> Reply {
    app.get(&path_of(blob)).send().await
}

pub(crate) async fn names(app: &TestApp, query: &str) -> Vec<String> {
    let prefix = format!("{}/", app.workspace_id);
    let listed = app.get(&format!("/v1/storage/list?{query}")).send().await.ok(200);
    let short =
        |name: &Value| name.as_str().and_then(|name| name.strip_prefix(&prefix)).expect("ours").to_owned();
    let blobs = listed["blobs"].as_array().expect("blobs").iter().map(|blob| short(&blob["pathname"]));
    blobs.chain(listed["folders"].as_array().expect("folders").iter().map(short)).collect()
}

/// Files in the directory of objects, or objects in the bucket.
pub(crate) fn files(app: &TestApp) -> usize {
    if let Some(bucket) = &app.bucket {
        return bucket.objects();
    }
    let Ok(directories) = std::fs::read_dir(app.files.path().join("blobs")) else { return 0 };
    directories
        .map(|one| std::fs::read_dir(one.expect("an entry").path()).expect("a directory").count())
        .sum()
}

/// Until what a hub does in the background has left no file.
pub(crate) async fn swept(app: &TestApp) {
    swept_to(app, 0).await;
}

/// Waits until no more than so many files are left.
pub(crate) async fn swept_to(app: &TestApp, left: usize) {
    let keeping = nh_blobs::keep(app.hub.blobs.clone(), app.stopping.clone());
    let gone = async {
        while files(app) > left {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { () = keeping => panic!("it keeps until the hub stops"), () = gone => {} }
}

#[tokio::test]
async fn what_was_uploaded_is_read_back_whole() {
    let app = TestApp::new().await;
    for size in [0, 1, 65_536, 65_537, 1_000_000] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        let blob = upload(&app, &format!("pathname=data/{size}.bin"), bytes.clone()).send().await.ok(201);
        assert_eq!(blob["pathname"], format!("{}/data/{size}.bin", app.workspace_id));
        assert_eq!((&blob["size"], &blob["contentType"]), (&json!(size), &json!("application/octet-stream")));
        assert!(blob["url"].as_str().is_some_and(|url| url.ends_with(&path_of(&blob))), "{blob}");
        let whole = read(&app, &blob).await;
        assert_eq!((whole.status.as_u16(), &whole.body[..]), (200, &bytes[..]));
        assert_eq!(whole.header("etag"), blob["etag"].as_str().expect("an etag"));
        let head = app.call(Method::HEAD, &path_of(&blob)).send().await;
        assert_eq!((head.header("content-length"), head.body.len()), (size.to_string().as_str(), 0));
    }
    assert_eq!(files(&app), 2, "small ones are in the database");
}

#[tokio::test]
async fn parts_and_conditions_are_answered_as_http_says() {
    let app = TestApp::new().await;
    for size in [1000, 500_000] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| (at % 251) as u8).collect();
        let blob = upload(&app, &format!("pathname={size}"), bytes.clone()).send().await.ok(201);
        let get = |name: &'static str, value: &str| app.get(&path_of(&blob)).header(name, value).send();
        let part = get("range", "bytes=990-999").await;
        assert_eq!((part.status.as_u16(), &part.body[..]), (206, &bytes[990..1000]));
        assert_eq!(part.header("content-range"), format!("bytes 990-999/{size}"));
        let last = get("range", "bytes=-300").await;
        assert_eq!(last.body[..], bytes[bytes.len() - 300..]);
        let after = get("range", &format!("bytes={size}-")).await;
        assert_eq!(after.code(416), "range_not_satisfiable");
        let etag = blob["etag"].as_str().expect("an etag");
        let same = get("if-none-match", etag).await;
        assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));
        assert_eq!(get("if-none-match", "\"other\"").await.status, 200);
        assert_eq!(get("if-match", "\"other\"").await.code(412), "precondition_failed");
        let stale = app.get(&path_of(&blob)).header("range", "bytes=0-1").header("if-range", "\"other\"");
        assert_eq!(stale.send().await.status, 200);
    }
}

#[tokio::test]
async fn a_name_is_replaced_only_by_who_says_so() {
    let app = TestApp::new().await;
    let first = upload(&app, "pathname=a.txt", "one").send().await.ok(201);
    let refused = upload(&app, "pathname=a.txt", "two").send().await;
    assert_eq!(refused.error(409), ("blob_exists".to_owned(), Some("pathname".to_owned())));
    assert_eq!(read(&app, &first).await.body, "one");
    let large = vec![7; 200_000];
    upload(&app, "pathname=a.txt&overwrite=true", large.clone()).send().await.ok(201);
    assert_eq!(read(&app, &first).await.body, large);
    let stale =
        upload(&app, "pathname=a.txt", "three").header("if-match", first["etag"].as_str().expect("etag"));
    assert_eq!(stale.send().await.code(412), "precondition_failed");
    let now = read(&app, &first).await;
    let fresh = upload(&app, "pathname=a.txt", "three").header("if-match", now.header("etag"));
    fresh.send().await.ok(201);
    assert_eq!(read(&app, &first).await.body, "three");
}

#[tokio::test]
async fn what_is_deleted_is_gone_with_its_bytes() {
    let app = TestApp::new().await;
    let blob = upload(&app, "pathname=large", vec![1; 300_000]).send().await.ok(201);
    app.call(Method::DELETE, &path_of(&blob)).send().await.ok(204);
    assert_eq!(read(&app, &blob).await.code(404), "not_found");
    assert_eq!(app.call(Method::DELETE, &path_of(&blob)).send().await.code(404), "not_found");
    assert_eq!(names(&app, "").await, Vec::<String>::new());
    swept(&app).await;
}

#[tokio::test]
async fn two_workspaces_have_the_same_name_each_for_itself() {
    let app = TestApp::new().await;
    let (other, key) = app.other_workspace().await;
    let ours = upload(&app, "pathname=same.txt", "ours").send().await.ok(201);
    let theirs = upload(&app, "pathname=same.txt", "theirs").key(&key).send().await.ok(201);
    assert_eq!(read(&app, &ours).await.body, "ours");
    for method in [Method::GET, Method::HEAD, Method::DELETE] {
        assert_eq!(app.call(method, &path_of(&theirs)).send().await.status, 404);
    }
    let named = upload(&app, &format!("pathname={other}/same.txt&overwrite=true"), "stolen").send().await;
    assert_eq!(named.code(404), "not_found");
    let listed = app.get(&format!("/v1/storage/list?prefix={other}/")).send().await;
    assert_eq!(listed.code(404), "not_found");
    assert_eq!(names(&app, "").await, ["same.txt"]);
    assert_eq!(app.get(&path_of(&theirs)).key(&key).send().await.body, "theirs");
    assert_eq!(app.anonymous(Method::GET, &path_of(&ours)).send().await.code(401), "missing_credential");
}

#[tokio::test]
async fn a_public_object_is_everybodys_to_read_and_can_do_nothing() {
    let app = TestApp::new().await;
    let page = "<script>alert(1)</script>";
    let html = upload(&app, "pathname=page.html&access=public", page).send().await.ok(201);
    let shown = app.anonymous(Method::GET, &path_of(&html)).send().await;
    assert_eq!((shown.status.as_u16(), &shown.body[..]), (200, page.as_bytes()));
    assert!(shown.header("content-security-policy").starts_with("sandbox;"));
    assert_eq!(shown.header("x-content-type-options"), "nosniff");
    assert!(shown.header("content-disposition").starts_with("attachment;"), "{shown:?}");
    assert_eq!(app.anonymous(Method::DELETE, &path_of(&html)).send().await.code(401), "missing_credential");
    let image = upload(&app, "pathname=a%20%22b%22%C3%A4.png&access=public", "x").send().await.ok(201);
    let url = image["url"].as_str().and_then(|url| url.find("/v1/").map(|at| &url[at..])).expect("a path");
    let shown = app.anonymous(Method::GET, url).send().await;
    assert_eq!(shown.header("content-disposition"), "inline; filename*=UTF-8''a%20%22b%22%C3%A4.png");
    assert_eq!(shown.header("content-type"), "image/png");
    let svg = upload(&app, "pathname=a.svg&access=public", "<svg/>").send().await.ok(201);
    assert!(read(&app, &svg).await.header("content-disposition").starts_with("attachment;"));
}

#[tokio::test]
async fn names_that_lead_elsewhere_are_refused_on_every_door() {
    let app = TestApp::new().await;
    for name in [
        "",
        "..",
        "a/../b",
        "%2Fetc/passwd",
        "a//b",
        "a%00b",
        "a%0D%0Ab",
        "%252e%252e/a",
        "a%5Cb",
        "a/",
        "%EF%BF%BF",
    ] {
        let refused = upload(&app, &format!("pathname={name}"), "x").send().await;
        assert!(matches!(refused.status.as_u16(), 400 | 422), "{name}: {refused:?}");
        assert_eq!(refused.json()["error"]["param"], "pathname", "{name}");
    }
    for path in ["../x", "..%2Fx", "a/..%2F..%2Fx", "%2e%2e/x", "a%00", "%ff"] {
        let path = format!("/v1/storage/{}/{path}", app.workspace_id);
        for method in [Method::GET, Method::DELETE] {
            let reply = app.call(method, &path).send().await;
            assert!(matches!(reply.status.as_u16(), 400 | 404), "{path}: {reply:?}");
        }
    }
    for query in
        ["pathname=a&filename=b", "pathname=a&overwrite=yes", "pathname=a&access=all", "pathname=a&b=c"]
    {
        assert!(matches!(upload(&app, query, "x").send().await.status.as_u16(), 400 | 422), "{query}");
    }
    assert_eq!(names(&app, "").await, Vec::<String>::new());
}

#[tokio::test]
async fn bounds_of_an_object_and_of_a_workspace_are_kept() {
    let app = TestApp::new().await;
    let over = upload(&app, "pathname=a", vec![0; 2_000_001]).send().await;
    assert_eq!(over.code(413), "payload_too_large");
    for number in 0..5 {
        upload(&app, &format!("pathname={number}"), vec![number; 2_000_000]).send().await.ok(201);
    }
    let full = upload(&app, "pathname=5", "x").send().await;
    assert_eq!(full.code(413), "quota_exceeded");
    let told = full.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(told.contains("10000000 of the 10000000 bytes"), "{told}");
    let usage = app.get("/v1/storage/usage").send().await.ok(200);
    assert_eq!(usage, json!({"blobs": 5, "size": 10_000_000, "uploading": 0, "quota": 10_000_000}));
    upload(&app, "pathname=4&overwrite=true", "less").send().await.ok(201);
    upload(&app, "pathname=5", "x").send().await.ok(201);
    let (_, key) = app.other_workspace().await;
    upload(&app, "pathname=theirs", "x").key(&key).send().await.ok(201);
}

#[tokio::test]
async fn what_expired_is_not_there() {
    let app = TestApp::new().await;
    let blob = upload(&app, "pathname=a&expires_at=2026-02-06T12:00:10Z", "x").send().await.ok(201);
    assert_eq!(read(&app, &blob).await.status, 200);
    app.clock.advance_ms(10_000);
    assert_eq!(read(&app, &blob).await.code(404), "not_found");
    assert_eq!(names(&app, "").await, Vec::<String>::new());
    upload(&app, "pathname=a", "y").send().await.ok(201);
}

#[tokio::test]
async fn an_upload_with_a_key_of_its_own_is_one() {
    let app = TestApp::new().await;
    let send = |bytes: &'static str| upload(&app, "", bytes).header("idempotency-key", "once").send();
    let first = send("one").await.ok(201);
    assert_eq!(send("one").await.ok(201), first);
    assert_eq!(send("two").await.code(409), "idempotency_mismatch");
    assert_eq!(names(&app, "").await.len(), 1);
}

#[tokio::test]
async fn copies_and_renamed_objects_share_bytes_until_the_last_goes() {
    let app = TestApp::new().await;
    let bytes = vec![3; 200_000];
    let first = upload(&app, "pathname=a/one", bytes.clone()).send().await.ok(201);
    let moved = |operation: &str, body: Value| app.post(&format!("/v1/storage/{operation}"), body).send();
    let copy = moved("copy", json!({"from": "a/one", "to": "a/two", "access": "public"})).await.ok(201);
    assert_eq!((&copy["etag"], &copy["access"]), (&first["etag"], &json!("public")));
    let taken = moved("copy", json!({"from": "a/one", "to": "a/two"})).await;
    assert_eq!(taken.code(409), "blob_exists");
    assert_eq!(moved("rename", json!({"from": "nothing", "to": "b"})).await.code(404), "not_found");
    moved("rename", json!({"from": first["pathname"], "to": "b/three"})).await.ok(200);
    assert_eq!(names(&app, "").await, ["a/two", "b/three"]);
    // Onto itself, and onto one that has the same bytes.
    moved("rename", json!({"from": "b/three", "to": "b/three", "overwrite": true})).await.ok(200);
    moved("copy", json!({"from": "a/two", "to": "b/three", "overwrite": true})).await.ok(201);
    moved("rename", json!({"from": "b/three", "to": "a/two", "overwrite": true})).await.ok(200);
    assert_eq!((names(&app, "").await, files(&app)), (vec!["a/two".to_owned()], 1));
    assert_eq!(read(&app, &copy).await.body, bytes);
    let usage = app.get("/v1/storage/usage").send().await.ok(200);
    assert_eq!((&usage["blobs"], &usage["size"]), (&json!(1), &json!(200_000)));
    app.call(Method::DELETE, &path_of(&copy)).send().await.ok(204);
    swept(&app).await;
}

fn form(app: &TestApp, query: &str, parts: &[(&str, &str)]) -> Call {
    let mut body = String::new();
    for (head, content) in parts {
        body += &format!("--limit\r\n{head}\r\n\r\n{content}\r\n");
    }
    upload(app, query, body + "--limit--\r\n").header("content-type", "multipart/form-data; boundary=limit")
}

#[tokio::test]
async fn a_form_brings_one_file() {
    let app = TestApp::new().await;
    let file = "Content-Disposition: form-data; name=\"file\"; filename=\"C:\\folder\\photo.png\"\r\nContent-Type: image/png";
    let blob = form(&app, "", &[(file, "not really")]).send().await.ok(201);
    assert_eq!(blob["pathname"], format!("{}/photo.png", app.workspace_id));
    assert_eq!((&blob["contentType"], &blob["size"]), (&json!("image/png"), &json!(10)));
    let named = form(&app, "pathname=b.txt", &[(file, "x")]).send().await.ok(201);
    assert_eq!(named["pathname"], format!("{}/b.txt", app.workspace_id));
    let evil = "Content-Disposition: form-data; name=\"file\"; filename=\"a%0d%0ab\"";
    assert_eq!(form(&app, "", &[(evil, "x")]).send().await.code(422), "invalid_value");
    let unsaid = file.replace("image/png", "application/octet-stream").replace("photo.png", "table.csv");
    let guessed = form(&app, "", &[(&unsaid, "1,2")]).send().await.ok(201);
    assert_eq!(guessed["contentType"], "text/csv; charset=utf-8");
    let large = "x".repeat(1_900_000);
    let blob = form(&app, "pathname=large.txt", &[(file, &large)]).send().await.ok(201);
    assert!(read(&app, &blob).await.body == large);
    let field = "Content-Disposition: form-data; name=\"pathname\"";
    let refused = form(&app, "pathname=c", &[(field, "c")]).send().await;
    assert_eq!(refused.error(400), ("invalid_request".to_owned(), Some("pathname".to_owned())));
    for parts in [&[][..], &[(file, "x"), (file, "y")], &[(file, "x"), (field, "y")]] {
        assert_eq!(form(&app, "pathname=d", parts).send().await.code(400), "invalid_request");
    }
    let cut = upload(
        &app,
        "pathname=e",
        "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nx",
    )
    .header("content-type", "multipart/form-data; boundary=limit");
    assert_eq!(cut.send().await.code(400), "invalid_request");
    let no_boundary =
        upload(&app, "pathname=f", "x").header("content-type", "multipart/form-data").send().await;
    assert_eq!(no_boundary.error(400), ("invalid_request".to_owned(), Some("Content-Type".to_owned())));
    assert_eq!(names(&app, "").await, ["b.txt", "large.txt", "photo.png", "table.csv"]);
}

#[tokio::test]
async fn a_form_that_brings_no_file_is_ended() {
    let app = TestApp::new().await;
    let head = "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\nX-Long: ";
    for begin in ["", head] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let endless = stream::iter([begin.to_owned()])
            .chain(stream::repeat_with(move || {
                counted.fetch_add(100_000, Ordering::Relaxed);
                "x".repeat(100_000)
            }))
            .map(Ok::<_, std::io::Error>);
        let endless = upload(&app, "pathname=a", axum::body::Body::from_stream(endless))
            .header("content-type", "multipart/form-data; boundary=limit");
        assert_eq!(endless.send().await.code(400), "invalid_request");
        assert!(sent.load(Ordering::Relaxed) < 1_000_000, "{sent:?}");
    }
}

#[tokio::test]
async fn what_is_only_a_part_of_an_object_takes_the_place_of_none() {
    let app = TestApp::new().await;
    upload(&app, "pathname=a", "0123456789").send().await.ok(201);
    let begun = app.post("/v1/storage/uploads", json!({"pathname": "b"})).send().await.ok(201);
    let doors = [
        (Method::POST, "/v1/storage/upload?pathname=a&overwrite=true".to_owned()),
        (Method::PUT, format!("/v1/storage/{}/a", app.workspace_id)),
        (Method::PUT, "/v1/storage/vercel?pathname=a".to_owned()),
        (Method::PUT, format!("/v1/storage/uploads/{}/parts/1", begun["id"].as_str().expect("an id"))),
    ];
    for (method, path) in doors {
        let call = |name, value| app.call(method.clone(), &path).body("6789").header(name, value).send();
        let part = call("content-range", "bytes 6-9/10").await;
        assert_eq!(
            (part.status.as_u16(), &part.json()["error"]["param"]),
            (400, &json!("Content-Range")),
            "{path}"
        );
        assert_eq!(call("content-encoding", "gzip").await.status, 415, "{path}");
    }
    let still = app.get(&format!("/v1/storage/{}/a", app.workspace_id)).send().await;
    assert_eq!(still.body, "0123456789");
}

#[tokio::test]
async fn what_is_refused_or_comes_again_leaves_no_file() {
    let app = TestApp::new().await;
    if app.bucket.is_some() {
        return;
    }
    let large = || vec![7; 1_900_000];
    let chunked =
        || axum::body::Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from(large()))]));
    for number in 0..5 {
        let once = || {
            upload(&app, &format!("pathname={number}"), chunked())
                .header("idempotency-key", &number.to_string())
        };
        let first = once().send().await.ok(201);
        assert_eq!(once().send().await.ok(201), first);
    }
    let taken = upload(&app, "pathname=0", chunked()).header("idempotency-key", "taken").send().await;
    assert!(matches!(taken.status.as_u16(), 409 | 413), "{taken:?}");
    assert_eq!(upload(&app, "pathname=more", chunked()).send().await.code(413), "quota_exceeded");
    let begun = app.post("/v1/storage/uploads", json!({"pathname": "b"})).send().await.ok(201);
    let path = format!("/v1/storage/uploads/{}/parts/1", begun["id"].as_str().expect("an id"));
    let part = app.call(Method::PUT, &path).body(chunked()).send().await;
    assert_eq!(part.code(413), "quota_exceeded");
    let signed = app.post("/v1/storage/sign", json!({"pathname": "c", "method": "PUT"})).send().await.ok(201);
    let url = signed["url"].as_str().expect("a url");
    let strange =
        app.anonymous(Method::PUT, &url[url.find("/v1/").expect("a path")..]).body(chunked()).send().await;
    assert_eq!(strange.code(413), "quota_exceeded");
    assert!(!strange.json()["error"]["message"].as_str().expect("words").contains("10000000"), "{strange:?}");
    assert_eq!(files(&app), 5, "before any sweep");
}

#[tokio::test]
async fn what_cannot_be_put_is_refused_before_its_bytes_come() {
    let app = TestApp::new().await;
    upload(&app, "pathname=there", "x").send().await.ok(201);
    for number in 0..4 {
        upload(&app, &format!("pathname={number}"), vec![0; 2_000_000]).send().await.ok(201);
    }
    let never =
        || axum::body::Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
    assert_eq!(upload(&app, "pathname=there", never()).send().await.code(409), "blob_exists");
    let stale = upload(&app, "pathname=there", never()).header("if-match", "\"other\"").send().await;
    assert_eq!(stale.code(412), "precondition_failed");
    let full = upload(&app, "pathname=new", never()).header("content-length", "1999999").send();
    upload(&app, "pathname=4", vec![0; 1_000]).send().await.ok(201);
    assert_eq!(full.await.code(413), "quota_exceeded");
}

#[tokio::test]
async fn nothing_that_is_uploaded_gets_into_the_lines_of_an_answer() {
    let app = TestApp::new().await;
    for (name, shown) in [
        ("a%22b", "a%22b"),
        ("a%3B%20filename=evil.exe", "a%3B%20filename%3Devil.exe"),
        ("a%2C%20inline", "a%2C%20inline"),
        ("%E2%80%A6", "%E2%80%A6"),
        ("a'b%27c", "a%27b%27c"),
        ("50%25", "50%25"),
    ] {
        let query = format!("pathname={name}&access=public");
        let blob = upload(&app, &query, "x").send().await.ok(201);
        let url = blob["url"].as_str().expect("a url").to_owned();
        assert!(url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'), "{url}");
        let read = app.anonymous(Method::GET, &url[url.find("/v1/").expect("a path")..]).send().await;
        assert_eq!(
            read.header("content-disposition"),
            format!("attachment; filename*=UTF-8''{shown}"),
            "{name}"
        );
    }
    for bad in [
        "html",
        "text/",
        "/html",
        "text/ht ml",
        "text/html\u{e9}",
        "a/b\tc",
        "text\\html",
        &format!("a/{}", "b".repeat(254)),
    ] {
        let refused = upload(&app, "pathname=type", "x").header("content-type", bad).send().await;
        assert_eq!(
            refused.error(422),
            ("invalid_value".to_owned(), Some("Content-Type".to_owned())),
            "{bad}"
        );
    }
    for (good, shown) in [
        ("text/html; charset=\"utf-8\"", "attachment"),
        ("application/vnd.api+json", "attachment"),
        ("IMAGE/PNG", "inline"),
        ("image/svg+xml; charset=utf-8", "attachment"),
        ("image/x+xml", "attachment"),
        ("text/plain;text/html", ""),
        ("text/plain, text/html", ""),
        ("text/plain;a=b, text/html", ""),
        ("image/png;,image/svg+xml", ""),
        ("image/*", ""),
    ] {
        let reply =
            upload(&app, "pathname=type&overwrite=true", "x").header("content-type", good).send().await;
        if shown.is_empty() {
            assert_eq!(reply.code(422), "invalid_value", "{good}");
            continue;
        }
        let read = read(&app, &reply.ok(201)).await;
        assert_eq!(read.header("content-type"), good);
        assert!(read.header("content-disposition").starts_with(shown), "{good}: {read:?}");
        assert_eq!(read.header("x-content-type-options"), "nosniff");
    }
}

#[tokio::test]
async fn an_upload_that_stops_coming_is_given_up_and_leaves_nothing() {
    let settings = ServerSettings { body_timeout_ms: 100, ..Default::default() };
    let app = TestApp::with(settings, Vec::new()).await;
    let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![1; 300_000]))]);
    let stops = axum::body::Body::from_stream(first.chain(stream::pending()));
    assert_eq!(upload(&app, "pathname=slow", stops).send().await.code(408), "request_timeout");
    let breaks = stream::iter([Ok(Bytes::from(vec![1; 300_000])), Err(std::io::Error::other("gone"))]);
    let breaks = upload(&app, "pathname=broken", axum::body::Body::from_stream(breaks)).send().await;
    assert_eq!(breaks.code(400), "invalid_request");
    assert_eq!(names(&app, "").await, Vec::<String>::new());
    swept(&app).await;
}
