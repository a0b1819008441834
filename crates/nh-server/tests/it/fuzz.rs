//! The fuzz targets of the run request and of memories, at the edge: whatever
//! comes, the answer is a good one or a client's error with the one body, never a
//! 5xx. Runs on stable Rust; `make test-long` tries many more bodies.

use http::Method;
use nh_testkit::cases;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use crate::app::TestApp;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("agent_default".to_owned()),
        Just("calculate".to_owned()),
        Just("web_search".to_owned()),
        Just("2026-02-06T12:00:00Z".to_owned()),
        ".{0,12}",
        "[\\x00-\\x1f\"\\\\{}\u{2028}\u{feff}]{0,4}",
    ]
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0_i64..400).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text().prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just("goal"), Just("messages"), Just("role"), Just("content"), Just("expression")];
    leaf().prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name.clone().prop_map(str::to_owned), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Bodies near the right form: a right one with some of its fields changed.
fn near_body() -> impl Strategy<Value = Value> {
    const FIELDS: [&str; 14] = [
        "target",
        "type",
        "input",
        "async",
        "wait_seconds",
        "timeout_seconds",
        "metadata",
        "thread_id",
        "priority",
        "delay_seconds",
        "budget",
        "webhook_url",
        "colour",
        "",
    ];
    let right = prop_oneof![
        Just(json!({"target": "calculate", "type": "tool", "input": {"expression": "1 + 1"}})),
        Just(json!({"target": "agent_default", "type": "agent", "input": {"goal": "Hello"}})),
    ];
    let changes = prop::collection::vec((prop::sample::select(&FIELDS[..]), value()), 0..4);
    (right, changes).prop_map(|(right, changes)| {
        let mut fields: Map<String, Value> = right.as_object().cloned().unwrap_or_default();
        fields.extend(changes.into_iter().map(|(name, value)| (name.to_owned(), value)));
        // A run that begins later, or behind another of its thread, is not waited
        // for: that may take as long as the hub lets a client wait.
        if fields.get("delay_seconds").is_some_and(|delay| delay.as_i64() > Some(0))
            || fields.get("thread_id").is_some_and(Value::is_string)
        {
            fields.insert("async".to_owned(), json!(true));
        }
        Value::Object(fields)
    })
}

/// Mostly this, and what is near it or far from it.
fn any_bytes(near: impl Strategy<Value = Value> + Clone + 'static) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => near.clone().prop_map(|body| body.to_string().into_bytes()),
        1 => value().prop_map(|body| body.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..64),
        // A right body, cut off or with a byte changed.
        2 => (near, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(body, at, byte)| {
            let mut bytes = body.to_string().into_bytes();
            let at = at.index(bytes.len());
            if byte < 128 { bytes[at] = byte } else { bytes.truncate(at) }
            bytes
        }),
    ]
}

fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig {
        cases: cases(256),
        failure_persistence: None,
        ..ProptestConfig::default()
    })
}

#[test]
fn any_run_request_is_a_run_or_a_client_error() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let app = runtime.block_on(TestApp::new());
    let outcome = runner().run(&any_bytes(near_body().boxed()), |body| {
        let call = app.post("/v1/run", Value::Null).body(body);
        let reply = runtime.block_on(call.send());
        let status = reply.status.as_u16();
        let answer = reply.json();
        // web_search has no provider here: the one 503 that a request can ask for.
        let missing_part = status == 503 && answer["error"]["code"] == "component_unavailable";
        prop_assert!(status < 500 || missing_part, "{status} {answer}");
        if status >= 400 {
            prop_assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
            prop_assert!(answer["error"]["request_id"].is_string());
        } else {
            prop_assert!(answer["runId"].is_string(), "{status} {answer}");
        }
        Ok(())
    });
    outcome.expect("no body breaks the hub");
}

/// A memory with some of its fields changed.
fn near_memory() -> impl Strategy<Value = Value> {
    const FIELDS: [&str; 6] = ["content", "metadata", "namespace", "expires_at", "id", ""];
    let changes = prop::collection::vec((prop::sample::select(&FIELDS[..]), value()), 0..3);
    (text(), changes).prop_map(|(content, changes)| {
        let mut fields = Map::from_iter([("content".to_owned(), Value::from(content))]);
        fields.extend(changes.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Value::Object(fields)
    })
}

fn filter() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 14] = [
        "$eq",
        "$ne",
        "$in",
        "$gt",
        "$gte",
        "$lt",
        "$lte",
        "$exists",
        "$not",
        "$and",
        "$or",
        "role",
        "goal.content",
        "a..b",
    ];
    leaf().prop_recursive(6, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(&NAMES[..]), inner), 0..4).prop_map(|fields| {
                fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            }),
        ]
    })
}

/// What is asked of memories: a method, what follows `/v1/memory`, and a body.
type Asked = (Method, String, Vec<u8>);

fn query(pairs: &[(&str, String)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

fn filtered() -> impl Strategy<Value = String> {
    filter().prop_map(|filter| query(&[("filter", filter.to_string()), ("namespace", "*".to_owned())]))
}

fn search() -> impl Strategy<Value = String> {
    let bounds = (prop::option::of(-2_i64..110), prop::option::of(-1.1..1.1));
    (filtered(), text(), bounds).prop_map(|(filtered, text, (limit, least))| {
        let mut pairs = vec![("q", text)];
        pairs.extend(limit.map(|limit| ("limit", limit.to_string())));
        pairs.extend(least.map(|least: f64| ("min_similarity", least.to_string())));
        format!("/search?{filtered}&{}", query(&pairs))
    })
}

fn any_request() -> impl Strategy<Value = Asked> {
    let body = || any_bytes(near_memory().boxed());
    let get = |path: String| (Method::GET, path, Vec::new());
    prop_oneof![
        3 => body().prop_map(|body| (Method::POST, String::new(), body)),
        3 => body().prop_map(|body| (Method::PATCH, "/ID".to_owned(), body)),
        3 => prop::collection::vec(body(), 0..4)
            .prop_map(|lines| (Method::POST, "/import".to_owned(), lines.join(&b'\n'))),
        4 => search().prop_map(get),
        1 => filtered().prop_map(move |filtered| get(format!("?{filtered}"))),
        1 => filtered().prop_map(move |filtered| get(format!("/export?{filtered}"))),
        1 => text().prop_map(move |text| {
            get(format!("/{}", url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()))
        }),
    ]
}

#[test]
fn any_request_of_memories_is_answered_or_a_client_error() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let app = runtime.block_on(TestApp::new());
    let kept = json!({"content": "Tea is at four.", "namespace": "kept"});
    let kept = runtime.block_on(app.post("/v1/memory", kept).send()).ok(201)["id"].clone();
    let other = json!({"content": "Bread is bought on Fridays."});
    let other = runtime.block_on(app.post("/v1/memory", other).send()).ok(201)["id"].clone();
    let outcome = runner().run(&any_request(), |(method, path, body)| {
        let path = path.replace("ID", other.as_str().expect("an id"));
        let media_type = if path == "/import" { "application/x-ndjson" } else { "application/json" };
        let call = app.call(method, &format!("/v1/memory{path}")).header("content-type", media_type);
        let reply = runtime.block_on(call.body(body).send());
        let status = reply.status.as_u16();
        prop_assert!(status < 500, "{reply:?}");
        if status >= 400 {
            let answer = reply.json();
            prop_assert!(answer["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
            prop_assert!(answer["error"]["request_id"].is_string());
        }
        Ok(())
    });
    outcome.expect("no request breaks the hub");
    let found = app.get("/v1/memory/search?q=When+do+we+drink+tea&namespace=kept");
    assert_eq!(runtime.block_on(found.send()).ok(200)[0]["id"], kept);
}
