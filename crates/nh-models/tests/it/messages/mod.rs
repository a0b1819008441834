//! Anthropic's clients: what they ask and what they are told, whoever answers.

pub(crate) mod answers;
mod anything;
mod requests;
mod streams;

use nh_models::ProviderKind;
use nh_models::served::messages::{self, Events};
use nh_testkit::upstream::Reply;
use serde_json::{Value, json};

use crate::harness::{hub_of, object};

pub(super) fn asked(body: Value) -> Value {
    Value::Object(messages::request(object(body)).expect("a request").chat)
}

/// What the provider is asked when the hub is asked this.
pub(super) async fn written(kind: ProviderKind, body: &Value) -> Value {
    let (hub, upstream) = hub_of(kind).await;
    upstream.reply(answer_of(kind));
    hub.chat(asked(body.clone())).await.expect("an answer");
    upstream.calls()[0].body.clone()
}

pub(super) fn answer_of(kind: ProviderKind) -> Reply {
    Reply::json(
        200,
        &match kind {
            ProviderKind::Anthropic => json!({"id": "msg_1", "type": "message", "role": "assistant",
                "model": "claude", "content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn",
                "usage": {"input_tokens": 1, "output_tokens": 1}}),
            _ => json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}),
        },
    )
}

/// A turn of Claude Code, with all that it may hold.
pub(super) fn everything() -> Value {
    let cache = json!({"type": "ephemeral"});
    let image = json!({"type": "base64", "media_type": "image/png", "data": "aGk="});
    json!({
        "model": "priced", "max_tokens": 4096, "temperature": 0.5, "top_p": 0.9,
        "stop_sequences": ["END"], "metadata": {"user_id": "u1"},
        "system": [{"type": "text", "text": "Be brief.", "cache_control": cache}],
        "tools": [
            {"name": "look", "description": "Looks", "input_schema": {"type": "object"}, "strict": true, "cache_control": cache},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {"type": "object"}}},
        "top_k": 5, "cache_control": cache,
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?", "cache_control": cache},
                {"type": "image", "source": image},
                {"type": "image", "source": {"type": "url", "url": "https://a.b/c.png"}, "cache_control": cache},
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "document", "title": "a.pdf", "citations": {"enabled": true}, "context": "old",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
                {"type": "document", "source": {"type": "url", "url": "https://a.b/c.pdf"}},
                {"type": "document", "title": "b", "source": {"type": "text", "media_type": "text/plain", "data": "Text."}},
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Let me look.", "signature": "sig1"},
                {"type": "redacted_thinking", "data": "abc"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "it"}},
                {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}, "cache_control": cache},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "cache_control": cache,
                    "content": [{"type": "text", "text": "seen"}, {"type": "image", "source": image}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "is_error": true,
                    "content": [{"type": "text", "text": "blind"}]},
                {"type": "text", "text": "And?"},
            ]},
        ],
    })
}

pub(super) fn frame(chunk: &Value) -> Vec<u8> {
    format!("data: {chunk}\n\n").into_bytes()
}

pub(super) fn done() -> Vec<u8> {
    b"data: [DONE]\n\n".to_vec()
}

pub(super) fn emitted(pieces: &[Vec<u8>]) -> Vec<Value> {
    let mut events = Events::default();
    let mut bytes: Vec<u8> = pieces.iter().flat_map(|piece| events.push(piece)).collect();
    bytes.extend(events.finish());
    parsed(&bytes)
}

/// The events, each named by its type.
pub(super) fn parsed(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    let frames = text.split("\n\n").filter(|frame| !frame.is_empty() && !frame.starts_with(':'));
    frames
        .map(|frame| {
            let (name, data) = frame.split_once('\n').expect("two lines");
            let event: Value =
                serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
            assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
            event
        })
        .collect()
}

/// The message that well-formed events amount to; an error for those that end in one.
pub(super) fn gathered(events: &[Value]) -> Value {
    let (mut message, mut open, mut ended) = (Value::Null, None::<(Value, String)>, false);
    for (place, event) in events.iter().enumerate() {
        assert!(!ended, "something follows the end: {events:?}");
        let kind = event["type"].as_str().expect("a type");
        assert!(
            matches!((kind, place), ("message_start", 0) | ("error", _))
                || place > 0 && kind != "message_start",
            "{events:?}"
        );
        let index = |message: &Value| json!(message["content"].as_array().map(Vec::len));
        match kind {
            "message_start" => message = event["message"].clone(),
            "ping" => {}
            "content_block_start" => {
                assert!(open.is_none() && event["index"] == index(&message), "{events:?}");
                open = Some((event["content_block"].clone(), String::new()));
            }
            "content_block_delta" => {
                assert_eq!(event["index"], index(&message));
                let (block, json) = open.as_mut().expect("an open block");
                let delta = &event["delta"];
                let (kind, field) = match delta["type"].as_str().expect("a type") {
                    "text_delta" => ("text", "text"),
                    "thinking_delta" => ("thinking", "thinking"),
                    "signature_delta" => ("thinking", "signature"),
                    "input_json_delta" if block["type"] == "server_tool_use" => {
                        ("server_tool_use", "partial_json")
                    }
                    "input_json_delta" => ("tool_use", "partial_json"),
                    other => panic!("{other}"),
                };
                assert_eq!(block["type"], kind);
                let piece = delta[field].as_str().expect("a text");
                match field {
                    "partial_json" => json.push_str(piece),
                    "signature" => block[field] = json!(piece),
                    _ => block[field] = json!(format!("{}{piece}", block[field].as_str().expect("a text"))),
                }
            }
            "content_block_stop" => {
                assert_eq!(event["index"], index(&message));
                let (mut block, json) = open.take().expect("an open block");
                if !json.is_empty() {
                    block["input"] = serde_json::from_str(&json).unwrap_or(Value::Null);
                }
                message["content"].as_array_mut().expect("content").push(block);
            }
            "message_delta" => {
                assert!(open.is_none());
                for field in ["stop_reason", "stop_sequence"] {
                    message[field] = event["delta"][field].clone();
                }
                message["usage"] = event["usage"].clone();
            }
            "message_stop" => ended = true,
            "error" => {
                assert!(event["error"]["message"].is_string());
                return event.clone();
            }
            other => panic!("{other}"),
        }
    }
    assert!(ended, "no end: {events:?}");
    message
}
