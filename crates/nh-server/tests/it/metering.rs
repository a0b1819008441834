//! Sandboxes and stored bytes in `/v1/usage`.

use nh_store::sandboxes::{Begin, Meter, SandboxRecord, Started};
use nh_types::sandbox::{Isolation, SandboxState};
use nh_types::{Clock, SandboxId};
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::storage::upload;

const HOUR_MS: i64 = 3_600_000;

async fn of_kind(app: &TestApp, kind: &str) -> Value {
    let report = app.get("/v1/usage?by=kind").send().await.ok(200);
    let sums = report["usage"].as_array().expect("sums");
    sums.iter().find(|sum| sum["kind"] == kind).cloned().unwrap_or_default()
}

fn close(given: &Value, wanted: f64) -> bool {
    given.as_f64().is_some_and(|given| (given - wanted).abs() < 1e-9)
}

#[tokio::test]
async fn what_is_stored_is_in_the_usage() {
    let app = TestApp::new().await;
    upload(&app, "filename=a.txt", vec![b'x'; 1_000_000]).send().await.ok(201);
    app.hub.blobs.meter().await.expect("metered");
    assert_eq!(of_kind(&app, "storage").await, Value::Null, "nothing has passed yet");
    for _ in 0..2 {
        app.clock.advance_ms(HOUR_MS);
        app.hub.blobs.meter().await.expect("metered");
        app.hub.blobs.meter().await.expect("nothing to meter");
    }
    let sum = of_kind(&app, "storage").await;
    assert!(close(&sum["storage_gb_hours"], 0.002), "{sum}");
    // A dollar for a GB-hour.
    assert!(close(&sum["cost_usd"], 0.002), "{sum}");
    assert_eq!(
        (&sum["calls"], &sum["unpriced_calls"], sum.get("sandbox_seconds")),
        (&json!(0), &json!(0), None)
    );
    let total = &app.get("/v1/usage?by=provider,model").send().await.ok(200);
    assert_eq!(
        (&total["usage"][0]["provider"], &total["usage"][0]["model"]),
        (&json!("neuralhub"), &json!("blobs"))
    );
    assert!(close(&total["total"]["storage_gb_hours"], 0.002), "{total}");
}

#[tokio::test]
async fn what_sandboxes_took_is_in_the_usage() {
    let app = TestApp::new().await;
    let (store, now) = (&app.hub.store, app.clock.now());
    let sandbox = SandboxRecord {
        id: SandboxId::generate(app.ids.as_ref()),
        workspace_id: app.workspace_id.clone(),
        node: "one".to_owned(),
        template: "python".to_owned(),
        isolation: Isolation::Gvisor,
        state: SandboxState::Starting,
        stop_reason: None,
        created_by: "key:1".to_owned(),
        run_id: None,
        memory_mb: 512,
        cpu_millis: 500,
        created_at: now,
        expires_at: now.plus_millis(HOUR_MS),
        stopped_at: None,
    };
    let id = sandbox.id.clone();
    store.write(Begin { sandbox, most: 3, hold_ms: HOUR_MS }).await.expect("begun");
    let started = Started { id: id.clone(), at: now, expires_at: now.plus_millis(HOUR_MS) };
    assert!(store.write(started).await.expect("started"));
    for seconds in [90, 180] {
        let meter = Meter {
            workspace_id: app.workspace_id.clone(),
            id: id.clone(),
            until: now.plus_millis(seconds * 1000),
            price_per_hour: Some(0.2),
            accounts: Vec::new(),
        };
        store.write(meter).await.expect("metered");
    }
    app.clock.advance_ms(HOUR_MS);
    let sum = of_kind(&app, "sandbox").await;
    assert_eq!((&sum["sandbox_seconds"], &sum["calls"]), (&json!(180.0), &json!(1)), "{sum}");
    assert!(close(&sum["cost_usd"], 0.01) && sum.get("storage_gb_hours").is_none(), "{sum}");
    let keys = app.get("/v1/usage?by=key,model").send().await.ok(200);
    assert_eq!((&keys["usage"][0]["key_id"], &keys["usage"][0]["model"]), (&json!(1), &json!("python")));
}
