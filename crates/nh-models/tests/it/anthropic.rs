//! Anthropic's own protocol behind OpenAI's.

use nh_models::{ModelError, ProviderKind};
use nh_testkit::upstream::{Part, Reply, Upstream};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Hub, chunks, frames, hello, hello_streamed, hub_of};

pub(crate) async fn claude() -> (Hub, Upstream) {
    hub_of(ProviderKind::Anthropic).await
}

pub(crate) fn message(content: Value, stop_reason: &str) -> Reply {
    Reply::json(
        200,
        &json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": content,
            "stop_reason": stop_reason, "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 5,
            "cache_read_input_tokens": 30, "cache_creation_input_tokens": 20,
            "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 8}}}),
    )
}

fn event(data: Value) -> Part {
    let name = data["type"].as_str().unwrap_or_default();
    Part::Raw(format!("event: {name}\ndata: {data}\n\n").into_bytes())
}

fn events(all: Vec<Value>) -> Reply {
    Reply::Stream(all.into_iter().map(event).collect())
}

#[tokio::test]
async fn a_chat_is_written_and_read_as_anthropic_has_it() {
    let (hub, upstream) = claude().await;
    upstream.reply(message(
        json!([{"type": "thinking", "thinking": "Hm.", "signature": "s1"}, {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sky"}}]),
        "tool_use",
    ));
    let tools = json!([{"type": "function", "function": {"name": "look", "description": "Looks.",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}]);
    let body = json!({"model": "priced", "max_completion_tokens": 100, "temperature": 1.5, "stop": "END", "user": "u1",
        "tools": tools, "tool_choice": "required", "parallel_tool_calls": false, "frequency_penalty": 1,
        "messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,BBBB"}}]},
            {"role": "developer", "content": "Be brief."}]});
    let answer = hub.chat(body).await.expect("an answer");
    let seen = &upstream.calls()[0];
    assert_eq!(seen.path, "/v1/messages");
    assert_eq!(seen.headers["x-api-key"], "sk-hub-secret");
    assert_eq!(seen.headers["anthropic-version"], "2023-06-01");
    assert!(!seen.headers.contains_key("authorization"));
    assert_eq!(
        seen.body,
        json!({"model": "priced", "max_tokens": 100, "temperature": 1.0, "stop_sequences": ["END"],
            "metadata": {"user_id": "u1"},
            "system": [{"type": "text", "text": "Be kind."}, {"type": "text", "text": "Be brief."}],
            "tools": [{"name": "look", "description": "Looks.",
                "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}}}],
            "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
            "messages": [{"role": "user", "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
                {"type": "document", "title": "a.pdf",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": "BBBB"}}]}]})
    );
    let choice = &answer["choices"][0];
    assert_eq!((&answer["id"], &answer["object"]), (&json!("msg_1"), &json!("chat.completion")));
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert_eq!(
        choice["message"],
        json!({"role": "assistant", "content": "I look.", "reasoning_content": "Hm.",
            "reasoning_details": [{"type": "reasoning.text", "text": "Hm.", "signature": "s1",
                "format": "anthropic-claude-v1", "index": 0}],
            "tool_calls": [{"id": "toolu_1", "type": "function",
                "function": {"name": "look", "arguments": "{\"at\":\"sky\"}"}}]})
    );
    let usage = &answer["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(60), &json!(5)));
    assert_eq!(usage["prompt_tokens_details"]["cached_tokens"], 30);
    // 2 and 10 dollars: all input as such, and for the cache 12 a quarter and 8 the whole more.
    let expected = (60.0 * 2.0 + 5.0 * 10.0 + 11.0 * 2.0) / 1e6;
    assert!((usage["cost"].as_f64().expect("a cost") - expected).abs() < 1e-12, "{usage}");
}

#[tokio::test]
async fn the_next_turn_sends_thoughts_calls_and_results_back() {
    let (hub, upstream) = claude().await;
    upstream.reply(message(json!([{"type": "text", "text": "Blue."}]), "end_turn"));
    let details = json!([
        {"type": "reasoning.text", "text": "H", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.text", "text": "m.", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.text", "text": "", "signature": "s1", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "xyz", "format": "anthropic-claude-v1", "index": 1},
        {"type": "reasoning.text", "text": "another's", "format": "openai", "index": 2}]);
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "look", "arguments": "{\"at\":1}"}});
    let body = json!({"model": "priced", "messages": [
        {"role": "user", "content": "Look!"},
        {"role": "assistant", "content": "", "reasoning_details": details, "tool_calls": [call("a"), call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "blue"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "green"}]},
        {"role": "user", "content": "So?"}]});
    let answer = hub.chat(body).await.expect("an answer");
    assert_eq!(answer["choices"][0]["message"]["content"], "Blue.");
    let body = &upstream.calls()[0].body;
    assert_eq!(body["max_tokens"], 8192);
    assert_eq!(
        body["messages"],
        json!([
            {"role": "user", "content": [{"type": "text", "text": "Look!"}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s1"},
                {"type": "redacted_thinking", "data": "xyz"},
                {"type": "tool_use", "id": "a", "name": "look", "input": {"at": 1}},
                {"type": "tool_use", "id": "b", "name": "look", "input": {"at": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "blue"}]},
                {"type": "tool_result", "tool_use_id": "b", "content": [{"type": "text", "text": "green"}]},
                {"type": "text", "text": "So?"}]}
        ])
    );
}

fn streamed() -> Vec<Value> {
    let delta =
        |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let begin = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    vec![
        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
            "model": "claude-x", "content": [], "usage": {"input_tokens": 100, "output_tokens": 1}}}),
        json!({"type": "ping"}),
        begin(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "Hm."})),
        delta(0, json!({"type": "signature_delta", "signature": "s1"})),
        json!({"type": "content_block_stop", "index": 0}),
        begin(1, json!({"type": "text", "text": ""})),
        delta(1, json!({"type": "text_delta", "text": "I "})),
        delta(1, json!({"type": "text_delta", "text": "look."})),
        begin(2, json!({"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "{\"at\":"})),
        delta(2, json!({"type": "input_json_delta", "partial_json": "1}"})),
        begin(3, json!({"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}})),
        delta(3, json!({"type": "input_json_delta", "partial_json": "{}"})),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 40}}),
        json!({"type": "message_stop"}),
    ]
}

#[tokio::test]
async fn a_stream_is_openais() {
    let (hub, upstream) = claude().await;
    upstream.reply(events(streamed()));
    let mut body = hello_streamed("priced");
    body["stream_options"] = json!({"include_usage": true});
    let text = hub.stream(body).await.expect("a stream");
    assert_eq!(upstream.calls()[0].body["stream"], true);
    assert!(upstream.calls()[0].body.get("stream_options").is_none());
    assert_eq!(frames(&text).last().map(String::as_str), Some("[DONE]"));
    let chunks = chunks(&text);
    assert!(chunks.iter().all(|chunk| chunk["id"] == "msg_1" && chunk["object"] == "chat.completion.chunk"));
    let usage = &chunks.last().expect("a chunk")["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(100), &json!(40)));
    assert!((usage["cost"].as_f64().expect("a cost") - 0.0006).abs() < 1e-12);
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let texts: String = deltas.iter().filter_map(|delta| delta["content"].as_str()).collect();
    assert_eq!(texts, "I look.");
    let thought: String = deltas.iter().filter_map(|delta| delta["reasoning_content"].as_str()).collect();
    assert_eq!(thought, "Hm.");
    assert!(deltas.iter().any(|delta| delta["reasoning_details"][0]["signature"] == "s1"));
    let calls: Vec<&Value> =
        deltas.iter().filter_map(|delta| delta["tool_calls"].as_array()).flatten().collect();
    assert_eq!(
        calls.iter().map(|call| call["index"].as_u64()).collect::<Vec<_>>(),
        [0, 0, 0, 1, 1].map(Some)
    );
    assert_eq!((&calls[0]["id"], &calls[3]["id"]), (&json!("toolu_1"), &json!("toolu_2")));
    assert!(chunks.iter().any(|chunk| chunk["choices"][0]["finish_reason"] == "tool_calls"));
}

#[tokio::test]
async fn a_stream_that_is_cut_is_billed_for_what_came() {
    let (mut hub, upstream) = claude().await;
    let mut cut: Vec<Part> = streamed().into_iter().take(9).map(event).collect();
    cut.push(Part::Cut);
    upstream.reply(Reply::Stream(cut));
    let text = hub.stream(hello_streamed("priced")).await.expect("a stream");
    assert!(frames(&text).last().expect("a frame").contains("upstream_error"), "{text}");
    let row = hub.rows.next_row().await.expect("a row");
    assert_eq!(row.usage.input_tokens, 100);
    assert!(row.usage.output_tokens > 1 && row.estimated, "{row:?}");
    let expected = (100.0 * 2.0 + row.usage.output_tokens as f64 * 10.0) / 1e6;
    assert!((row.usage.cost_usd.expect("a cost") - expected).abs() < 1e-12);
}

#[tokio::test]
async fn errors_are_what_they_mean() {
    let (hub, upstream) = claude().await;
    let refuse = |status: u16, kind: &str| {
        Reply::json(status, &json!({"type": "error", "error": {"type": kind, "message": "Because."}}))
    };
    upstream.reply(refuse(400, "invalid_request_error"));
    let error = hub.chat(hello("priced")).await.expect_err("refused");
    assert!(
        matches!(&error, ModelError::Rejected { status: 400, message, .. } if message == "Because."),
        "{error:?}"
    );
    upstream.reply(refuse(401, "authentication_error"));
    assert!(matches!(hub.chat(hello("priced")).await, Err(ModelError::Refused { .. })));
    upstream.reply(refuse(429, "rate_limit_error").with_header("retry-after", "30"));
    let error = hub.chat(hello("priced")).await.expect_err("limited");
    assert!(matches!(error, ModelError::RateLimited { retry_after_seconds: Some(30), .. }));
    // Overloaded, and then not any more.
    upstream.reply(refuse(529, "overloaded_error"));
    upstream.reply(message(json!([{"type": "text", "text": "Here."}]), "max_tokens"));
    let answer = hub.chat(hello("priced")).await.expect("an answer");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    // In a stream.
    let overloaded = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    upstream.reply(events([&streamed()[..8], &[overloaded]].concat()));
    let text = hub.stream(hello_streamed("priced")).await.expect("a stream");
    let last: Value = serde_json::from_str(frames(&text).last().expect("a frame")).expect("JSON");
    assert_eq!(last["error"]["code"], "upstream_error");
    assert!(last["error"]["message"].as_str().is_some_and(|text| text.contains("Overloaded")), "{last}");
}

#[tokio::test]
async fn an_account_without_credit_is_no_mistake_of_the_request() {
    let words = "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.";
    let told = json!({"type": "error", "error": {"type": "invalid_request_error", "message": words}});
    for kind in [ProviderKind::Anthropic, ProviderKind::Openai] {
        let (hub, upstream) = hub_of(kind).await;
        upstream.reply(Reply::json(400, &told));
        let error = hub.chat(hello("priced")).await.expect_err("refused");
        let ModelError::Refused { status: 400, message, .. } = &error else { panic!("{error:?}") };
        assert_eq!(message, "its account has no credit left");
    }
    // Another model is asked then.
    let (hub, upstream) = claude().await;
    upstream.reply(Reply::json(400, &told));
    upstream.reply(message(json!([{"type": "text", "text": "Here."}]), "end_turn"));
    let mut body = hello("priced");
    body["models"] = json!(["mock/priced"]);
    let answer = hub.chat(body).await.expect("an answer");
    assert_eq!(answer["choices"][0]["message"]["content"], "Here.");
}

#[tokio::test]
async fn what_cannot_be_said_to_anthropic_is_named() {
    let (hub, upstream) = claude().await;
    let audio = json!([{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]);
    let spoiled = json!([{"id": "a", "function": {"name": "f", "arguments": "{"}}]);
    for (body, param) in [
        (json!({"n": 2, "messages": [{"role": "user", "content": "x"}]}), "n"),
        (json!({"messages": [{"role": "user", "content": audio}]}), "messages[0].content[0].type"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
        (json!({"messages": [{"role": "tool", "content": "x"}]}), "messages[0].tool_call_id"),
        (json!({"messages": [{"role": "singer", "content": "x"}]}), "messages[0].role"),
        (
            json!({"messages": [{"role": "assistant", "tool_calls": spoiled}]}),
            "messages[0].tool_calls[0].function.arguments",
        ),
    ] {
        let mut body = body;
        body["model"] = json!("priced");
        let error = hub.chat(body).await.expect_err("refused");
        assert!(matches!(&error, ModelError::Invalid { param: at, .. } if at == param), "{param}: {error:?}");
    }
    let embeddings = hub.embed(json!({"model": "priced", "input": "x"})).await;
    assert!(matches!(embeddings, Err(ModelError::Invalid { .. })));
    assert_eq!(upstream.calls().len(), 0);
}

#[tokio::test]
async fn thoughts_that_are_cut_are_billed_by_their_words() {
    let (mut hub, upstream) = claude().await;
    let mut cut: Vec<Part> = streamed().into_iter().take(3).map(event).collect();
    let thought = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "four"}});
    cut.extend((0..100).map(|_| event(thought.clone())));
    cut.push(Part::Cut);
    upstream.reply(Reply::Stream(cut));
    hub.stream(hello_streamed("priced")).await.expect("a stream");
    let row = hub.rows.next_row().await.expect("a row");
    assert_eq!((row.usage.output_tokens, row.estimated), (101, true));
}

proptest! {
    #[test]
    fn no_event_however_odd_breaks_a_stream(all in proptest::collection::vec(any_event(), 0..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (hub, upstream) = claude().await;
            upstream.reply(Reply::Stream(all.into_iter().map(event).collect()));
            if let Ok(text) = hub.stream(hello_streamed("priced")).await {
                let last = frames(&text).pop().unwrap_or_default();
                assert!(last == "[DONE]" || last.contains("\"error\""), "{text}");
            }
        });
    }
}

/// Events of Anthropic's with any part of them replaced.
fn any_event() -> impl Strategy<Value = Value> {
    let odd = prop_oneof![
        Just(Value::Null),
        Just(json!(-1)),
        Just(json!(1e300)),
        Just(json!("text")),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{"type": "tool_use"}])),
    ];
    let of = proptest::sample::select(streamed());
    let pointers = vec![
        "",
        "/type",
        "/index",
        "/delta",
        "/delta/type",
        "/content_block",
        "/message",
        "/message/usage",
        "/usage",
        "/delta/text",
    ];
    (of, proptest::sample::select(pointers), odd, any::<bool>()).prop_map(|(mut event, at, odd, is_odd)| {
        if is_odd && let Some(place) = event.pointer_mut(at) {
            *place = odd;
        }
        event
    })
}
