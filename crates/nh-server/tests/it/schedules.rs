//! Runs that begin by themselves. The clock stands at 2026-02-06T12:00:00Z, a
//! Friday.

use http::Method;
use nh_testkit::upstream::Reply;
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, says};
use crate::app::TestApp;
use crate::waits::ended;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

fn sum() -> Value {
    json!({"target": "calculate", "type": "tool", "input": {"expression": "1 + 1"}})
}

fn hourly() -> Value {
    json!({"id": "s", "name": "S", "cron": "0 * * * *", "run": sum()})
}

async fn create(app: &TestApp, schedule: Value) -> Value {
    app.post("/v1/schedules", schedule).send().await.ok(201)
}

async fn schedule(app: &TestApp) -> Value {
    app.get("/v1/schedules/s").send().await.ok(200)
}

/// What the hub's own loop does when the time has come.
async fn tick(app: &TestApp, ms: i64) -> Value {
    app.clock.advance_ms(ms);
    app.hub.fire_due().await.expect("a store");
    schedule(app).await
}

async fn runs(app: &TestApp) -> Vec<Value> {
    app.get("/v1/runs").send().await.ok(200)["runs"].as_array().expect("runs").clone()
}

async fn change(app: &TestApp, change: Value) -> Value {
    app.call(Method::PATCH, "/v1/schedules/s").json(change).send().await.ok(200)
}

#[tokio::test]
async fn a_schedule_begins_a_run_at_each_tick() {
    let app = TestApp::new().await;
    let made = create(&app, hourly()).await;
    assert_eq!(made["next_at"], "2026-02-06T13:00:00.000Z", "{made}");
    assert_eq!(
        (&made["time_zone"], &made["missed"], &made["overlap"]),
        (&json!("UTC"), &json!("run_once"), &json!("allow"))
    );
    assert_eq!(made["run"], sum());
    assert_eq!(tick(&app, HOUR_MS - 1).await["last_run_id"], Value::Null, "not before its time");
    let after = tick(&app, 1).await;
    assert_eq!(
        (&after["last_at"], &after["next_at"]),
        (&json!("2026-02-06T13:00:00.000Z"), &json!("2026-02-06T14:00:00.000Z"))
    );
    let run = ended(&app, after["last_run_id"].as_str().expect("a run")).await;
    assert_eq!(run["state"], "SUCCESS", "{run}");
    assert_eq!(run["metadata"], json!({"schedule_id": "s", "scheduled_for": "2026-02-06T13:00:00.000Z"}));
    tick(&app, HOUR_MS).await;
    assert_eq!(runs(&app).await.len(), 2);
}

#[tokio::test]
async fn a_tick_begins_one_run_however_many_see_it() {
    let app = TestApp::new().await;
    create(&app, hourly()).await;
    app.clock.advance_ms(HOUR_MS);
    let (a, b, c) = tokio::join!(app.hub.fire_due(), app.hub.fire_due(), app.hub.fire_due());
    assert!(a.is_ok() && b.is_ok() && c.is_ok());
    assert_eq!(runs(&app).await.len(), 1);
}

#[tokio::test]
async fn missed_ticks_begin_one_late_run_or_none() {
    let app = TestApp::new().await;
    create(&app, hourly()).await;
    let late = tick(&app, 5 * HOUR_MS + 30 * MINUTE_MS).await;
    assert_eq!(
        (&late["last_at"], &late["next_at"]),
        (&json!("2026-02-06T17:00:00.000Z"), &json!("2026-02-06T18:00:00.000Z"))
    );
    change(&app, json!({"missed": "skip"})).await;
    let skipped = tick(&app, 3 * HOUR_MS).await;
    assert_eq!(
        (&skipped["last_at"], &skipped["next_at"]),
        (&late["last_at"], &json!("2026-02-06T21:00:00.000Z"))
    );
    let on_time = tick(&app, 30 * MINUTE_MS + 5000).await;
    assert_eq!(on_time["last_at"], "2026-02-06T21:00:00.000Z", "five seconds late is not missed");
    assert_eq!(runs(&app).await.len(), 2);
}

#[tokio::test]
async fn a_tick_can_be_passed_over_while_the_last_run_goes_on() {
    let (app, _upstream) = app_and_model([Reply::Silent, says("Done.")]).await;
    let run = json!({"target": "a", "type": "agent", "input": {"goal": "Wait."}});
    create(&app, json!({"id": "s", "cron": "0 * * * *", "overlap": "skip", "run": run})).await;
    let first = tick(&app, HOUR_MS).await;
    let second = tick(&app, HOUR_MS).await;
    assert_eq!(second["last_error"]["code"], "overlap", "{second}");
    assert_eq!(second["last_run_id"], first["last_run_id"]);
    let id = first["last_run_id"].as_str().expect("a run").to_owned();
    app.post(&format!("/v1/run/{id}/cancel"), json!({})).send().await.ok(200);
    let third = tick(&app, HOUR_MS).await;
    assert_eq!(third["last_error"], Value::Null);
    assert_ne!(third["last_run_id"], first["last_run_id"]);
}

#[tokio::test]
async fn a_schedule_ends_with_the_key_that_made_it_until_another_takes_it_over() {
    let app = TestApp::new().await;
    let body = json!({"name": "k", "scopes": ["run:write", "tools:call"]});
    let key = app.post("/v1/keys", body).send().await.ok(201);
    let secret = key["key"].as_str().expect("a key").to_owned();
    app.post("/v1/schedules", hourly()).key(&secret).send().await.ok(201);
    let run = tick(&app, HOUR_MS).await["last_run_id"].as_str().expect("a run").to_owned();
    ended(&app, &run).await;
    assert_eq!(app.delete(&format!("/v1/keys/{}", key["id"])).send().await.status, 204);
    let ended = tick(&app, HOUR_MS).await;
    assert_eq!((&ended["enabled"], &ended["next_at"]), (&json!(false), &Value::Null), "{ended}");
    assert_eq!(ended["last_error"]["code"], "credential_ended");
    tick(&app, HOUR_MS).await;
    assert_eq!(runs(&app).await.len(), 1);
    let again = change(&app, json!({"enabled": true})).await;
    assert_eq!((&again["last_error"], &again["next_at"]), (&Value::Null, &json!("2026-02-06T16:00:00.000Z")));
    tick(&app, HOUR_MS).await;
    assert_eq!(runs(&app).await.len(), 2);
}

#[tokio::test]
async fn runs_of_a_schedule_may_do_no_more_than_who_made_it() {
    let app = TestApp::new().await;
    let key = app.key_with("run:write").await;
    let refused = app.post("/v1/schedules", hourly()).key(&key).send().await.error(403);
    assert_eq!(refused, ("missing_scope".to_owned(), Some("tools:call".to_owned())));
}

#[tokio::test]
async fn what_cannot_begin_is_told_and_the_schedule_goes_on() {
    let app = TestApp::new().await;
    app.post("/v1/agents", json!({"id": "gone", "name": "G"})).send().await.ok(201);
    let run = json!({"target": "gone", "type": "agent", "input": {"goal": "1 + 1"}});
    create(&app, json!({"id": "s", "cron": "0 * * * *", "run": run})).await;
    assert_eq!(app.delete("/v1/agents/gone").send().await.status, 204);
    let told = tick(&app, HOUR_MS).await;
    assert_eq!(
        (&told["last_error"]["code"], &told["enabled"]),
        (&json!("unknown_target"), &json!(true)),
        "{told}"
    );
    change(&app, json!({"run": sum()})).await;
    assert_eq!(tick(&app, HOUR_MS).await["last_error"], Value::Null);
}

#[tokio::test]
async fn a_disabled_schedule_begins_nothing() {
    let app = TestApp::new().await;
    create(&app, hourly()).await;
    let off = change(&app, json!({"enabled": false})).await;
    assert_eq!(off["next_at"], Value::Null);
    tick(&app, 24 * HOUR_MS).await;
    assert!(runs(&app).await.is_empty());
    let on = change(&app, json!({"enabled": true, "cron": "30 8 * * 1", "time_zone": "Asia/Tokyo"})).await;
    assert_eq!(on["next_at"], "2026-02-08T23:30:00.000Z");
    assert_eq!(app.delete("/v1/schedules/s").send().await.status, 204);
    assert_eq!(app.get("/v1/schedules/s").send().await.code(404), "not_found");
    app.hub.fire_due().await.expect("a store");
}

#[tokio::test]
async fn schedules_are_listed_and_their_faults_are_named() {
    let app = TestApp::new().await;
    let yaml = "id: s\ncron: '@daily'\nrun: {target: calculate, type: tool, input: {expression: 1 + 1}}\n";
    let call = app.call(Method::POST, "/v1/schedules").header("content-type", "application/yaml").body(yaml);
    call.send().await.ok(201);
    assert_eq!(app.post("/v1/schedules", hourly()).send().await.code(409), "already_exists");
    let listed = app.get("/v1/schedules").send().await.ok(200);
    assert_eq!((listed["schedules"].as_array().unwrap().len(), &listed["next_cursor"]), (1, &Value::Null));
    for (more, status, param) in [
        (json!({"cron": "often"}), 422, "cron"),
        (json!({"cron": "0 0 30 2 *"}), 422, "cron"),
        (json!({"cron": "* * * * * *"}), 422, "cron"),
        (json!({"cron": 7}), 400, "cron"),
        (json!({"time_zone": "Mars/Base"}), 422, "time_zone"),
        (json!({"missed": "never"}), 422, "missed"),
        (json!({"id": "a b"}), 422, "id"),
        (json!({"name": "x".repeat(129)}), 422, "name"),
        (json!({"run": {"target": "nobody", "type": "agent", "input": {"goal": "x"}}}), 422, "run.target"),
        (json!({"run": {"target": "calculate", "type": "tool", "input": {}}}), 422, "run.input.expression"),
        (json!({"run": {"target": "calculate", "type": "tool", "async": true}}), 422, "run.async"),
        (
            json!({"run": {"target": "calculate", "type": "tool", "delay_seconds": 1}}),
            422,
            "run.delay_seconds",
        ),
        (json!({"every": "day"}), 400, "every"),
    ] {
        let mut body = hourly();
        body["id"] = json!("t");
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = app.post("/v1/schedules", body).send().await.error(status);
        assert_eq!(error.1.as_deref(), Some(param), "{more}");
    }
}

#[tokio::test]
async fn a_schedule_can_be_disabled_whatever_became_of_its_agent() {
    let app = TestApp::new().await;
    app.post("/v1/agents", json!({"id": "gone", "name": "Gone"})).send().await.ok(201);
    let run = json!({"target": "gone", "type": "agent", "input": {"goal": "x"}});
    create(&app, json!({"id": "s", "cron": "0 * * * *", "run": run})).await;
    app.delete("/v1/agents/gone").send().await.ok(204);
    let refused = app.call(Method::PATCH, "/v1/schedules/s").json(json!({"name": "n"})).send().await;
    assert_eq!(refused.error(422).1.as_deref(), Some("run.target"));
    let disabled = change(&app, json!({"enabled": false})).await;
    assert_eq!((&disabled["enabled"], &disabled["next_at"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn a_change_of_the_name_loses_no_tick_that_is_due() {
    let app = TestApp::new().await;
    create(&app, hourly()).await;
    app.clock.advance_ms(HOUR_MS);
    let renamed = change(&app, json!({"name": "T"})).await;
    assert_eq!(renamed["next_at"], "2026-02-06T13:00:00.000Z", "{renamed}");
    let after = tick(&app, 0).await;
    assert_eq!(after["last_at"], "2026-02-06T13:00:00.000Z", "{after}");
}
