//! `/v1/run/{runId}/events`: the journal as JSON and as a stream.

use http_body_util::BodyExt;
use nh_store::runs::{Apart, EventRow, Insert, RunRecord};
use nh_testkit::upstream::{Part, Reply, chunk};
use nh_types::model::Usage;
use nh_types::run::{RunState, RunType};
use nh_types::{Clock, RunId, ScopeSet};
use serde_json::{Value, json};

use crate::agent_runs::{app_and_model, call, calls};
use crate::app::{Call, TestApp};
use crate::runs::calculation;
use crate::waits::{ended, start, until_waiting};

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
        apart: Apart::default(),
        webhook_url: None,
    };
    let data = json!({"target": "agent_default", "run_type": "agent"}).into();
    let events = vec![EventRow { seq: 1, kind: "run.created".to_owned(), at, data }];
    app.store().write(Insert::new(run, events)).await.expect("inserted");
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

/// What comes of a stream until `is_enough`.
async fn read_until(body: &mut axum::body::Body, is_enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let reading = async {
        while !is_enough(&text) {
            let Some(frame) = body.frame().await else { return };
            let data = frame.expect("a frame").into_data().expect("data");
            text.push_str(std::str::from_utf8(&data).expect("text"));
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), reading).await.expect("it comes");
    text
}

/// A run that waits for an approval, after which the model answers so.
async fn before_an_answer(answer: Reply) -> (TestApp, nh_testkit::upstream::Upstream, String) {
    let ask = calls(&[call("c1", "calculate", "{\"expression\": \"1 + 1\"}")]);
    let (app, upstream) = app_and_model([ask, answer]).await;
    let change = json!({"requires_approval": ["calculate"]});
    app.call(http::Method::PATCH, "/v1/agents/a").json(change).send().await.ok(200);
    let id = start(&app, "a", "agent", json!({"goal": "Add."})).await;
    until_waiting(&app, &id, 1).await;
    (app, upstream, id)
}

#[tokio::test]
async fn the_models_words_stand_between_its_steps_start_and_end() {
    let pieces = ["T", "w", "o", "."].map(|text| chunk(json!({"content": text}), None));
    let answer = Reply::chunks(&pieces).then(Part::json(&chunk(json!({}), Some("stop")))).done();
    let (app, _upstream, id) = before_an_answer(answer).await;
    let path = format!("/v1/run/{id}/events");
    let mut body = stream(&app, &path).open().await.into_body();
    read_until(&mut body, |text| text.contains("approval:1.1")).await;
    app.post(&format!("/v1/run/{id}/approve"), json!({})).send().await.ok(202);
    let text = read_until(&mut body, |_| false).await;
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("no {what} in {text}"));
    let starts = place("event: step.started\ndata: {\"seq\":8");
    let words: Vec<_> = text.match_indices("event: step.delta\ndata: ").map(|(at, _)| at).collect();
    assert!(
        words.iter().all(|at| *at > starts && *at < text.rfind("event: step.completed").unwrap()),
        "{text}"
    );
    let said: String = words
        .iter()
        .map(|at| {
            let frame = text[*at..].split("\n\n").next().unwrap();
            let data: Value = serde_json::from_str(frame.split("data: ").nth(1).unwrap()).unwrap();
            assert_eq!(data["step"], "model:2", "{frame}");
            data["delta"]["content"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert_eq!(said, "Two.");
    let again = stream(&app, &path).send().await;
    assert!(!std::str::from_utf8(&again.body).unwrap().contains("step.delta"), "words are not kept");
}

#[tokio::test]
async fn a_cancel_stops_a_model_call_in_the_middle_of_its_words() {
    let answer =
        Reply::chunks(&[chunk(json!({"role": "assistant", "content": "Tw"}), None)]).then(Part::Hang);
    let (app, upstream, id) = before_an_answer(answer).await;
    let mut body = stream(&app, &format!("/v1/run/{id}/events")).open().await.into_body();
    app.post(&format!("/v1/run/{id}/approve"), json!({})).send().await.ok(202);
    read_until(&mut body, |text| text.contains("\"content\":\"Tw\"")).await;
    let cancelled = app.post(&format!("/v1/run/{id}/cancel"), json!({})).send().await.ok(200);
    assert_eq!(cancelled["state"], json!("CANCELLED"));
    upstream.abandoned().await;
    let text = read_until(&mut body, |_| false).await;
    assert!(text.contains("event: run.cancelled"), "{text}");
    assert_eq!(ended(&app, &id).await["state"], json!("CANCELLED"));
}
