//! `/v1/responses`: with the built-in model, and with a provider that fails.

use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::upstream::{MODEL, app_with};

fn body(stream: Value) -> Value {
    json!({"model": "neuralhub/offline", "stream": stream, "instructions": "You are an assistant.", "input": "Hello!"})
}

/// The events of a stream.
fn events(reply: &crate::app::Reply) -> Vec<Value> {
    let text = String::from_utf8(reply.body.to_vec()).expect("text");
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).expect(data)).collect()
}

#[tokio::test]
async fn a_whole_answer_is_a_response() {
    let app = TestApp::new().await;
    for stream in [json!(false), json!(null)] {
        let answer = app.post("/v1/responses", body(stream)).send().await.ok(200);
        assert_eq!((&answer["object"], &answer["status"]), (&json!("response"), &json!("completed")));
        assert!(answer["output"][0]["content"][0]["text"].is_string(), "{answer}");
        assert!(answer["usage"]["total_tokens"].is_u64() && answer["store"] == false, "{answer}");
    }
    let usage = app.until("/v1/usage", |report| report["total"]["calls"] == 2).await;
    assert_eq!(usage["total"]["calls"], 2);
}

#[tokio::test]
async fn a_stream_is_made_of_named_events() {
    let app = TestApp::new().await;
    let reply = app.post("/v1/responses", body(json!(true))).send().await;
    assert_eq!(reply.status.as_u16(), 200);
    assert_eq!(reply.header("content-type"), "text/event-stream");
    assert_eq!(reply.header("cache-control"), "no-store");
    let events = events(&reply);
    assert_eq!(events[0]["type"], "response.created");
    let last = events.last().expect("events");
    assert_eq!(
        (&last["type"], &last["response"]["status"]),
        (&json!("response.completed"), &json!("completed"))
    );
    assert!(events.iter().enumerate().all(|(number, event)| event["sequence_number"] == number));
}

#[tokio::test]
async fn a_fault_is_named_as_the_client_put_it() {
    let app = app_with(|| http::StatusCode::OK.into_response()).await;
    let file = json!({"type": "input_file", "file_url": "https://a.b/c.pdf"});
    for stream in [false, true] {
        let mut asked = body(json!(stream));
        asked["model"] = json!(MODEL);
        asked["input"] = json!([{"role": "user", "content": [file]}]);
        let reply = app.post("/v1/responses", asked).send().await;
        assert_eq!(reply.error(400), ("invalid_request".to_owned(), Some("input[0]".to_owned())));
    }
}

#[tokio::test]
async fn what_is_wrong_is_said_before_any_stream() {
    let app = TestApp::new().await;
    for stream in [false, true] {
        let post = |field: &str, value: Value| {
            let mut body = body(json!(stream));
            body[field] = value;
            app.post("/v1/responses", body).send()
        };
        let unknown = post("model", json!("no/such")).await;
        assert_eq!(unknown.error(404), ("model_not_found".to_owned(), Some("model".to_owned())));
        assert_eq!(unknown.header("content-type"), "application/json");
        let earlier = post("previous_response_id", json!("resp_1")).await;
        assert_eq!(earlier.error(400).1.as_deref(), Some("previous_response_id"));
        let tool = post("tools", json!([{"type": "web_search"}])).await;
        assert_eq!(tool.error(400).1.as_deref(), Some("tools[0].type"));
    }
    let key = app.key_with("models:read run:write").await;
    let reply = app.post("/v1/responses", body(json!(false))).key(&key).send().await;
    assert_eq!(reply.error(403), ("missing_scope".to_owned(), Some("chat:write".to_owned())));
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_as_failed() {
    let app = app_with(|| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": null}]});
        ([("content-type", "text/event-stream")], format!("data: {chunk}\n\n")).into_response()
    })
    .await;
    let reply =
        app.post("/v1/responses", json!({"model": MODEL, "stream": true, "input": "Hello!"})).send().await;
    let events = events(&reply);
    let last = events.last().expect("events");
    assert_eq!(last["type"], "response.failed");
    assert_eq!(last["response"]["output"][0]["content"][0]["text"], "Hel");
    assert!(last["response"]["error"]["message"].is_string(), "{last}");
}
