//! `/v1/run/{runId}/events`: the journal as JSON and as a stream.

use http_body_util::BodyExt;
use nh_store::runs::{EventRow, Insert, RunRecord};
use nh_types::model::Usage;
use nh_types::run::{RunState, RunType};
use nh_types::{Clock, RunId, ScopeSet};
use serde_json::{Value, json};

use crate::app::{Call, TestApp};
use crate::runs::calculation;

async fn finished_run(app: &TestApp) -> String {
    let run = app.post("/v1/run", calculation(json!({}))).send().await.ok(200);
    format!("/v1/run/{}/events", run["runId"].as_str().expect("id"))
}

/// `(id, event, data)` of each frame; comments are left out.
fn frames(text: &str) -> Vec<(i64, String, Value)> {
    let field = |frame: &str, name: &str| {
        let line = frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        line.unwrap_or_else(|| panic!("no {name} in {frame}")).to_owned()
    };
    let whole = text.split("\n\n").filter(|frame| !frame.is_empty() && !frame.starts_with(':'));
    whole
        .map(|frame| {
            let data = serde_json::from_str(&field(frame, "data")).expect("json");
            (field(frame, "id").parse().expect("id"), field(frame, "event"), data)
        })
        .collect()
}

fn stream(app: &TestApp, path: &str) -> Call {
    app.get(path).header("accept", "text/event-stream")
}

#[tokio::test]
async fn the_journal_is_paged_as_json() {
    let app = TestApp::new().await;
    let path = finished_run(&app).await;
    let page = app.get(&path).send().await.ok(200);
    let events = page["events"].as_array().expect("events");
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("type")).collect();
    assert_eq!(kinds, ["run.created", "step.started", "step.completed", "run.succeeded"]);
    assert_eq!(page["next_cursor"], json!(null));
    let first = app.get(&format!("{path}?limit=3")).send().await.ok(200);
    let cursor = first["next_cursor"].as_str().expect("cursor");
    let rest = app.get(&format!("{path}?cursor={cursor}")).send().await.ok(200);
    assert_eq!(rest["events"], json!([events[3]]));
    assert_eq!(app.get(&format!("{path}?cursor=eHg")).send().await.error(422).1.as_deref(), Some("cursor"));
}

#[tokio::test]
async fn a_finished_run_is_replayed_and_the_stream_ends() {
    let app = TestApp::new().await;
    let path = finished_run(&app).await;
    let reply = stream(&app, &path).send().await;
    assert_eq!(reply.header("content-type"), "text/event-stream");
    // A cache must not give one form to who asked for the other.
    assert_eq!(reply.header("vary"), "Accept");
    assert_eq!(app.get(&path).send().await.header("vary"), "Accept");
    let all = frames(std::str::from_utf8(&reply.body).expect("text"));
    assert_eq!(all.iter().map(|frame| frame.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let page = app.get(&path).send().await.ok(200);
    assert_eq!(json!(all.iter().map(|frame| &frame.2).collect::<Vec<_>>()), page["events"]);
    assert!(all.iter().all(|(_, kind, data)| data["type"] == json!(kind)));
}

#[tokio::test]
async fn a_client_that_comes_back_sees_the_rest_once() {
    let app = TestApp::new().await;
    let path = finished_run(&app).await;
    let reply = stream(&app, &path).header("last-event-id", "2").send().await;
    let rest = frames(std::str::from_utf8(&reply.body).expect("text"));
    assert_eq!(rest.iter().map(|frame| frame.0).collect::<Vec<_>>(), [3, 4]);
    for seen in ["4", "99"] {
        // 204 tells a browser's EventSource not to come back.
        let reply = stream(&app, &path).header("last-event-id", seen).send().await;
        assert_eq!(reply.status.as_u16(), 204);
    }
    for bad in ["-1", "four", "1e9", "99999999999999999999"] {
        let reply = stream(&app, &path).header("last-event-id", bad).send().await;
        assert_eq!(reply.error(400).1.as_deref(), Some("Last-Event-ID"), "{bad}");
    }
}

#[tokio::test]
async fn a_stream_follows_a_run_and_its_connection_does_not_own_it() {
    let app = TestApp::new().await;
    let accepted = app.post("/v1/run", calculation(json!({"async": true}))).send().await.ok(202);
    let path = format!("/v1/run/{}/events", accepted["runId"].as_str().expect("id"));
    // A client that goes away after its first bytes changes nothing.
    let mut gone = stream(&app, &path).open().await.into_body();
    assert!(gone.frame().await.is_some());
    drop(gone);
    let reply = stream(&app, &path).send().await;
    let all = frames(std::str::from_utf8(&reply.body).expect("text"));
    assert_eq!(all.last().map(|frame| frame.1.as_str()), Some("run.succeeded"));
}

/// A run that waits, so that its journal stays as it is.
async fn waiting_run(app: &TestApp) -> String {
    let at = app.clock.now();
    let id = RunId::generate(app.ids.as_ref(), at);
    let run = RunRecord {
        id,
        workspace_id: app.workspace_id.clone(),
        target: "agent_default".to_owned(),
        run_type: RunType::Agent,
        state: RunState::Waiting,
        input: json!({"goal": "wait"}),
        definition: json!({}),
        scopes: ScopeSet::all(),
        created_by: "key:1".to_owned(),
        result: None,
        error: None,
        usage: Usage::NONE,
        metadata: Default::default(),
        created_at: at,
        started_at: None,
        finished_at: None,
        deadline_at: None,
        owner: None,
        epoch: 1,
        cancel_requested: false,
        last_seq: 1,
        priority: 0,
        ready: false,
        wake_at: None,
        timeout_ms: None,
        parent: None,
        signals: 0,
        groups: Vec::new(),
        thread: None,
        webhook_url: None,
    };
    let data = json!({"target": "agent_default", "run_type": "agent"}).into();
    let events = vec![EventRow { seq: 1, kind: "run.created".to_owned(), at, data }];
    app.store().write(Insert { run, events }).await.expect("inserted");
    format!("/v1/run/{id}/events")
}

#[tokio::test]
async fn a_stream_ends_when_its_key_is_revoked() {
    let app = TestApp::new().await;
    let path = waiting_run(&app).await;
    let made = app.post("/v1/keys", json!({"name": "n", "scopes": ["run:read"]})).send().await.ok(201);
    let key = made["key"].as_str().expect("key");
    let mut body = stream(&app, &path).key(key).open().await.into_body();
    let first = body.frame().await.expect("frame").expect("data").into_data().expect("data");
    assert!(first.starts_with(b"id: 1\nevent: run.created\n"));
    app.delete(&format!("/v1/keys/{}", made["id"])).send().await.ok(204);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn streams_and_waits_end_when_the_hub_stops() {
    let app = TestApp::new().await;
    let path = waiting_run(&app).await;
    let mut body = stream(&app, &path).open().await.into_body();
    assert!(body.frame().await.is_some());
    app.stopping.cancel();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn streams_are_for_the_workspaces_own_keys() {
    let app = TestApp::new().await;
    let path = finished_run(&app).await;
    assert_eq!(stream(&app, &path).key("nh_wrong").send().await.code(401), "invalid_credential");
    let (_, theirs) = app.other_workspace().await;
    assert_eq!(stream(&app, &path).key(&theirs).send().await.code(404), "not_found");
}
