//! Whole answers and errors.

use futures_util::StreamExt;
use nh_models::served::messages;
use nh_models::{Listener, ProviderKind};
use nh_testkit::upstream::{Reply, chunk};
use nh_types::{ApiError, ErrorCode};
use serde_json::{Value, json};

use super::{asked, done, emitted, frame, gathered, parsed, written};
use crate::harness::{caller, hello, hub_of, object};

#[test]
fn answers_have_anthropics_form() {
    let message = json!({"role": "assistant", "content": "Hi", "reasoning_content": "Hm.",
        "reasoning_details": [
            {"type": "reasoning.text", "text": "Hm", "format": "anthropic-claude-v1", "index": 0},
            {"type": "reasoning.text", "text": ".", "signature": "sig", "format": "anthropic-claude-v1", "index": 0},
            {"type": "reasoning.encrypted", "data": "abc", "format": "anthropic-claude-v1", "index": 1}],
        "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
            {"id": "t2", "type": "function", "function": {"name": "g", "arguments": ""}},
            {"id": "t3", "type": "function", "function": {"name": "h", "arguments": "{broken"}}]});
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107, "cost": 0.5,
        "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "completion_tokens_details": {"reasoning_tokens": 2}});
    let body = json!({"id": "chatcmpl-1", "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]});
    assert_eq!(
        messages::answer(object(body)),
        json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
            {"type": "redacted_thinking", "data": "abc"},
            {"type": "text", "text": "Hi"},
            {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
            {"type": "tool_use", "id": "t3", "name": "h", "input": {"arguments": "{broken"}}],
        "stop_reason": "tool_use", "stop_sequence": null,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 30, "cache_read_input_tokens": 60,
            "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 2}, "cost": 0.5}})
    );
    for (choice, reason, stop) in [
        (json!({"finish_reason": "stop"}), "end_turn", Value::Null),
        (json!({"finish_reason": "length"}), "max_tokens", Value::Null),
        (json!({"finish_reason": "content_filter"}), "refusal", Value::Null),
        (json!({"finish_reason": "stop", "message": {"refusal": "No."}}), "refusal", Value::Null),
        (json!({"finish_reason": "stop", "stop_reason": "END"}), "stop_sequence", json!("END")),
    ] {
        let answer = messages::answer(object(json!({"id": "x", "choices": [choice]})));
        assert_eq!((&answer["stop_reason"], &answer["stop_sequence"]), (&json!(reason), &stop));
    }
}

/// An answer of Anthropic's own, whole and streamed, comes to its client as it was.
#[tokio::test]
async fn anthropics_answers_come_through() {
    let thought = json!({"type": "thinking", "thinking": "Hm.", "signature": "sig"});
    let text = json!({"type": "text", "text": "Hi END"});
    let call = |id: &str| json!({"type": "tool_use", "id": id, "name": "f", "input": {"a": 1}});
    let search =
        json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"a": 1}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1",
        "content": [{"type": "web_search_result", "title": "T", "url": "https://a.b", "encrypted_content": "e"}]});
    let redacted = json!({"type": "redacted_thinking", "data": "abc"});
    for (content, stop_reason) in [
        (json!([thought, redacted, text, call("toolu_1")]), "tool_use"),
        (json!([thought, call("toolu_1"), thought, call("toolu_2")]), "tool_use"),
        (json!([thought, text, search, found, redacted, thought, text]), "end_turn"),
        (json!([text, search]), "pause_turn"),
    ] {
        come_through(content, stop_reason).await;
    }
}

async fn come_through(content: Value, stop_reason: &str) {
    let usage = json!({"input_tokens": 10, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30, "output_tokens": 7});
    let whole = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": content,
        "stop_reason": stop_reason, "stop_sequence": null, "usage": usage});
    let body = || {
        asked(
            json!({"model": "priced", "max_tokens": 16, "stream": true, "messages": [{"role": "user", "content": "Hi"}]}),
        )
    };
    let (hub, upstream) = hub_of(ProviderKind::Anthropic).await;
    upstream.reply(Reply::json(200, &whole));
    let mut answer = messages::answer(object(hub.chat(body()).await.expect("an answer")));
    assert!(answer["usage"]["cost"].is_number());
    answer["usage"].as_object_mut().expect("usage").remove("cost");
    assert_eq!(answer, whole);

    let events = streamed(&content, stop_reason, &usage);
    upstream.reply(Reply::chunks(&events));
    let stream = hub.models.chat_stream(&caller(), object(body())).await.expect("a stream");
    let bytes: Vec<u8> = messages::events(stream).map(|bytes| bytes.to_vec()).concat().await;
    let mut told = gathered(&parsed(&bytes));
    told["usage"].as_object_mut().expect("usage").remove("cost");
    assert_eq!(told, whole);

    // And back.
    upstream.reply(Reply::json(200, &whole));
    let again = json!({"model": "priced", "max_tokens": 16, "messages": [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": content}]});
    hub.chat(asked(again)).await.expect("an answer");
    assert_eq!(upstream.calls().last().expect("a call").body["messages"][1]["content"], content);

    // So it does for a client of OpenAI's chats.
    back_by_chats(&whole, &events).await;
}

/// The events of such a message.
pub(crate) fn streamed(content: &Value, stop_reason: &str, usage: &Value) -> Vec<Value> {
    let mut events =
        vec![json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": usage}})];
    for (index, block) in content.as_array().expect("blocks").iter().enumerate() {
        let mut start = block.clone();
        let deltas = match block["type"].as_str().expect("a type") {
            "thinking" => vec![
                json!({"type": "thinking_delta", "thinking": "Hm."}),
                json!({"type": "signature_delta", "signature": "sig"}),
            ],
            "text" => vec![
                json!({"type": "text_delta", "text": "Hi"}),
                json!({"type": "text_delta", "text": " END"}),
            ],
            "tool_use" | "server_tool_use" => {
                start["input"] = json!({});
                vec![
                    json!({"type": "input_json_delta", "partial_json": "{\"a\""}),
                    json!({"type": "input_json_delta", "partial_json": ":1}"}),
                ]
            }
            _ => Vec::new(),
        };
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        events.extend(
            deltas
                .into_iter()
                .map(|delta| json!({"type": "content_block_delta", "index": index, "delta": delta})),
        );
        events.push(json!({"type": "content_block_stop", "index": index}));
    }
    events.push(
        json!({"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": {"output_tokens": 7}}),
    );
    events.push(json!({"type": "message_stop"}));
    events
}

async fn back_by_chats(whole: &Value, events: &[Value]) {
    let (hub, upstream) = hub_of(ProviderKind::Anthropic).await;
    upstream.reply(Reply::json(200, whole));
    upstream.reply(Reply::chunks(events));
    let answer = hub.chat(hello("priced")).await.expect("an answer");
    let listener = Listener { is_heard: true, tell: &|_| {} };
    let streamed = hub.models.chat_live(&caller(), &object(hello("priced")), &listener).await;
    let streamed = Value::Object(streamed.expect("an answer").body);
    for message in [&answer["choices"][0]["message"], &streamed["choices"][0]["message"]] {
        upstream.reply(Reply::json(200, whole));
        hub.chat(json!({"model": "priced", "messages": [{"role": "user", "content": "Hi"}, message]}))
            .await
            .expect("an answer");
        let seen = upstream.calls().pop().expect("a call").body;
        assert_eq!(seen["messages"][1]["content"], whole["content"]);
    }
    let is_whole = ["tool_use", "end_turn"].contains(&whole["stop_reason"].as_str().expect("a reason"));
    assert_eq!(answer["choices"][0]["finish_reason"] == "length", !is_whole);
}

/// What other models hide goes to the client and comes back to them.
#[tokio::test]
async fn hidden_state_of_other_models_comes_back() {
    let extra = json!({"google": {"thought_signature": "sig"}});
    let detail =
        json!({"type": "reasoning.encrypted", "data": "xyz", "format": "openai-responses-v1", "index": 0});
    let call = json!({"id": "c1", "type": "function", "extra_content": extra, "function": {"name": "f", "arguments": "{}"}});
    let said =
        json!({"role": "assistant", "content": null, "reasoning_details": [detail], "tool_calls": [call]});
    let body = json!({"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, "message": said, "finish_reason": "tool_calls"}]});
    let whole = messages::answer(object(body));
    let mut delta = said.clone();
    delta["tool_calls"][0]["index"] = json!(0);
    let streamed = gathered(&emitted(&[frame(&chunk(delta, Some("tool_calls"))), done()]));
    for answer in [whole, streamed] {
        assert_eq!(answer["content"].as_array().map(Vec::len), Some(3), "{answer}");
        let next = json!({"model": "priced", "max_tokens": 16, "messages": [
            {"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer["content"]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "1"}]}]});
        assert_eq!(asked(next.clone())["messages"][1], said);
        let google = written(ProviderKind::Google, &next).await;
        assert_eq!(google["contents"][1]["parts"][0]["thoughtSignature"], "sig", "{google}");
        assert_eq!(
            written(ProviderKind::Openrouter, &next).await["messages"][1]["reasoning_details"],
            json!([detail])
        );
    }
    let thinks = json!({"role": "assistant", "content": "Hi", "reasoning_content": "Hm."});
    let answer = messages::answer(object(json!({"id": "x", "choices": [{"message": thinks}]})));
    assert_eq!(answer["content"][0], json!({"type": "thinking", "thinking": "Hm.", "signature": ""}));
    let next = json!({"model": "priced", "max_tokens": 16, "messages": [{"role": "assistant", "content": answer["content"]}]});
    assert_eq!(written(ProviderKind::Openai, &next).await["messages"][0], thinks);
    assert_eq!(written(ProviderKind::Google, &next).await["messages"][0].get("reasoning_content"), None);
}

#[test]
fn errors_have_anthropics_form() {
    let told = messages::error(&ApiError::new(ErrorCode::ModelNotFound, "no such model"), "req-1");
    let error = json!({"type": "not_found_error", "message": "no such model"});
    assert_eq!(told, json!({"type": "error", "error": error, "request_id": "req-1"}));
    for (code, kind) in [
        (ErrorCode::InvalidJson, "invalid_request_error"),
        (ErrorCode::InvalidCredential, "authentication_error"),
        (ErrorCode::BudgetExceeded, "billing_error"),
        (ErrorCode::MissingScope, "permission_error"),
        (ErrorCode::PayloadTooLarge, "request_too_large"),
        (ErrorCode::RateLimited, "rate_limit_error"),
        (ErrorCode::UpstreamError, "api_error"),
        (ErrorCode::UpstreamTimeout, "timeout_error"),
        (ErrorCode::Overloaded, "overloaded_error"),
    ] {
        assert_eq!(messages::error(&ApiError::new(code, "x"), "r")["error"]["type"], kind);
    }
}
