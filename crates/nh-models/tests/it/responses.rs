//! The Responses API: what is asked of a provider, what comes back, and back to it.

use nh_models::{ModelError, ProviderKind};
use nh_testkit::upstream::{Reply, Upstream, chunk};
use serde_json::{Value, json};

use crate::harness::{Hub, hub, hub_of};
use crate::responses_check::{ask, last, says};

pub(crate) async fn sent(body: Value) -> Value {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    hub.respond(body).await.expect("an answer");
    upstream.calls()[0].body.clone()
}

#[tokio::test]
async fn a_text_is_answered() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    upstream.reply(says(json!({"role": "assistant", "content": "Hi"}), "stop"));
    let mut body = ask(json!("Hello"));
    body["instructions"] = json!("Be brief.");
    body["metadata"] = json!({"a": "b"});
    body["max_output_tokens"] = json!(50);
    body["store"] = json!(true);
    let answer = hub.respond(body).await.expect("an answer");
    let request = &upstream.calls()[0].body;
    assert_eq!(
        request["messages"],
        json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    );
    assert_eq!(request.get("metadata").or(request.get("store")), None);
    let id = answer["id"].as_str().expect("an id");
    assert!(
        id.starts_with("resp_")
            && answer["output"][0]["id"].as_str().is_some_and(|id| id.starts_with("msg_"))
    );
    for (field, value) in [
        ("object", json!("response")),
        ("status", json!("completed")),
        ("created_at", json!(9)),
        ("model", json!("priced-1")),
        ("error", json!(null)),
        ("incomplete_details", json!(null)),
        ("instructions", json!("Be brief.")),
        ("metadata", json!({"a": "b"})),
        ("store", json!(false)),
        ("max_output_tokens", json!(50)),
        ("parallel_tool_calls", json!(true)),
        ("tool_choice", json!("auto")),
        ("tools", json!([])),
        ("text", json!({"format": {"type": "text"}})),
        ("truncation", json!("disabled")),
        ("reasoning", json!({"effort": null, "summary": null})),
        ("previous_response_id", json!(null)),
    ] {
        assert_eq!(answer[field], value, "{field}");
    }
    let part = json!({"type": "output_text", "text": "Hi", "annotations": [], "logprobs": []});
    assert_eq!(answer["output"][0]["content"], json!([part]));
    let usage = &answer["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"], &usage["total_tokens"]),
        (&json!(10), &json!(4), &json!(14))
    );
    assert_eq!(usage["input_tokens_details"]["cached_tokens"], 6);
    assert_eq!(usage["output_tokens_details"], json!({"reasoning_tokens": 3}));
    assert!(usage["cost"].is_f64(), "{usage}");
}

#[tokio::test]
async fn items_become_the_messages_of_a_chat() {
    let body = sent(ask(json!([
        {"role": "developer", "content": "Be brief."},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "See"},
            {"type": "input_image", "image_url": "https://a.b/c.png", "detail": "low"},
            {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed", "content": [
            {"type": "output_text", "text": "I ", "annotations": []}, {"type": "refusal", "refusal": "will not"}]},
        {"type": "function_call", "call_id": "a", "name": "add", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "sub", "arguments": "{\"x\":1}"},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "2"}]},
        {"role": "assistant", "content": "So."}, {"role": "assistant", "content": "There."},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAAA of another"},
        {"role": "user", "content": "And?"},
    ])))
    .await;
    let call = |id: &str, name: &str, arguments: &str| {
        json!({"id": id, "type": "function",
        "function": {"name": name, "arguments": arguments}})
    };
    assert_eq!(
        body["messages"],
        json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": "https://a.b/c.png", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA=="}},
                {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}]},
            {"role": "assistant", "content": "I will not", "tool_calls": [call("a", "add", "{}"), call("b", "sub", "{\"x\":1}")]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "b", "content": "2"},
            {"role": "assistant", "content": "So."},
            {"role": "assistant", "content": "There."},
            {"role": "user", "content": "And?"},
        ])
    );
}

#[tokio::test]
async fn settings_have_their_names_of_the_chat() {
    let add = json!({"type": "function", "name": "add", "description": "Adds", "parameters": {"type": "object"}, "strict": true});
    let sub = json!({"type": "function", "name": "sub", "parameters": null, "strict": null});
    let mut body = ask(json!("x"));
    for (field, value) in [
        ("tools", json!([add, sub])),
        ("tool_choice", json!({"type": "function", "name": "add"})),
        ("parallel_tool_calls", json!(false)),
        ("max_output_tokens", json!(9)),
        ("temperature", json!(0.5)),
        ("reasoning", json!({"effort": "low", "summary": "auto"})),
        ("user", json!("u")),
        ("top_logprobs", json!(2)),
        (
            "text",
            json!({"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": true}}),
        ),
        ("include", json!(["reasoning.encrypted_content"])),
        ("truncation", json!("auto")),
        ("stream_options", json!(null)),
    ] {
        body[field] = value;
    }
    let request = sent(body.clone()).await;
    for (field, value) in [
        ("tool_choice", json!({"type": "function", "function": {"name": "add"}})),
        ("parallel_tool_calls", json!(false)),
        ("temperature", json!(0.5)),
        ("reasoning_effort", json!("low")),
        ("verbosity", json!("low")),
        ("user", json!("u")),
        ("logprobs", json!(true)),
        ("top_logprobs", json!(2)),
        (
            "response_format",
            json!({"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": true}}),
        ),
    ] {
        assert_eq!(request[field], value, "{field}");
    }
    assert!(["max_tokens", "max_completion_tokens"].iter().any(|field| request[*field] == 9), "{request}");
    let function =
        json!({"name": "add", "description": "Adds", "parameters": {"type": "object"}, "strict": true});
    assert_eq!(
        request["tools"],
        json!([{"type": "function", "function": function}, {"type": "function", "function": {"name": "sub"}}])
    );
    for unknown in ["include", "truncation", "text", "reasoning", "input"] {
        assert_eq!(request.get(unknown), None);
    }
    body["tool_choice"] =
        json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "sub"}]});
    let request = sent(body).await;
    assert_eq!(
        (&request["tools"][0]["function"]["name"], &request["tool_choice"]),
        (&json!("sub"), &json!("required"))
    );
    let mut body = ask(json!("x"));
    (body["tool_choice"], body["tools"]) = (json!("auto"), json!([]));
    assert_eq!(sent(body).await.get("tool_choice"), None);
}

#[tokio::test]
async fn what_is_wrong_is_named_as_the_client_calls_it() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    let with = |field: &str, value: Value| {
        let mut body = ask(json!("x"));
        body[field] = value;
        body
    };
    let user =
        |part: Value| ask(json!([{"role": "user", "content": "x"}, {"role": "user", "content": [part]}]));
    for (body, param, remedy) in [
        (json!({"model": "priced"}), "input", "missing"),
        (ask(json!([])), "input", "at least one message"),
        (ask(json!([{"type": "reasoning"}])), "input", "at least one message"),
        (ask(json!([3])), "input[0].type", "must be one of"),
        (ask(json!([{"role": "robot", "content": "x"}])), "input[0].role", "robot"),
        (ask(json!([{"role": "user"}])), "input[0].content", "missing"),
        (ask(json!([{"type": "item_reference", "id": "msg_1"}])), "input[0].type", "send the item itself"),
        (
            ask(json!([{"type": "function_call", "name": "f", "arguments": "{}"}])),
            "input[0].call_id",
            "missing",
        ),
        (
            ask(json!([{"type": "function_call_output", "call_id": "f", "output": 3}])),
            "input[0].output",
            "is 3",
        ),
        (ask(json!([{"type": "web_search_call"}])), "input[0].type", "web_search_call"),
        (user(json!({"type": "video"})), "input[1].content[0].type", "video"),
        (
            user(json!({"type": "input_image", "file_id": "file_1"})),
            "input[1].content[0].image_url",
            "data URL",
        ),
        (
            user(json!({"type": "input_file", "file_id": "file_1"})),
            "input[1].content[0].file_data",
            "data URL",
        ),
        (with("previous_response_id", json!("resp_1")), "previous_response_id", "earlier items in `input`"),
        (with("conversation", json!("conv_1")), "conversation", "earlier items in `input`"),
        (with("background", json!(true)), "background", "POST /v1/run"),
        (with("prompt", json!({"id": "p"})), "prompt", "`instructions`"),
        (with("stream", json!("yes")), "stream", "true or false"),
        (with("instructions", json!([])), "instructions", "a text"),
        (with("tools", json!({})), "tools", "a list"),
        (with("tools", json!([{"type": "function"}])), "tools[0].name", "missing"),
        (with("tools", json!([{"type": "web_search"}])), "tools[0].type", "POST /v1/run"),
        (with("tools", json!([{"type": "custom", "name": "x"}])), "tools[0].type", "one property"),
        (with("tool_choice", json!({"type": "mcp"})), "tool_choice", "allowed_tools"),
        (
            with("tool_choice", json!({"type": "allowed_tools", "tools": [{"name": "x"}]})),
            "tool_choice.tools",
            "x",
        ),
        (with("text", json!({"format": {"type": "grammar"}})), "text.format.type", "json_schema"),
    ] {
        let shown = body.to_string();
        match hub.respond(body).await {
            Err(ModelError::Invalid { message, param: told }) => {
                assert_eq!(told, param, "{shown}");
                assert!(
                    message.contains(remedy) && message.starts_with(&format!("`{param}` is ")),
                    "{message}"
                );
            }
            other => panic!("{shown}: {other:?}"),
        }
    }
    assert!(upstream.calls().is_empty());
    let none = json!({"model": "priced", "input": "x", "previous_response_id": null, "conversation": null,
        "background": false, "tools": null, "instructions": null, "text": null, "reasoning": null, "stream": null});
    assert!(hub.respond(none).await.is_ok());
}

#[tokio::test]
async fn calls_refusals_and_limits_are_told_whole_as_in_a_stream() {
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    let calls = json!({"role": "assistant", "content": "Wait", "tool_calls": [call("a", "{\"x\":1}"), call("b", "")]});
    let refusal = json!({"role": "assistant", "content": null, "refusal": "I will not"});
    for (message, reason, status, types) in [
        (calls, "tool_calls", "completed", vec!["message", "function_call", "function_call"]),
        (refusal, "stop", "completed", vec!["message"]),
        (json!({"role": "assistant", "content": "Once upon"}), "length", "incomplete", vec!["message"]),
        (json!({"role": "assistant", "content": null}), "content_filter", "incomplete", vec![]),
        (json!({"role": "assistant", "content": null}), "stop", "completed", vec!["message"]),
    ] {
        let (hub, upstream) = hub_of(ProviderKind::Openai).await;
        upstream.reply(says(message.clone(), reason));
        upstream.reply(says(message, reason));
        let whole = hub.respond(ask(json!("x"))).await.expect("an answer");
        let events = hub.respond_streamed(ask(json!("x"))).await.expect("a stream");
        let streamed = last(&events);
        let told: Vec<_> =
            whole["output"].as_array().expect("items").iter().map(|item| item["type"].clone()).collect();
        assert_eq!((told, &whole["status"]), (types.into_iter().map(Value::from).collect(), &json!(status)));
        for field in ["output", "usage", "status", "incomplete_details", "model", "tools"] {
            assert_eq!(without_ids(&whole[field]), without_ids(&streamed[field]), "{field}");
        }
        if let Some(call) = whole["output"].as_array().expect("items").get(2) {
            assert_eq!(
                (&call["call_id"], &call["arguments"], &call["status"]),
                (&json!("b"), &json!("{}"), &json!("completed"))
            );
        }
        if reason == "length" {
            assert_eq!(whole["incomplete_details"], json!({"reason": "max_output_tokens"}));
            assert_eq!(whole["output"][0]["status"], "incomplete");
        }
    }
}

fn without_ids(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_ids).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(name, _)| *name != "id");
            fields.map(|(name, value)| (name.clone(), without_ids(value))).collect()
        }
        other => other.clone(),
    }
}

/// The next turn, with all that was said before.
async fn next_turn(hub: &Hub, upstream: &Upstream, answer: &Value) -> Value {
    let mut input = vec![json!({"role": "user", "content": "x"})];
    input.extend(answer["output"].as_array().expect("items").iter().cloned());
    input.push(json!({"type": "function_call_output", "call_id": "a", "output": "1"}));
    hub.respond(ask(Value::Array(input))).await.expect("an answer");
    upstream.calls().pop().expect("a call").body["messages"].clone()
}

#[tokio::test]
async fn what_a_model_thought_goes_back_to_it() {
    let details = [
        json!({"type": "reasoning.text", "text": "Let", "format": "f", "index": 0}),
        json!({"type": "reasoning.text", "text": " me", "format": "f", "index": 0, "signature": null}),
        json!({"type": "reasoning.text", "text": "", "format": "f", "index": 0, "signature": "s"}),
        json!({"type": "reasoning.encrypted", "data": "d", "format": "f", "index": 1}),
    ];
    let mut chunks: Vec<Value> = details
        .iter()
        .map(|detail| {
            chunk(json!({"reasoning_content": detail["text"], "reasoning_details": [detail]}), None)
        })
        .collect();
    let call = json!({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"},
        "extra_content": {"google": {"thought_signature": "t"}}});
    chunks.push(chunk(json!({"tool_calls": [call]}), None));
    chunks.push(chunk(json!({}), Some("tool_calls")));
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    upstream.reply(Reply::chunks(&chunks).done());
    let events = hub.respond_streamed(ask(json!("x"))).await.expect("a stream");
    assert_eq!(last(&events)["output"].as_array().map(Vec::len), Some(2));
    upstream.reply(says(json!({"role": "assistant", "content": "Hi"}), "stop"));
    let messages = next_turn(&hub, &upstream, last(&events)).await;
    let said = &messages[1];
    assert_eq!(said["reasoning_content"], "Let me");
    assert_eq!(
        said["reasoning_details"],
        json!([
            {"type": "reasoning.text", "text": "Let me", "format": "f", "index": 0, "signature": "s"},
            {"type": "reasoning.encrypted", "data": "d", "format": "f", "index": 1},
        ])
    );
    assert_eq!(said["tool_calls"][0]["extra_content"], json!({"google": {"thought_signature": "t"}}));
    assert_eq!(messages[2]["role"], "tool");
}

#[tokio::test]
async fn anthropics_signatures_survive_a_turn() {
    let (hub, upstream) = hub_of(ProviderKind::Anthropic).await;
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let blocks = json!([
        {"type": "thinking", "thinking": "Hm", "signature": "s1"}, {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "Wait"}, {"type": "tool_use", "id": "a", "name": "f", "input": {}}]);
    for (content, reason) in
        [(blocks.clone(), "tool_use"), (json!([{"type": "text", "text": "Hi"}]), "end_turn")]
    {
        upstream.reply(Reply::json(
            200,
            &json!({"id": "m", "type": "message", "role": "assistant", "model": "priced",
            "content": content, "stop_reason": reason, "usage": usage}),
        ));
    }
    let answer = hub.respond(ask(json!("x"))).await.expect("an answer");
    let messages = next_turn(&hub, &upstream, &answer).await;
    assert_eq!(messages[1], json!({"role": "assistant", "content": blocks}));
}

#[tokio::test]
async fn the_offline_model_answers() {
    let hub = hub(Vec::new());
    let weather = json!({"type": "function", "name": "get_weather", "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}});
    let body =
        json!({"model": "neuralhub/offline", "input": "What is the weather in Oslo?", "tools": [weather]});
    let answer = hub.respond(body.clone()).await.expect("an answer");
    assert_eq!(answer["output"][0]["name"], "get_weather");
    let events = hub.respond_streamed(body).await.expect("a stream");
    assert_eq!(last(&events)["output"][0]["arguments"], answer["output"][0]["arguments"]);
}
