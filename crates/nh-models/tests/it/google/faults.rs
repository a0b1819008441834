//! What Gemini refuses, blocks and breaks off.

use nh_testkit::upstream::{Part, Reply};
use nh_types::ApiError;
use serde_json::{Value, json};

use super::{gemini, says};
use crate::harness::{chunks, hello, hello_streamed};

/// Google's error body.
fn error(status: u16, word: &str, message: &str, details: Value) -> Reply {
    let error = json!({"code": status, "message": message, "status": word, "details": details});
    Reply::json(status, &json!({"error": error}))
}

#[tokio::test]
async fn an_answer_ends_in_openais_words() {
    let (hub, upstream) = gemini().await;
    for (reason, expected) in [
        ("STOP", "stop"),
        ("MAX_TOKENS", "length"),
        ("SAFETY", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"),
        ("SOMETHING_NEW", "stop"),
    ] {
        let answer = says(json!([{"text": "Hi"}]), json!(reason), json!({"promptTokenCount": 1}));
        upstream.reply(Reply::json(200, &answer));
        upstream.reply(Reply::chunks(&[answer]));
        let whole = hub.chat(hello("priced")).await.expect("an answer");
        assert_eq!(whole["choices"][0]["finish_reason"], expected);
        let stream = hub.stream(hello_streamed("priced")).await.expect("a stream");
        assert_eq!(chunks(&stream)[0]["choices"][0]["finish_reason"], expected);
    }
}

#[tokio::test]
async fn a_blocked_prompt_is_an_empty_answer_that_says_so() {
    let (hub, upstream) = gemini().await;
    let blocked = json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}});
    upstream.reply(Reply::json(200, &blocked));
    upstream.reply(Reply::chunks(&[blocked]));
    let answer = hub.chat(hello("priced")).await.expect("an answer");
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&json!("content_filter"), &json!(""))
    );
    assert_eq!(answer["usage"]["prompt_tokens"], 5);
    let stream = hub.stream(hello_streamed("priced")).await.expect("a stream");
    assert_eq!(chunks(&stream)[0]["choices"][0]["finish_reason"], "content_filter");
    assert!(stream.ends_with("data: [DONE]\n\n"));
}

#[tokio::test]
async fn googles_errors_become_the_errors_that_clients_understand() {
    let bad_key = json!([{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]);
    let delay = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "16.2s"}]);
    for (reply, status, code, retry_after) in [
        (error(400, "INVALID_ARGUMENT", "no such field", json!([])), 400, "invalid_request", None),
        (error(400, "INVALID_ARGUMENT", "API key not valid.", bad_key), 502, "upstream_refused", None),
        (error(403, "PERMISSION_DENIED", "no", Value::Null), 502, "upstream_refused", None),
        (error(404, "NOT_FOUND", "no such model", Value::Null), 404, "model_not_found", None),
        (error(429, "RESOURCE_EXHAUSTED", "quota", delay), 429, "rate_limited", Some(17)),
        (error(503, "UNAVAILABLE", "overloaded", Value::Null), 502, "upstream_error", None),
        (Reply::json(200, &json!({"usageMetadata": {}})), 502, "upstream_error", None),
        (
            Reply::json(200, &says(json!([]), json!("MALFORMED_FUNCTION_CALL"), json!({}))),
            502,
            "upstream_error",
            None,
        ),
    ] {
        let (hub, upstream) = gemini().await;
        let shown = format!("{reply:?}");
        (0..3).for_each(|_| upstream.reply(reply.clone()));
        let error = ApiError::from(hub.chat(hello("priced")).await.expect_err("an error"));
        let told = (error.code.status(), error.code.as_str(), error.retry_after_seconds);
        assert_eq!(told, (status, code, retry_after), "{shown}");
    }
    let (hub, upstream) = gemini().await;
    upstream.reply(error(503, "UNAVAILABLE", "overloaded", Value::Null));
    upstream.reply(Reply::json(200, &says(json!([{"text": "Hi"}]), json!("STOP"), json!({}))));
    hub.chat(hello("priced")).await.expect("an answer");
    assert_eq!(upstream.calls().len(), 2);
}

#[tokio::test]
async fn a_stream_that_fails_never_looks_complete() {
    let begun =
        || Reply::chunks(&[says(json!([{"text": "Hel"}]), Value::Null, json!({"promptTokenCount": 9}))]);
    let failing = json!({"error": {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}});
    let malformed = says(json!([]), json!("MALFORMED_FUNCTION_CALL"), json!({"promptTokenCount": 9}));
    for (reply, code, words) in [
        (begun(), "upstream_error", "in the middle"),
        (begun().then(Part::Cut), "upstream_error", "broke off"),
        (begun().then(Part::Data("{\"candidates\": [".to_owned())), "upstream_error", "not a JSON object"),
        (begun().then(Part::json(&failing)), "rate_limited", "slow down"),
        (begun().then(Part::json(&malformed)), "upstream_error", "MALFORMED_FUNCTION_CALL"),
    ] {
        let (hub, upstream) = gemini().await;
        upstream.reply(reply);
        let stream = hub.stream(hello_streamed("priced")).await.expect("a stream");
        let chunks = chunks(&stream);
        assert_eq!(chunks[0]["choices"][0]["delta"]["content"], "Hel");
        let error = &chunks.last().expect("a chunk")["error"];
        assert_eq!(error["code"], code, "{words}");
        assert!(error["message"].as_str().expect("a text").contains(words), "{error}");
        assert!(!stream.contains("[DONE]"));
    }
}

#[tokio::test]
async fn requests_that_gemini_cannot_take_are_refused_by_field() {
    let (hub, upstream) = gemini().await;
    let chat = |messages: Value| json!({"model": "priced", "messages": messages});
    let user = |part: Value| chat(json!([{"role": "user", "content": [part]}]));
    let calling = |arguments: &str| {
        let call = json!({"id": "c", "function": {"name": "f", "arguments": arguments}});
        chat(json!([{"role": "assistant", "tool_calls": [call]}]))
    };
    let choosing = |choice: Value| {
        json!({"model": "priced", "messages": [{"role": "user", "content": "x"}], "tool_choice": choice,
            "tools": [{"type": "function", "function": {"name": "f"}}]})
    };
    for (body, param) in [
        (chat(json!([{"role": "critic", "content": "x"}])), "messages[0].role"),
        (chat(json!([{"role": "user", "content": 7}])), "messages[0].content"),
        (user(json!({"type": "video", "video": 1})), "messages[0].content[0].type"),
        (
            user(json!({"type": "image_url", "image_url": {"url": "iVBORw0"}})),
            "messages[0].content[0].image_url.url",
        ),
        (user(json!({"type": "file", "file": {"file_id": "f"}})), "messages[0].content[0].file.file_data"),
        (
            user(json!({"type": "input_audio", "input_audio": {"data": "x"}})),
            "messages[0].content[0].input_audio",
        ),
        (calling("[1]"), "messages[0].tool_calls[0].function.arguments"),
        (chat(json!([{"role": "tool", "tool_call_id": "x", "content": "y"}])), "messages[0].tool_call_id"),
        (choosing(json!("sometimes")), "tool_choice"),
    ] {
        let error = ApiError::from(hub.chat(body).await.expect_err("an error"));
        assert_eq!((error.code.status(), error.param.as_deref()), (400, Some(param)), "{error}");
    }
    let tokens = json!({"model": "gemini-embedding-001", "input": [[1, 2]]});
    let error = ApiError::from(hub.embed(tokens).await.expect_err("an error"));
    assert_eq!(error.param.as_deref(), Some("input[0]"));
    assert!(upstream.calls().is_empty());
}

#[tokio::test]
async fn what_the_system_says_alone_is_answered() {
    let (hub, upstream) = gemini().await;
    upstream.reply(Reply::json(
        200,
        &says(json!([{"text": "Hi"}]), json!("STOP"), json!({"promptTokenCount": 1})),
    ));
    let system = json!([{"role": "system", "content": "Say hi."}]);
    hub.chat(json!({"model": "priced", "messages": system})).await.expect("an answer");
    let seen = &upstream.calls()[0].body;
    assert_eq!(seen["contents"], json!([{"role": "user", "parts": [{"text": "Say hi."}]}]));
    assert_eq!(seen.get("systemInstruction"), None);
    let nothing = json!({"model": "priced", "messages": [{"role": "user", "content": ""}]});
    let error = ApiError::from(hub.chat(nothing).await.expect_err("nothing is said"));
    assert_eq!(error.param.as_deref(), Some("messages"));
}

#[tokio::test]
async fn an_answer_that_cannot_be_used_is_paid_for() {
    let (mut hub, upstream) = gemini().await;
    let used = json!({"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 4});
    let answer = says(json!([]), json!("MALFORMED_FUNCTION_CALL"), used);
    (0..3).for_each(|_| upstream.reply(Reply::json(200, &answer)));
    hub.chat(hello("priced")).await.expect_err("a fault");
    let row = hub.rows.next_row().await.expect("a row");
    assert_eq!((row.usage.input_tokens, row.usage.output_tokens), (9, 7));
}
