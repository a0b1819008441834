//! `/v1/storage/uploads`: objects that come in parts.

use futures_util::StreamExt;
use http::Method;
use nh_store::StoreError;
use nh_store::blobs::{BlobRecord, Complete};
use nh_types::Clock as _;
use serde_json::{Value, json};

use crate::app::{Call, Reply, TestApp};
use crate::storage::{files, names, path_of, read, swept, swept_to, upload};

async fn begin(app: &TestApp, body: Value) -> String {
    let upload = app.post("/v1/storage/uploads", body).send().await.ok(201);
    upload["id"].as_str().expect("an id").to_owned()
}

fn part(app: &TestApp, id: &str, number: u32, bytes: impl Into<axum::body::Body>) -> Call {
    app.call(Method::PUT, &format!("/v1/storage/uploads/{id}/parts/{number}")).body(bytes)
}

async fn complete(app: &TestApp, id: &str, body: Value) -> Reply {
    app.post(&format!("/v1/storage/uploads/{id}/complete"), body).send().await
}

async fn used(app: &TestApp) -> (Value, Value) {
    let usage = app.get("/v1/storage/usage").send().await.ok(200);
    (usage["size"].clone(), usage["uploading"].clone())
}

fn bytes(size: u32) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

#[tokio::test]
async fn parts_make_the_object_that_one_upload_would_have_made() {
    let app = TestApp::new().await;
    let whole = bytes(700_000);
    let at_once = upload(&app, "pathname=once.png", whole.clone()).send().await.ok(201);
    let id = begin(&app, json!({"pathname": "parts.png", "access": "public"})).await;
    for (number, range) in [(3, 600_000..700_000), (1, 0..1), (7, 700_000..700_000), (2, 1..600_000)] {
        let sent = part(&app, &id, number, whole[range.clone()].to_vec()).send().await.ok(200);
        assert_eq!((&sent["partNumber"], &sent["size"]), (&json!(number), &json!(range.len())));
    }
    assert_eq!(names(&app, "").await, ["once.png"], "it is not there before it is complete");
    assert_eq!(used(&app).await, (json!(700_000), json!(700_000)));
    let told = app.get(&format!("/v1/storage/uploads/{id}")).send().await.ok(200);
    let numbers: Vec<_> =
        told["parts"].as_array().expect("parts").iter().map(|part| &part["partNumber"]).collect();
    assert_eq!(numbers, [1, 2, 3, 7]);
    let blob = complete(&app, &id, json!({})).await.ok(201);
    assert_eq!((&blob["etag"], &blob["contentType"]), (&at_once["etag"], &json!("image/png")));
    assert_eq!((&blob["access"], &blob["size"]), (&json!("public"), &json!(700_000)));
    assert_eq!(read(&app, &blob).await.body, whole);
    let path = format!("/v1/storage/{}", blob["pathname"].as_str().expect("a name"));
    let border = app.get(&path).header("range", "bytes=599999-600000").send().await;
    assert_eq!(border.body[..], whole[599_999..=600_000]);
    assert_eq!(used(&app).await, (json!(1_400_000), json!(0)));
    // Who did not hear the answer asks again.
    assert_eq!(complete(&app, &id, json!({})).await.ok(201), blob);
    assert_eq!(part(&app, &id, 4, "more").send().await.code(404), "not_found");
    let told = app.get(&format!("/v1/storage/uploads/{id}")).send().await.ok(200);
    assert_eq!(told["completed"]["etag"], blob["etag"]);
}

#[tokio::test]
async fn a_part_that_comes_again_takes_the_place_of_the_first() {
    let app = TestApp::new().await;
    let id = begin(&app, json!({"pathname": "a.txt"})).await;
    let first = part(&app, &id, 1, "first").send().await.ok(200);
    let second = part(&app, &id, 1, "second").send().await.ok(200);
    part(&app, &id, 2, "left out").send().await.ok(200);
    let named = |etag: &Value| json!({"parts": [{"part_number": 1, "etag": etag}]});
    let other = complete(&app, &id, named(&first["etag"])).await;
    assert_eq!(other.error(422), ("invalid_value".to_owned(), Some("parts".to_owned())));
    let absent = complete(&app, &id, json!({"parts": [{"part_number": 3, "etag": second["etag"]}]})).await;
    assert_eq!(absent.code(422), "invalid_value");
    let blob = complete(&app, &id, named(&second["etag"])).await.ok(201);
    assert_eq!(read(&app, &blob).await.body, "second");
    app.call(Method::DELETE, &format!("/v1/storage/{}", blob["pathname"].as_str().expect("a name")))
        .send()
        .await
        .ok(204);
    swept(&app).await;
}

#[tokio::test]
async fn an_upload_may_be_empty_and_its_type_is_seen_in_its_bytes() {
    let app = TestApp::new().await;
    let id = begin(&app, json!({"pathname": "empty"})).await;
    let blob = complete(&app, &id, json!({"parts": []})).await.ok(201);
    assert_eq!(
        (read(&app, &blob).await.body.len(), &blob["contentType"]),
        (0, &json!("application/octet-stream"))
    );
    let id = begin(&app, json!({"pathname": "picture"})).await;
    part(&app, &id, 2, "\r\n\u{1a}\nrest").send().await.ok(200);
    part(&app, &id, 1, &b"\x89PNG"[..]).send().await.ok(200);
    let blob = complete(&app, &id, json!({})).await.ok(201);
    assert_eq!(blob["contentType"], "image/png");
    let path = format!("/v1/storage/uploads/{id}/complete");
    assert_eq!(app.call(Method::POST, &path).send().await.ok(201), blob, "no body is an empty one");
}

#[tokio::test]
async fn the_name_is_looked_at_when_it_begins_and_when_it_ends() {
    let app = TestApp::new().await;
    upload(&app, "pathname=taken", "x").send().await.ok(201);
    let taken = app.post("/v1/storage/uploads", json!({"pathname": "taken"})).send().await;
    assert_eq!(taken.code(409), "blob_exists");
    let id = begin(&app, json!({"pathname": "free"})).await;
    part(&app, &id, 1, "late").send().await.ok(200);
    upload(&app, "pathname=free", "early").send().await.ok(201);
    assert_eq!(complete(&app, &id, json!({})).await.code(409), "blob_exists");
    let first = begin(&app, json!({"pathname": "free", "overwrite": true})).await;
    part(&app, &first, 1, "late").send().await.ok(200);
    let blob = complete(&app, &first, json!({})).await.ok(201);
    assert_eq!(read(&app, &blob).await.body, "late");
    let call = || app.post("/v1/storage/uploads", json!({"pathname": "free"}));
    assert_eq!(call().header("if-match", "\"other\"").send().await.code(412), "precondition_failed");
    let etag = blob["etag"].as_str().expect("an etag");
    let second = call().header("if-match", etag).send().await.ok(201);
    upload(&app, "pathname=free&overwrite=true", "meanwhile").send().await.ok(201);
    let id = second["id"].as_str().expect("an id");
    assert_eq!(complete(&app, id, json!({})).await.code(412), "precondition_failed");
    assert_eq!(read(&app, &blob).await.body, "meanwhile");
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let app = TestApp::new().await;
    let id = begin(&app, json!({"pathname": "a"})).await;
    part(&app, &id, 1, bytes(100_000)).send().await.ok(200);
    part(&app, &id, 2, "little").send().await.ok(200);
    assert_eq!(files(&app), 2);
    app.delete(&format!("/v1/storage/uploads/{id}")).send().await.ok(204);
    for reply in [
        app.delete(&format!("/v1/storage/uploads/{id}")).send().await,
        app.get(&format!("/v1/storage/uploads/{id}")).send().await,
        part(&app, &id, 3, "x").send().await,
        complete(&app, &id, json!({})).await,
    ] {
        assert_eq!(reply.code(404), "not_found");
    }
    assert_eq!(used(&app).await, (json!(0), json!(0)));
    swept(&app).await;
    // One that nothing comes for gives itself up.
    let id = begin(&app, json!({"pathname": "b"})).await;
    part(&app, &id, 1, "x").send().await.ok(200);
    app.clock.advance_ms(23 * 60 * 60 * 1000);
    part(&app, &id, 2, "y").send().await.ok(200);
    app.clock.advance_ms(23 * 60 * 60 * 1000);
    app.get(&format!("/v1/storage/uploads/{id}")).send().await.ok(200);
    app.clock.advance_ms(2 * 60 * 60 * 1000);
    assert_eq!(app.get(&format!("/v1/storage/uploads/{id}")).send().await.code(404), "not_found");
    swept(&app).await;
    assert_eq!(used(&app).await, (json!(0), json!(0)));
}

#[tokio::test]
async fn who_reads_what_is_deleted_comes_to_its_end() {
    let app = TestApp::new().await;
    let id = begin(&app, json!({"pathname": "a"})).await;
    let (first, second) = (bytes(100_000), bytes(70_000));
    part(&app, &id, 1, first.clone()).send().await.ok(200);
    part(&app, &id, 2, second.clone()).send().await.ok(200);
    let blob = complete(&app, &id, json!({})).await.ok(201);
    let other = upload(&app, "pathname=b", bytes(100_000)).send().await.ok(201);
    let pathname = "a".parse().expect("a name");
    let open = app.hub.blobs.open(&app.workspace_id, &pathname).await.expect("opened").expect("there");
    let mut reading = open.read(0..170_000).await.expect("read");
    let mut read = reading.next().await.expect("bytes").expect("the first").to_vec();
    for blob in [&blob, &other] {
        app.delete(&path_of(blob)).send().await.ok(204);
    }
    swept_to(&app, 2).await;
    while let Some(more) = reading.next().await {
        read.extend_from_slice(&more.expect("bytes of what was deleted"));
    }
    assert_eq!(read, [first, second].concat());
    drop(reading);
    app.clock.advance_ms(60 * 60_000 + 1);
    swept(&app).await;
}

#[tokio::test]
async fn unfinished_uploads_are_listed_and_count_in_the_quota() {
    let app = TestApp::new().await;
    let mut ids = Vec::new();
    for name in ["b", "a/2", "a/1", "a/1"] {
        ids.push(begin(&app, json!({"pathname": name})).await);
    }
    complete(&app, &ids[0], json!({})).await.ok(201);
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("/v1/storage/uploads?limit=1{cursor}")).send().await.ok(200);
        all.extend(page["uploads"].as_array().expect("a list").clone());
        let Some(next) = page["cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let short: Vec<_> =
        all.iter().map(|one| one["pathname"].as_str().expect("a name")[24..].to_owned()).collect();
    assert_eq!(short, ["a/1", "a/1", "a/2"]);
    let under = app.get("/v1/storage/uploads?prefix=a/2").send().await.ok(200);
    assert_eq!(under["uploads"].as_array().map(Vec::len), Some(1));
    let (mut number, id) = (0, &ids[1]);
    let over = loop {
        number += 1;
        let reply = part(&app, id, number, vec![0; 900_000]).send().await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!(
        (number, over.code(413)),
        (3, "payload_too_large".to_owned()),
        "an object has 2,000,000 at most"
    );
    for id in &ids[2..] {
        for number in [1, 2] {
            part(&app, id, number, vec![0; 1_000_000]).send().await.ok(200);
        }
    }
    for number in 0..4 {
        let size = 1_050_000;
        upload(&app, &format!("pathname=whole{number}"), vec![0; size]).send().await.ok(201);
    }
    assert_eq!(upload(&app, "pathname=over", "x".repeat(200_000)).send().await.code(413), "quota_exceeded");
    assert_eq!(part(&app, id, 3, "x".repeat(200_000)).send().await.code(413), "quota_exceeded");
    complete(&app, &ids[2], json!({})).await.ok(201);
    assert_eq!(used(&app).await, (json!(6_200_000), json!(3_800_000)));
}

#[tokio::test]
async fn another_workspace_finds_no_upload_of_ours() {
    let app = TestApp::new().await;
    let (_, key) = app.other_workspace().await;
    let id = begin(&app, json!({"pathname": "a"})).await;
    let path = format!("/v1/storage/uploads/{id}");
    for reply in [
        app.get(&path).key(&key).send().await,
        app.delete(&path).key(&key).send().await,
        part(&app, &id, 1, "x").key(&key).send().await,
        app.post(&format!("{path}/complete"), json!({})).key(&key).send().await,
    ] {
        assert_eq!(reply.code(404), "not_found");
    }
    let listed = app.get("/v1/storage/uploads").key(&key).send().await.ok(200);
    assert_eq!(listed["uploads"], json!([]));
    part(&app, &id, 1, "x").send().await.ok(200);
}

#[tokio::test]
async fn mistakes_are_named() {
    let app = TestApp::new().await;
    let id = begin(&app, json!({"pathname": "a"})).await;
    for number in ["0", "10001", "-1", "one"] {
        let path = format!("/v1/storage/uploads/{id}/parts/{number}");
        let reply = app.call(Method::PUT, &path).body("x").send().await;
        assert_eq!(reply.error(422), ("invalid_value".to_owned(), Some("number".to_owned())), "{number}");
    }
    for (body, param) in [
        (json!({"pathname": "a/../b"}), "pathname"),
        (json!({"pathname": "folder/"}), "pathname"),
        (json!({"pathname": "a", "content_type": "text/html\r\nx: y"}), "content_type"),
        (json!({"pathname": "a", "content_type": "none"}), "content_type"),
        (json!({"pathname": "a", "size": 3}), "size"),
    ] {
        let reply = app.post("/v1/storage/uploads", body.clone()).send().await;
        assert_eq!(reply.json()["error"]["param"], param, "{body}");
        assert!(matches!(reply.status.as_u16(), 400 | 422), "{body}");
    }
}

#[tokio::test]
async fn an_upload_with_a_key_of_its_own_begins_once() {
    let app = TestApp::new().await;
    let once =
        || app.post("/v1/storage/uploads", json!({"pathname": "b"})).header("idempotency-key", "one").send();
    let first = once().await.ok(201);
    assert_eq!(once().await.ok(201), first);
    complete(&app, first["id"].as_str().expect("an id"), json!({})).await.ok(201);
    assert_eq!(once().await.ok(201), first, "though the name is taken now");
}

#[tokio::test]
async fn a_part_that_is_sent_again_needs_no_room_of_its_own() {
    let app = TestApp::new().await;
    for number in 0..4 {
        upload(&app, &format!("pathname={number}"), vec![0; 2_000_000]).send().await.ok(201);
    }
    let id = begin(&app, json!({"pathname": "a"})).await;
    for _ in 0..3 {
        part(&app, &id, 1, vec![1; 1_900_000]).header("content-length", "1900000").send().await.ok(200);
    }
    assert_eq!(part(&app, &id, 2, vec![1; 200_000]).send().await.code(413), "quota_exceeded");
    complete(&app, &id, json!({})).await.ok(201);
}

#[tokio::test]
async fn a_part_that_comes_while_all_are_completed_is_not_lost() {
    let app = TestApp::new().await;
    let id = begin(&app, json!({"pathname": "a"})).await;
    part(&app, &id, 1, "one").send().await.ok(200);
    let upload_id = id.parse().expect("an id");
    let (record, parts) =
        app.hub.blobs.upload(&app.workspace_id, &upload_id).await.expect("read").expect("there");
    part(&app, &id, 2, "two").send().await.ok(200);
    // What a completion does that has read the first part alone.
    let late = Complete {
        workspace_id: app.workspace_id.clone(),
        upload_id,
        blob: BlobRecord {
            pathname: record.pathname,
            size: 3,
            sha256: parts[0].sha256,
            content_type: "text/plain".to_owned(),
            access: record.wanted.access,
            cache_seconds: None,
            uploaded_at: app.clock.now(),
            expires_at: None,
            source: record.wanted.source,
        },
        parts,
        is_all: true,
        bytes_id: "bytes".to_owned(),
        at: app.clock.now(),
        expires_at: app.clock.now().plus_millis(1000),
        quota: None,
    };
    assert!(matches!(app.store().write(late).await, Err(StoreError::Missing(_))));
    let blob = complete(&app, &id, json!({})).await.ok(201);
    assert_eq!(read(&app, &blob).await.body, "onetwo");
}
