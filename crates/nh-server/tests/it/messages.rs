//! `/v1/messages`: with the built-in model, and with providers that fail.

use axum::response::IntoResponse;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};
use crate::upstream::{MODEL, app_with};

const PATH: &str = "/v1/messages";

/// The type of an error in Anthropic's form.
#[track_caller]
pub(crate) fn error(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status.as_u16(), status, "{reply:?}");
    let body = reply.json();
    assert_eq!(body["type"], "error", "{body}");
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()), "{body}");
    for header in ["request-id", "x-request-id"] {
        assert_eq!(body["request_id"], reply.header(header));
    }
    body["error"]["type"].as_str().expect("a type").to_owned()
}

fn body(model: &str, stream: bool) -> Value {
    json!({"model": model, "max_tokens": 64, "stream": stream, "system": "You are an assistant.",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hello!"}]}]})
}

#[tokio::test]
async fn a_whole_answer_has_anthropics_form() {
    let app = TestApp::new().await;
    let answer = app.post(PATH, body("neuralhub/offline", false)).send().await.ok(200);
    assert!(answer["id"].as_str().is_some_and(|id| id.starts_with("msg_")), "{answer}");
    assert_eq!((&answer["type"], &answer["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!((&answer["content"][0]["type"], &answer["stop_reason"]), (&json!("text"), &json!("end_turn")));
    assert!(answer["usage"]["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{answer}");
}

#[tokio::test]
async fn a_stream_is_made_of_events() {
    let app = TestApp::new().await;
    let reply = app.post(PATH, body("neuralhub/offline", true)).send().await;
    assert_eq!(reply.status.as_u16(), 200);
    assert_eq!(reply.header("content-type"), "text/event-stream");
    let text = String::from_utf8(reply.body.to_vec()).expect("text");
    let names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    assert_eq!(names[..2], ["message_start", "content_block_start"], "{text}");
    assert_eq!(names[names.len() - 3..], ["content_block_stop", "message_delta", "message_stop"], "{text}");
}

#[tokio::test]
async fn tokens_are_counted_without_a_model() {
    let app = TestApp::new().await;
    let count = app.post(
        "/v1/messages/count_tokens",
        json!({"model": "m", "messages": [{"role": "user", "content": "Hello!"}]}),
    );
    assert!(count.send().await.ok(200)["input_tokens"].as_u64().is_some_and(|tokens| tokens > 0));
    let nothing = app.post("/v1/messages/count_tokens", json!({"model": "m"})).send().await;
    assert_eq!(error(&nothing, 400), "invalid_request_error");
}

#[tokio::test]
async fn errors_have_anthropics_form_wherever_they_arise() {
    let app = TestApp::new().await;
    for stream in [false, true] {
        let unknown = app.post(PATH, body("no/such", stream)).send().await;
        assert_eq!(error(&unknown, 404), "not_found_error");
    }
    let mut unbounded = body("neuralhub/offline", false);
    unbounded.as_object_mut().expect("an object").remove("max_tokens");
    let reply = app.post(PATH, unbounded).send().await;
    assert_eq!(error(&reply, 400), "invalid_request_error");
    let told = reply.json()["error"]["message"].clone();
    assert_eq!(told, "`max_tokens` is missing; it must be a whole number");
    let garbled = app.call(Method::POST, PATH).header("content-type", "application/json").body("{");
    assert_eq!(error(&garbled.send().await, 400), "invalid_request_error");
    let text = app.call(Method::POST, PATH).header("content-type", "text/plain").body("{}");
    assert_eq!(error(&text.send().await, 415), "invalid_request_error");
    let large = app.post(PATH, json!({})).header("content-length", "9999999999");
    assert_eq!(error(&large.send().await, 413), "request_too_large");
    assert_eq!(error(&app.get(PATH).send().await, 405), "invalid_request_error");
    let limited = app_with(|| (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "7")]).into_response()).await;
    let reply = limited.post(PATH, body(MODEL, true)).send().await;
    assert_eq!(error(&reply, 429), "rate_limit_error");
    assert_eq!(reply.header("retry-after"), "7");
}

#[tokio::test]
async fn a_fault_is_named_as_the_client_put_it() {
    let app = app_with(|| StatusCode::OK.into_response()).await;
    let document = json!({"type": "document", "source": {"type": "url", "url": "https://a.b/c.pdf"}});
    for stream in [false, true] {
        let mut asked = body(MODEL, stream);
        asked["messages"][0]["content"] = json!([document]);
        let reply = app.post(PATH, asked).send().await;
        assert_eq!(error(&reply, 400), "invalid_request_error");
        assert!(
            reply.json()["error"]["message"].as_str().is_some_and(|told| told.starts_with("`messages[0]` "))
        );
    }
    let betas = app.post(PATH, body(MODEL, false)).header("anthropic-beta", &"x".repeat(2_000));
    let reply = betas.send().await;
    assert_eq!(error(&reply, 400), "invalid_request_error");
    assert!(
        reply.json()["error"]["message"].as_str().is_some_and(|told| told.starts_with("`anthropic-beta` "))
    );
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_in_an_error_event() {
    let app = app_with(|| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": null}]});
        ([("content-type", "text/event-stream")], format!("data: {chunk}\n\n")).into_response()
    })
    .await;
    let reply = app.post(PATH, body(MODEL, true)).send().await;
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let last = text.trim_end().rsplit("\n\n").next().expect("an event");
    assert!(last.starts_with("event: error\n") && last.contains("api_error"), "{text}");
    assert!(text.contains("Hel") && !text.contains("message_stop"), "{text}");
}

#[tokio::test]
async fn a_key_may_come_as_anthropics_clients_send_it() {
    let app = TestApp::new().await;
    let ask = |key: &str| {
        app.anonymous(Method::POST, PATH).header("x-api-key", key).json(body("neuralhub/offline", false))
    };
    assert_eq!(ask(&app.key).send().await.status.as_u16(), 200);
    for wrong in ["nh_wrong", "sk-ant-x"] {
        assert_eq!(error(&ask(wrong).send().await, 401), "authentication_error");
    }
    let few = app.key_with("models:read").await;
    assert_eq!(error(&ask(&few).send().await, 403), "permission_error");
    let both = ask("nh_wrong").key(&app.key).send().await;
    assert_eq!(both.status.as_u16(), 200, "a bearer comes first");
    let both = ask(&app.key).key("nh_wrong").send().await;
    assert_eq!(error(&both, 401), "authentication_error");
    let list = app.anonymous(Method::GET, "/v1/models").header("x-api-key", &app.key).send().await;
    assert_eq!(list.status.as_u16(), 200);
}
