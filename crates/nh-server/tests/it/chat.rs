//! `/v1/chat/completions` and `/v1/embeddings`: with the built-in model, and
//! with providers that fail.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::upstream::{app_with, chat};

fn body(stream: Value) -> Value {
    json!({"model": "neuralhub/offline", "stream": stream, "messages": [
        {"role": "system", "content": "You are an assistant."}, {"role": "user", "content": "Hello!"}]})
}

#[tokio::test]
async fn a_whole_answer_has_openais_form() {
    let app = TestApp::new().await;
    for stream in [json!(false), json!(null)] {
        let answer = app.post("/v1/chat/completions", body(stream)).send().await.ok(200);
        assert_eq!(answer["object"], json!("chat.completion"));
        assert_eq!(answer["choices"][0]["index"], json!(0));
        assert_eq!(answer["choices"][0]["message"]["role"], json!("assistant"));
        assert!(answer["choices"][0]["message"]["content"].is_string());
        assert_eq!(answer["choices"][0]["finish_reason"], json!("stop"));
        assert!(answer["usage"]["total_tokens"].is_u64());
    }
}

#[tokio::test]
async fn a_stream_is_made_of_chunks_and_ends_with_done() {
    let app = TestApp::new().await;
    let reply = app.post("/v1/chat/completions", body(json!(true))).send().await;
    assert_eq!(reply.status.as_u16(), 200);
    assert_eq!(reply.header("content-type"), "text/event-stream");
    assert_eq!(reply.header("cache-control"), "no-store");
    assert!(!reply.header("x-request-id").is_empty());
    let text = String::from_utf8(reply.body.to_vec()).expect("text");
    let data: Vec<_> = text.split("\n\n").filter_map(|frame| frame.strip_prefix("data: ")).collect();
    assert_eq!(data.last(), Some(&"[DONE]"), "{text}");
    for chunk in &data[..data.len() - 1] {
        let chunk: Value = serde_json::from_str(chunk).expect(chunk);
        assert_eq!(chunk["object"], json!("chat.completion.chunk"));
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_chat_is_said_before_any_stream() {
    let app = TestApp::new().await;
    let post = |body: Value| app.post("/v1/chat/completions", body).send();
    for stream in [false, true] {
        let unknown =
            json!({"model": "no/such", "messages": [{"role": "user", "content": "x"}], "stream": stream});
        let reply = post(unknown).await;
        assert_eq!(reply.error(404), ("model_not_found".to_owned(), Some("model".to_owned())));
        assert_eq!(reply.header("content-type"), "application/json");
    }
    assert_eq!(post(json!({"messages": []})).await.error(400).1.as_deref(), Some("model"));
    assert_eq!(post(json!({"model": "neuralhub/offline"})).await.error(400).1.as_deref(), Some("messages"));
    assert_eq!(post(body(json!("yes"))).await.error(400).1.as_deref(), Some("stream"));
    assert_eq!(post(json!([])).await.code(400), "invalid_json");
    for (wrong, told) in [
        (body(json!("yes")), "`stream` is \"yes\"; it must be true or false"),
        (json!({"model": 7}), "`model` is 7; it must be the id of a model, as GET /v1/models lists them"),
        (
            json!({"model": "neuralhub/offline", "messages": "hi"}),
            "`messages` is \"hi\"; it must be a list with at least one message",
        ),
        (
            json!({"model": "neuralhub/offline", "messages": [{"role": 1}]}),
            "`messages[0].role` is 1; it must be one of system, developer, user, assistant, tool",
        ),
    ] {
        assert_eq!(post(wrong).await.json()["error"]["message"], told);
    }
    let key = app.key_with("models:read run:write").await;
    let reply = app.post("/v1/chat/completions", body(json!(false))).key(&key).send().await;
    assert_eq!(reply.error(403), ("missing_scope".to_owned(), Some("chat:write".to_owned())));
}

#[tokio::test]
async fn embeddings_of_an_unknown_model_are_a_404() {
    let app = TestApp::new().await;
    let reply = app.post("/v1/embeddings", json!({"model": "no/such", "input": "x"})).send().await;
    assert_eq!(reply.code(404), "model_not_found");
}

fn refusal(status: StatusCode, message: &str) -> Response {
    let body = json!({"error": {"message": message, "type": "x", "code": "y"}});
    (status, [("retry-after", "7")], axum::Json(body)).into_response()
}

#[tokio::test]
async fn a_providers_refusal_is_told_as_what_it_is() {
    let limited = app_with(|| refusal(StatusCode::TOO_MANY_REQUESTS, "slow down")).await;
    let refused = app_with(|| refusal(StatusCode::UNAUTHORIZED, "bad key upstream-secret")).await;
    let rejected = app_with(|| refusal(StatusCode::BAD_REQUEST, "no such parameter")).await;
    let garbled = app_with(|| "not json".into_response()).await;
    for stream in [false, true] {
        let post = |app: &TestApp| app.post("/v1/chat/completions", chat(stream)).send();
        let reply = post(&limited).await;
        assert_eq!(reply.code(429), "rate_limited");
        assert_eq!(reply.header("retry-after"), "7");
        // Our credential is not the client's: never a 401.
        let reply = post(&refused).await;
        assert_eq!(reply.code(502), "upstream_refused");
        assert!(!String::from_utf8_lossy(&reply.body).contains("upstream-secret"), "a secret is told");
        assert_eq!(post(&rejected).await.code(400), "invalid_request");
    }
    let reply = garbled.post("/v1/chat/completions", chat(false)).send().await;
    assert_eq!(reply.code(502), "upstream_error");
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_in_an_error_and_not_as_if_complete() {
    let app = app_with(|| {
        let chunk = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}, "finish_reason": null}]});
        ([("content-type", "text/event-stream")], format!("data: {chunk}\n\n")).into_response()
    })
    .await;
    let reply = app.post("/v1/chat/completions", chat(true)).send().await;
    assert_eq!(reply.status.as_u16(), 200);
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    assert!(text.contains("Hel") && text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
}
