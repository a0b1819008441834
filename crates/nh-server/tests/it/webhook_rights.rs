//! Who may be told, with which secret it is signed, and who may read of it.

use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::receiver::{Receiver, app_with, client, telling_app};
use crate::webhooks::{HOUR_MS, deliver, delivery_id, rotate, run, secret, shown, signature, sum};

#[tokio::test]
async fn urls_that_cannot_be_told_are_refused_at_once() {
    let app = TestApp::new().await;
    for url in [
        "http://127.0.0.1:9/",
        "http://0x7f.1/",
        "http://2130706433/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://localhost:8080/",
        "http://a.LocalHost./",
        "http://169.254.169.254/latest/meta-data",
        "https://user:password@hooks.example/",
        "https://user@hooks.example/",
        "ftp://hooks.example/",
        "javascript:alert(1)",
        "hooks.example/x",
        "https://",
        "",
        &format!("https://hooks.example/{}", "x".repeat(2048)),
    ] {
        let reply = app.post("/v1/run", sum(url)).send().await;
        assert_eq!(reply.error(422), ("invalid_value".to_owned(), Some("webhook_url".to_owned())), "{url}");
        assert!(!reply.json().to_string().contains("password@"), "{url}");
    }
    let mut number = sum("");
    number["webhook_url"] = json!(7);
    assert_eq!(app.post("/v1/run", number).send().await.error(400).1.as_deref(), Some("webhook_url"));
    let schedule = json!({"cron": "@daily", "run": sum("http://10.0.0.1/")});
    let refused = app.post("/v1/schedules", schedule).send().await.error(422);
    assert_eq!(refused.1.as_deref(), Some("run.webhook_url"));
    assert_eq!(app.get("/v1/runs").send().await.ok(200)["runs"], json!([]));
    let run = app.post("/v1/run", sum("https://hooks.example/x?token=1#part")).send().await.ok(200);
    assert_eq!(run["webhookUrl"], "https://hooks.example/x?token=1");
}

#[tokio::test]
async fn names_that_lead_inside_are_refused_when_they_are_asked() {
    let receiver = Receiver::start().await;
    let app = app_with(client(&["127.0.0.0/8"], Some(receiver.address))).await;
    let port = receiver.address.port();
    // The hub's own listener, whatever is allowed.
    for url in [format!("http://127.0.0.1:{port}/"), format!("http://localhost:{port}/")] {
        assert_eq!(app.post("/v1/run", sum(&url)).send().await.code(422), "invalid_value", "{url}");
    }
    for (url, why) in [
        (format!("http://this.example:{port}/?token=hush"), "this hub itself"),
        ("http://inner.example/?token=hush".to_owned(), "a private network"),
    ] {
        let id = run(&app, &url).await;
        deliver(&app).await;
        let delivery = shown(&app, &id).await;
        let error = delivery["last_error"].as_str().expect("an error");
        assert!(error.contains(why) && !error.contains("hush"), "{delivery}");
        assert_eq!((&delivery["state"], &delivery["last_status_code"]), (&json!("pending"), &Value::Null));
    }
    assert!(receiver.told().is_empty());
}

#[tokio::test]
async fn a_secret_that_is_rotated_out_signs_for_a_day() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let none = app.get("/v1/webhooks/secret").send().await.ok(200);
    assert_eq!(none, json!({"created_at": null, "previous": []}));
    let first = rotate(&app).await;
    assert_eq!(first["previous_expires_at"], Value::Null);
    app.clock.advance_ms(1000);
    let second = rotate(&app).await;
    assert_eq!(second["previous_expires_at"], "2026-02-07T12:00:01.000Z");
    let seen = app.get("/v1/webhooks/secret").send().await.ok(200);
    assert_eq!(seen["created_at"], second["created_at"]);
    assert_eq!(
        seen["previous"],
        json!([{"created_at": first["created_at"], "expires_at": second["previous_expires_at"]}])
    );
    let signed = async || {
        run(&app, &receiver.url()).await;
        deliver(&app).await;
        let told = receiver.told().pop().expect("one");
        (told.header("webhook-signature").to_owned(), told)
    };
    let (both, told) = signed().await;
    assert_eq!(both, format!("{} {}", signature(&told, &secret(&second)), signature(&told, &secret(&first))));
    app.clock.advance_ms(24 * HOUR_MS);
    let (one, told) = signed().await;
    assert_eq!(one, signature(&told, &secret(&second)));
    for _ in 0..5 {
        app.clock.advance_ms(1);
        rotate(&app).await;
    }
    assert_eq!(signed().await.0.split(' ').count(), 3, "few, however often it is rotated");
}

#[tokio::test]
async fn the_secret_is_told_once_and_kept_sealed() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let path = "/v1/webhooks/secret/rotate";
    let first = app.post(path, json!({})).header("idempotency-key", "k").send().await.ok(201);
    let repeated = app.post(path, json!({})).header("idempotency-key", "k").send().await;
    assert_eq!(repeated.code(409), "already_created");
    let key = app.key_with("run:write run:read agents:write").await;
    let refused = app.post(path, json!({})).key(&key).send().await.error(403);
    assert_eq!(refused, ("missing_scope".to_owned(), Some("keys:write".to_owned())));
    let id = run(&app, &receiver.url()).await;
    deliver(&app).await;
    let written = first["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap();
    let raw = secret(&first);
    for reply in [
        repeated,
        app.get("/v1/webhooks/secret").send().await,
        app.get("/v1/webhooks/deliveries").send().await,
        app.get(&format!("/v1/webhooks/deliveries/{}", delivery_id(&id))).send().await,
        app.get(&format!("/v1/run/{id}")).send().await,
    ] {
        assert!(!String::from_utf8_lossy(&reply.body).contains(written));
    }
    let Some(file) = app.store_file() else { return };
    let mut wal = file.clone().into_os_string();
    wal.push("-wal");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.extend(std::fs::read(wal).unwrap());
    let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    assert!(holds(delivery_id(&id).replace("msg_", "").get(..8).unwrap().as_bytes()), "the store was read");
    assert!(!holds(written.as_bytes()) && !holds(&raw));
}

#[tokio::test]
async fn deliveries_are_listed_and_are_nobody_elses() {
    let app = TestApp::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(run(&app, "https://hooks.example/").await);
        app.clock.advance_ms(1);
    }
    app.post("/v1/run", json!({"target": "calculate", "type": "tool", "input": {"expression": "1"}}))
        .send()
        .await;
    let first = app.get("/v1/webhooks/deliveries?limit=2").send().await.ok(200);
    let cursor = first["next_cursor"].as_str().expect("more");
    let rest = app.get(&format!("/v1/webhooks/deliveries?limit=2&cursor={cursor}")).send().await.ok(200);
    let listed: Vec<_> =
        [&first, &rest].into_iter().flat_map(|page| page["deliveries"].as_array().unwrap()).collect();
    assert_eq!(listed.iter().rev().map(|one| one["run_id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
    assert_eq!(rest["next_cursor"], Value::Null);
    let of_run = |run: &str, state: &str| format!("/v1/webhooks/deliveries?run_id={run}&state={state}");
    let count = async |path: String, key: &str| {
        app.get(&path).key(key).send().await.ok(200)["deliveries"].as_array().unwrap().len()
    };
    assert_eq!(count(of_run(&ids[0], "pending"), &app.key).await, 1);
    assert_eq!(count(of_run(&ids[0], "failed"), &app.key).await, 0);
    let (_, other) = app.other_workspace().await;
    assert_eq!(count(of_run(&ids[0], "pending"), &other).await, 0);
    assert_eq!(count("/v1/webhooks/deliveries".to_owned(), &other).await, 0);
    let path = format!("/v1/webhooks/deliveries/{}", delivery_id(&ids[0]));
    for (method, path) in [(Method::GET, path.clone()), (Method::POST, format!("{path}/redeliver"))] {
        assert_eq!(app.call(method, &path).key(&other).send().await.code(404), "not_found");
    }
    assert_eq!(
        app.get("/v1/webhooks/deliveries?state=lost").send().await.error(422).1.as_deref(),
        Some("state")
    );
    for id in ["x", &ids[0], &delivery_id(&ids[0]).to_uppercase()] {
        assert_eq!(app.get(&format!("/v1/webhooks/deliveries/{id}")).send().await.code(404), "not_found");
    }
}
