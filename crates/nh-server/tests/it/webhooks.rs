//! Webhooks against real receivers: what is told, how it is signed, and what
//! becomes of what cannot be told. The clock stands unless a test moves it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nh_agents::webhooks::{Deliveries, backoff, keep};
use nh_store::webhooks;
use nh_types::Clock as _;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

use crate::app::TestApp;
use crate::receiver::{Receiver, Told, telling_app};
use crate::waits::ended;

pub(crate) const HOUR_MS: i64 = 3_600_000;

pub(crate) fn sum(url: &str) -> Value {
    json!({"target": "calculate", "type": "tool", "input": {"expression": "1 + 1"}, "webhook_url": url})
}

/// A run that has ended; its id.
pub(crate) async fn run(app: &TestApp, url: &str) -> String {
    app.post("/v1/run", sum(url)).send().await.ok(200)["runId"].as_str().expect("an id").to_owned()
}

pub(crate) fn delivery_id(run_id: &str) -> String {
    format!("msg_{}", run_id.replace('-', ""))
}

/// What the hub's own loop does when something is due.
pub(crate) async fn deliver(app: &TestApp) {
    let mut deliveries = Deliveries::new(app.hub.clone());
    deliveries.begin_due().await.expect("a store");
    deliveries.finish().await;
}

pub(crate) async fn shown(app: &TestApp, run_id: &str) -> Value {
    app.get(&format!("/v1/webhooks/deliveries/{}", delivery_id(run_id))).send().await.ok(200)
}

pub(crate) async fn rotate(app: &TestApp) -> Value {
    app.post("/v1/webhooks/secret/rotate", json!({})).send().await.ok(201)
}

pub(crate) fn secret(rotated: &Value) -> Vec<u8> {
    let secret = rotated["secret"].as_str().and_then(|secret| secret.strip_prefix("whsec_"));
    STANDARD.decode(secret.expect("a secret")).expect("base64")
}

/// HMAC-SHA256 as RFC 2104 writes it, for keys of up to one block.
pub(crate) fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

pub(crate) fn signature(told: &Told, secret: &[u8]) -> String {
    let mut message =
        format!("{}.{}.", told.header("webhook-id"), told.header("webhook-timestamp")).into_bytes();
    message.extend_from_slice(&told.body);
    format!("v1,{}", STANDARD.encode(hmac(secret, &message)))
}

#[tokio::test]
async fn the_end_of_a_run_is_told_once_and_signed() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let secret = secret(&rotate(&app).await);
    assert_eq!(secret.len(), 32);
    let mut body = sum(&receiver.url());
    body["metadata"] = json!({"order": 7});
    let run = app.post("/v1/run", body).send().await.ok(200);
    assert_eq!(run["webhookUrl"], json!(receiver.url()));
    let id = run["runId"].as_str().expect("an id");
    assert_eq!(shown(&app, id).await["state"], "pending");
    deliver(&app).await;
    deliver(&app).await;

    let told = receiver.told();
    assert_eq!(told.len(), 1);
    let told = &told[0];
    assert_eq!(told.header("webhook-id"), delivery_id(id));
    assert_eq!(told.header("webhook-timestamp"), "1770379200");
    assert_eq!(told.header("webhook-signature"), signature(told, &secret));
    assert_eq!(told.header("content-type"), "application/json");
    let event = told.json();
    assert_eq!((&event["type"], &event["timestamp"]), (&json!("run.succeeded"), &run["finishedAt"]));
    for field in [
        "runId",
        "target",
        "type",
        "state",
        "status",
        "result",
        "error",
        "metadata",
        "createdAt",
        "finishedAt",
    ] {
        assert_eq!(event["data"][field], run[field], "{field}");
    }
    assert_eq!(event["data"]["usage"]["inputTokens"], 0);

    let delivery = shown(&app, id).await;
    assert_eq!((&delivery["state"], &delivery["type"]), (&json!("delivered"), &json!("run.succeeded")));
    assert_eq!((&delivery["run_id"], &delivery["url"]), (&json!(id), &json!(receiver.url())));
    assert_eq!((&delivery["attempt_count"], &delivery["last_status_code"]), (&json!(1), &json!(204)));
    assert_eq!((&delivery["next_attempt_at"], &delivery["last_error"]), (&Value::Null, &Value::Null));
    assert_eq!(delivery["attempts"][0]["status_code"], 204);
}

#[tokio::test]
async fn the_hub_tells_by_itself_as_soon_as_a_run_has_ended() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let keeping = TaskTracker::new().spawn(keep(app.hub.clone(), app.stopping.clone()));
    run(&app, &receiver.url()).await;
    let told = receiver.until(1).await;
    assert!(told[0].header("webhook-signature").starts_with("v1,"), "signed though nobody made a secret");
    // What is asked for again is under way at once too.
    let path = format!("/v1/webhooks/deliveries/{}/redeliver", told[0].header("webhook-id"));
    app.post(&path, Value::Null).send().await.ok(202);
    assert_eq!(receiver.until(2).await[1].body, told[0].body);
    app.stopping.cancel();
    keeping.await.expect("it ends");
}

#[tokio::test]
async fn a_receiver_that_fails_is_told_again_until_it_succeeds() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let secret = secret(&rotate(&app).await);
    let id = run(&app, &receiver.url()).await;
    receiver.reply(500, &[], "no\0pe");
    receiver.reply(503, &[("retry-after", "3600")], "later");
    deliver(&app).await;
    let first = shown(&app, &id).await;
    assert_eq!((&first["state"], &first["last_status_code"]), (&json!("pending"), &json!(500)));
    assert_eq!(first["attempts"][0]["response"], "no\u{fffd}pe");
    assert!(first["last_error"].as_str().is_some_and(|error| error.contains("500")), "{first}");
    app.clock.advance_ms(4999);
    deliver(&app).await;
    assert_eq!(receiver.told().len(), 1, "not before its time");
    app.clock.advance_ms(1001);
    deliver(&app).await;
    app.clock.advance_ms(HOUR_MS - 1);
    deliver(&app).await;
    assert_eq!(receiver.told().len(), 2, "the receiver asked for an hour");
    app.clock.advance_ms(HOUR_MS / 5 + 1);
    deliver(&app).await;
    let told = receiver.told();
    assert_eq!(told.len(), 3);
    for one in &told {
        assert_eq!(one.header("webhook-id"), delivery_id(&id));
        assert_eq!(one.body, told[0].body);
        assert_eq!(one.header("webhook-signature"), signature(one, &secret));
    }
    assert_ne!(told[0].header("webhook-timestamp"), told[2].header("webhook-timestamp"));
    let last = shown(&app, &id).await;
    assert_eq!((&last["state"], &last["attempt_count"]), (&json!("delivered"), &json!(3)));
    let codes: Vec<_> =
        last["attempts"].as_array().unwrap().iter().map(|one| one["status_code"].clone()).collect();
    assert_eq!(codes, [500, 503, 204]);
}

#[tokio::test]
async fn what_fails_for_days_is_given_up_and_can_be_asked_for_again() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let id = run(&app, &receiver.url()).await;
    for delay_ms in [0].into_iter().chain(backoff::DELAYS_MS) {
        app.clock.advance_ms(delay_ms / 5 * 6);
        receiver.reply(404, &[], "");
        deliver(&app).await;
    }
    let given_up = shown(&app, &id).await;
    assert_eq!((&given_up["state"], &given_up["attempt_count"]), (&json!("failed"), &json!(10)));
    app.clock.advance_ms(1000 * HOUR_MS);
    deliver(&app).await;
    assert_eq!(receiver.told().len(), 10);

    let path = format!("/v1/webhooks/deliveries/{}/redeliver", delivery_id(&id));
    let again = app.post(&path, Value::Null).send().await.ok(202);
    assert_eq!(again["state"], "pending");
    receiver.reply(500, &[], "");
    deliver(&app).await;
    assert_eq!(shown(&app, &id).await["state"], "pending", "with all its retries");
    app.clock.advance_ms(6000);
    deliver(&app).await;
    assert_eq!(shown(&app, &id).await["state"], "delivered");
    assert!(receiver.told().iter().all(|told| told.header("webhook-id") == delivery_id(&id)));
}

#[tokio::test]
async fn gone_is_final_and_redirects_are_not_followed() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let gone = run(&app, &receiver.url()).await;
    receiver.reply(410, &[], "");
    deliver(&app).await;
    assert_eq!(shown(&app, &gone).await["state"], "failed");
    let moved = run(&app, &receiver.url()).await;
    receiver.reply(307, &[("location", "/elsewhere")], "");
    deliver(&app).await;
    let delivery = shown(&app, &moved).await;
    assert_eq!((&delivery["state"], &delivery["last_status_code"]), (&json!("pending"), &json!(307)));
    assert!(delivery["last_error"].as_str().unwrap().contains("redirects are not followed"), "{delivery}");
    assert!(receiver.told().iter().all(|told| told.path == "/hook"));
}

#[tokio::test]
async fn a_huge_answer_is_read_only_at_its_beginning() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let huge = || "x".repeat(10_000_000);
    let id = run(&app, &receiver.url()).await;
    receiver.reply(500, &[], huge());
    deliver(&app).await;
    let failed = shown(&app, &id).await;
    assert_eq!(failed["attempts"][0]["response"].as_str().map(str::len), Some(1024));
    receiver.reply(200, &[], huge());
    app.clock.advance_ms(6000);
    deliver(&app).await;
    assert_eq!(shown(&app, &id).await["state"], "delivered");
}

#[tokio::test]
async fn a_silent_receiver_keeps_nobody_else_waiting() {
    let (app, silent, other) = (telling_app().await, Receiver::start().await, Receiver::start().await);
    for _ in 0..20 {
        run(&app, &format!("http://{}/silent", silent.address)).await;
    }
    let keeping = TaskTracker::new().spawn(keep(app.hub.clone(), app.stopping.clone()));
    assert_eq!(silent.until(16).await.len(), 16);
    run(&app, &other.url()).await;
    assert_eq!(other.until(1).await.len(), 1);
    assert_eq!(silent.told().len(), 16, "the others of its lane wait");
    keeping.abort();
}

#[tokio::test]
async fn who_dies_between_the_end_and_the_delivery_is_followed_by_another() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let id = run(&app, &receiver.url()).await;
    // It claims what is due, and dies before it sends it.
    let (now, lanes) = (app.clock.now(), webhooks::lanes(app.store(), "", 10).await.expect("lanes"));
    let from = lanes.into_iter().map(|lane| (lane.name, 1)).collect();
    let claim = webhooks::Claim { from, now, until: now.plus_millis(60_000) };
    assert_eq!(app.store().write(claim).await.expect("a store").len(), 1);
    deliver(&app).await;
    assert!(receiver.told().is_empty(), "the claim holds");
    app.clock.advance_ms(60_000);
    deliver(&app).await;
    assert_eq!(receiver.told().len(), 1);
    assert_eq!(shown(&app, &id).await["state"], "delivered");
}

#[tokio::test]
async fn however_a_run_ends_it_is_told_once() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let mut later = sum(&receiver.url());
    later
        .as_object_mut()
        .unwrap()
        .extend(json!({"delay_seconds": 60, "async": true}).as_object().unwrap().clone());
    let start = async |body: &Value| {
        app.post("/v1/run", body.clone()).send().await.ok(202)["runId"].as_str().expect("an id").to_owned()
    };
    let cancelled = start(&later).await;
    app.post(&format!("/v1/run/{cancelled}/cancel"), json!({})).send().await.ok(200);
    assert_eq!(app.post(&format!("/v1/run/{cancelled}/cancel"), json!({})).send().await.status, 409);

    // Past its deadline when its delay is over.
    let short = json!({"delay_seconds": 1, "timeout_seconds": 1});
    later.as_object_mut().unwrap().extend(short.as_object().unwrap().clone());
    let late = start(&later).await;
    app.clock.advance_ms(10_000);
    assert_eq!(ended(&app, &late).await["error"]["code"], "timeout");

    let mut failing = sum(&receiver.url());
    failing["input"] = json!({"expression": "1 / 0"});
    let failed = app.post("/v1/run", failing).send().await.ok(200);
    assert_eq!(failed["state"], "FAILED");
    deliver(&app).await;
    deliver(&app).await;

    let mut told: Vec<_> = receiver
        .told()
        .iter()
        .map(|told| {
            let event = told.json();
            (event["type"].as_str().unwrap().to_owned(), event["data"]["runId"].as_str().unwrap().to_owned())
        })
        .collect();
    told.sort();
    let failed = failed["runId"].as_str().unwrap().to_owned();
    let mut expected = [("run.cancelled", cancelled), ("run.failed", late), ("run.failed", failed)]
        .map(|(event, id)| (event.to_owned(), id));
    expected.sort();
    assert_eq!(told, expected);
    let listed = app.get("/v1/webhooks/deliveries?state=delivered").send().await.ok(200);
    assert_eq!(listed["deliveries"].as_array().unwrap().len(), 3, "{listed}");
}

#[tokio::test]
async fn who_made_a_run_again_is_told_where_the_first_was() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let id = run(&app, &receiver.url()).await;
    let fork = |body: Value| app.post(&format!("/v1/run/{id}/fork"), body).send();
    assert_eq!(fork(json!({})).await.ok(200)["webhookUrl"], json!(receiver.url()));
    let elsewhere = format!("{}/else", receiver.url());
    assert_eq!(fork(json!({"webhook_url": elsewhere})).await.ok(200)["webhookUrl"], json!(elsewhere));
    assert_eq!(fork(json!({"webhook_url": null})).await.ok(200).get("webhookUrl"), None);
    assert_eq!(fork(json!({"webhook_url": "x"})).await.error(422).1.as_deref(), Some("webhook_url"));
    let mut failing = sum(&receiver.url());
    failing["input"] = json!({"expression": "1 / 0"});
    let failed = app.post("/v1/run", failing).send().await.ok(200);
    let retry = format!("/v1/run/{}/retry", failed["runId"].as_str().unwrap());
    assert_eq!(app.post(&retry, json!({})).send().await.ok(200)["webhookUrl"], json!(receiver.url()));
    assert_eq!(app.post(&retry, json!({"webhook_url": null})).send().await.ok(200).get("webhookUrl"), None);
    deliver(&app).await;
    assert_eq!(receiver.told().len(), 5);
}

#[tokio::test]
async fn schedules_tell_and_runs_within_a_run_do_not() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let inner = json!({"id": "inner", "name": "I", "steps": [{"id": "a", "uses": "tool:calculate", "with": {"expression": "1"}}]});
    app.post("/v1/workflows", inner).send().await.ok(201);
    let outer = json!({"id": "outer", "name": "O", "steps": [{"id": "b", "uses": "workflow:inner"}]});
    app.post("/v1/workflows", outer).send().await.ok(201);
    let run = json!({"target": "outer", "type": "workflow", "webhook_url": receiver.url()});
    let schedule = json!({"id": "s", "cron": "@hourly", "run": run});
    app.post("/v1/schedules", schedule).send().await.ok(201);
    app.clock.advance_ms(HOUR_MS);
    app.hub.fire_due().await.expect("a store");
    let id =
        app.get("/v1/schedules/s").send().await.ok(200)["last_run_id"].as_str().expect("a run").to_owned();
    assert_eq!(ended(&app, &id).await["state"], "SUCCESS");
    deliver(&app).await;
    let told = receiver.told();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].json()["data"]["metadata"]["schedule_id"], "s");
}

#[tokio::test]
async fn a_large_result_is_left_out_and_said_to_be() {
    let (app, receiver) = (telling_app().await, Receiver::start().await);
    let goal = "x".repeat(70_000);
    let workflow = json!({"id": "echo", "name": "E", "steps": [{"id": "a", "uses": "tool:calculate", "with": {"expression": "1"}}], "output": "{{ input.text }}"});
    let made = app.post("/v1/workflows", workflow).send().await;
    assert_eq!(made.status, 201, "{made:?}");
    let body =
        json!({"target": "echo", "type": "workflow", "input": {"text": goal}, "webhook_url": receiver.url()});
    let run = app.post("/v1/run", body).send().await.ok(200);
    assert_eq!(run["result"].as_str().map(str::len), Some(70_000), "{}", run["error"]);
    deliver(&app).await;
    let data = receiver.told()[0].json()["data"].clone();
    assert_eq!((&data["result"], &data["resultOmitted"]), (&Value::Null, &json!(true)));
    assert_eq!(data["runId"], run["runId"]);
}
