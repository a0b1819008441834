//! What Anthropic takes otherwise than OpenAI, or not at all.

use nh_models::ModelError;
use nh_testkit::upstream::{Reply, models};
use serde_json::{Value, json};

use crate::anthropic::{claude, message};
use crate::harness::hello;

#[tokio::test]
async fn effort_is_said_as_the_model_takes_it() {
    let (hub, upstream) = claude().await;
    upstream.list(Reply::json(
        200,
        &models(&["claude-opus-4-6", "claude-sonnet-4-20250514", "claude-haiku-4-5"]),
    ));
    let asked = async |model: &str, body: Value| {
        let mut body = body;
        body["model"] = json!(format!("mock/{model}"));
        body["messages"] = json!([{"role": "user", "content": "x"}]);
        upstream.reply(message(json!([{"type": "text", "text": "Here."}]), "end_turn"));
        hub.chat(body).await.expect("an answer");
        upstream.calls().last().expect("a call").body.clone()
    };
    let form = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}});
    let body = asked(
        "claude-opus-4-6",
        json!({"reasoning_effort": "medium", "response_format": form, "temperature": 0}),
    )
    .await;
    assert_eq!(body["thinking"], json!({"type": "adaptive", "display": "summarized"}));
    let config = json!({"effort": "medium", "format": {"type": "json_schema",
        "schema": {"type": "object", "additionalProperties": false}}});
    assert_eq!((&body["output_config"], &body["temperature"]), (&config, &Value::Null));
    let body =
        asked("claude-sonnet-4-20250514", json!({"reasoning": {"effort": "low"}, "max_tokens": 10_000}))
            .await;
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 2000}));
    let body = asked("claude-haiku-4-5", json!({"reasoning_effort": "none", "temperature": 0.5})).await;
    assert_eq!((&body["thinking"], &body["temperature"]), (&Value::Null, &json!(0.5)));
}

#[tokio::test]
async fn what_anthropic_refuses_is_said_otherwise() {
    let (hub, upstream) = claude().await;
    let names = ["claude-opus-4-7", "claude-sonnet-4-5", "claude-3-5-haiku"];
    upstream.list(Reply::json(200, &models(&names)));
    let asked = async |model: &str, more: Value| {
        let mut body = hello(&format!("mock/{model}"));
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        upstream.reply(message(json!([{"type": "text", "text": "Here."}]), "end_turn"));
        hub.chat(body).await.expect("an answer");
        upstream.calls().last().expect("a call").body.clone()
    };
    let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {}}}]);
    let call = json!({"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": ""}});
    let history = json!([{"role": "user", "content": " x "}, {"role": "assistant", "content": " \n", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": "1"}]);
    let body = asked(
        "claude-sonnet-4-5",
        json!({"reasoning_effort": "high", "temperature": 0.5, "top_p": 0.9, "stop": ["\n", "END", ""],
            "tools": tools, "messages": history}),
    )
    .await;
    // It did not think before it called: so it may not now.
    assert_eq!(body.get("thinking"), None);
    assert_eq!((&body["temperature"], body.get("top_p")), (&json!(0.5), None));
    assert_eq!(body["stop_sequences"], json!(["END"]));
    assert_eq!(body["tools"][0]["input_schema"], json!({"type": "object", "properties": {}}));
    let said = json!([{"type": "tool_use", "id": "functions_f_0", "name": "f", "input": {}}]);
    assert_eq!(
        (&body["messages"][1]["content"], &body["messages"][2]["content"][0]["tool_use_id"]),
        (&said, &json!("functions_f_0"))
    );
    let forced = json!({"reasoning_effort": "low", "tool_choice": "required", "tools": tools, "top_p": 0.9});
    let body = asked("claude-sonnet-4-5", forced.clone()).await;
    assert_eq!((body.get("thinking"), &body["top_p"]), (None, &json!(0.9)));
    let body =
        asked("claude-opus-4-7", json!({"temperature": 0.5, "top_k": 3, "reasoning_effort": "low"})).await;
    assert_eq!(body["thinking"]["type"], "adaptive");
    assert!(["temperature", "top_p", "top_k"].iter().all(|field| body.get(*field).is_none()), "{body}");
    assert_eq!(asked("claude-3-5-haiku", json!({"reasoning_effort": "low"})).await.get("thinking"), None);
}

#[tokio::test]
async fn what_the_system_says_alone_is_answered() {
    let (hub, upstream) = claude().await;
    upstream.reply(message(json!([{"type": "text", "text": "Hi."}]), "end_turn"));
    let system =
        json!([{"role": "system", "content": "Say hi."}, {"role": "developer", "content": "Twice."}]);
    hub.chat(json!({"model": "priced", "messages": system})).await.expect("an answer");
    let seen = &upstream.calls()[0].body;
    let said = json!([{"type": "text", "text": "Say hi."}, {"type": "text", "text": "Twice."}]);
    assert_eq!(seen["messages"], json!([{"role": "user", "content": said}]));
    assert_eq!(seen.get("system"), None);
    let nothing = json!({"model": "priced", "messages": [{"role": "user", "content": " "}]});
    let error = hub.chat(nothing).await.expect_err("nothing is said");
    assert!(matches!(&error, ModelError::Invalid { param, .. } if param == "messages"), "{error:?}");
}

#[tokio::test]
async fn schemas_of_answers_leave_nothing_open() {
    let (hub, upstream) = claude().await;
    upstream.reply(message(json!([{"type": "text", "text": "{}"}]), "end_turn"));
    let point = json!({"type": "object", "properties": {"x": {"type": "number"}}});
    let schema = json!({"type": "object", "$defs": {"point": point},
        "properties": {"properties": {"type": ["object", "null"], "additionalProperties": true},
            "at": {"anyOf": [{"$ref": "#/$defs/point"}, point]}, "all": {"type": "array", "items": point},
            "kind": {"enum": [{"type": "object"}]}}});
    let form = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": schema}});
    let mut body = hello("priced");
    body["response_format"] = form;
    hub.chat(body).await.expect("an answer");
    let point =
        json!({"type": "object", "properties": {"x": {"type": "number"}}, "additionalProperties": false});
    let expected = json!({"type": "object", "$defs": {"point": point}, "additionalProperties": false,
        "properties": {"properties": {"type": ["object", "null"], "additionalProperties": true},
            "at": {"anyOf": [{"$ref": "#/$defs/point"}, point]}, "all": {"type": "array", "items": point},
            "kind": {"enum": [{"type": "object"}]}}});
    assert_eq!(upstream.calls()[0].body["output_config"]["format"]["schema"], expected);
}
