//! Streams, and how they end.

use futures_util::StreamExt;
use nh_models::ProviderKind;
use nh_models::served::messages;
use nh_testkit::upstream::{Part, Reply, Upstream, chunk};
use nh_types::{ApiError, ErrorCode};
use serde_json::{Value, json};

use super::{asked, done, emitted, frame, gathered, parsed};
use crate::harness::{caller, hub, object, provider};

#[test]
fn one_block_is_open_at_a_time_also_where_calls_come_mixed() {
    let piece = |index: u64, more: Value| {
        let mut call = json!({"index": index});
        call.as_object_mut().expect("an object").extend(object(more));
        frame(&chunk(json!({"tool_calls": [call]}), None))
    };
    let head = |name: &str| json!({"id": name, "function": {"name": name, "arguments": ""}});
    let more = |text: &str| json!({"function": {"arguments": text}});
    let events = emitted(&[
        frame(&chunk(json!({"role": "assistant", "content": "Well"}), None)),
        piece(0, head("a")),
        piece(1, head("b")),
        piece(0, more("{\"x\"")),
        piece(1, more("{\"y\":")),
        piece(0, more(":1}")),
        piece(1, more("2}")),
        frame(&chunk(json!({"content": "!"}), None)),
        frame(&chunk(json!({}), Some("tool_calls"))),
        done(),
    ]);
    assert_eq!(
        gathered(&events)["content"],
        json!([{"type": "text", "text": "Well"}, {"type": "tool_use", "id": "a", "name": "a", "input": {"x": 1}},
            {"type": "tool_use", "id": "b", "name": "b", "input": {"y": 2}}, {"type": "text", "text": "!"}])
    );
    // The second began as soon as the first was whole.
    let at = |index: u64, kind: &str| {
        events.iter().position(|event| event["index"] == index && event["type"] == kind).expect("an event")
    };
    assert!(at(2, "content_block_start") < at(2, "content_block_stop") - 2);
}

#[test]
fn a_stream_that_fails_ends_in_an_error() {
    let error = ApiError::new(ErrorCode::RateLimited, "slow down");
    let told = serde_json::to_value(error.body(None)).expect("JSON");
    let begun = frame(&chunk(json!({"role": "assistant", "content": "Hel"}), None));
    let events = emitted(&[
        b": keep-alive\n\n".to_vec(),
        begun.clone(),
        b": keep-alive\n\n".to_vec(),
        frame(&told),
        begun.clone(),
    ]);
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().expect("a type")).collect();
    assert_eq!(kinds, ["message_start", "content_block_start", "content_block_delta", "ping", "error"]);
    assert_eq!(events[4]["error"], json!({"type": "rate_limit_error", "message": "slow down"}));
    assert_eq!(gathered(&emitted(&[begun]))["error"]["type"], "api_error");
}

#[tokio::test]
async fn the_offline_model_and_a_mock_answer_a_stream() {
    let body = |model: &str| {
        asked(
            json!({"model": model, "max_tokens": 64, "stream": true, "messages": [{"role": "user", "content": "Hello!"}]}),
        )
    };
    let upstream = Upstream::start().await.expect("a port");
    let hub = hub(vec![provider("mock", ProviderKind::Openai, &upstream.base_url())]);
    for model in ["neuralhub/offline", "mock-1"] {
        let stream = hub.models.chat_stream(&caller(), object(body(model))).await.expect("a stream");
        let bytes: Vec<u8> = messages::events(stream).map(|bytes| bytes.to_vec()).concat().await;
        let message = gathered(&parsed(&bytes));
        assert_eq!(message["stop_reason"], "end_turn");
        assert!(message["content"][0]["text"].as_str().is_some_and(|text| !text.is_empty()));
        assert!(message["usage"]["output_tokens"].as_u64().is_some_and(|tokens| tokens > 0), "{message}");
    }
    upstream
        .reply(Reply::chunks(&[chunk(json!({"role": "assistant", "content": "Hel"}), None)]).then(Part::Cut));
    let stream = hub.models.chat_stream(&caller(), object(body("mock-1"))).await.expect("a stream");
    let bytes: Vec<u8> = messages::events(stream).map(|bytes| bytes.to_vec()).concat().await;
    assert_eq!(gathered(&parsed(&bytes))["error"]["type"], "api_error");
}
