//! Where a chat is not as a response has it.

use nh_models::{ModelError, ProviderKind};
use nh_testkit::upstream::Reply;
use serde_json::{Value, json};

use crate::harness::hub_of;
use crate::messages::answers::streamed;
use crate::responses::sent;
use crate::responses_check::{ask, last};

#[tokio::test]
async fn output_counts_what_was_thought() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    // As xAI counts: thoughts are in the total alone.
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 44,
        "completion_tokens_details": {"reasoning_tokens": 30}});
    let choice = json!({"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"});
    upstream.reply(Reply::json(200, &json!({"choices": [choice], "usage": usage})));
    let told = hub.respond(ask(json!("Hello"))).await.expect("an answer")["usage"].take();
    assert_eq!((&told["output_tokens"], &told["total_tokens"]), (&json!(34), &json!(44)));
    assert_eq!(told["output_tokens_details"], json!({"reasoning_tokens": 30}));
}

#[tokio::test]
async fn a_user_shows_the_pictures_of_a_tool() {
    let picture = json!({"type": "input_image", "image_url": "data:image/png;base64,AA=="});
    let call = |id: &str| json!({"type": "function_call", "call_id": id, "name": "see", "arguments": "{}"});
    let shown =
        |id: &str, output: Value| json!({"type": "function_call_output", "call_id": id, "output": output});
    let body = sent(ask(
        json!([call("a"), call("b"), shown("a", json!([{"type": "input_text", "text": "One"}, picture])),
        shown("b", json!([picture])), {"role": "user", "content": "So?"}]),
    ))
    .await;
    let part = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}});
    assert_eq!(body["messages"][1], json!({"role": "tool", "tool_call_id": "a", "content": "One"}));
    assert_eq!(body["messages"][2], json!({"role": "tool", "tool_call_id": "b", "content": ""}));
    assert_eq!(body["messages"][3], json!({"role": "user", "content": [part, part]}));
    assert_eq!(body["messages"][4], json!({"role": "user", "content": "So?"}));
}

#[tokio::test]
async fn a_fault_is_named_where_the_client_put_it() {
    let file = json!({"role": "user", "content": [{"type": "input_file", "file_url": "https://a.b/c.pdf"}]});
    let audio = json!({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]});
    let call = json!({"type": "function_call", "call_id": "a", "name": "f", "arguments": "["});
    for (kind, item) in [
        (ProviderKind::Openai, file),
        (ProviderKind::Anthropic, audio.clone()),
        (ProviderKind::Google, audio),
        (ProviderKind::Anthropic, call),
    ] {
        let (hub, _upstream) = hub_of(kind).await;
        let mut body =
            ask(json!([{"role": "user", "content": "Hi"}, {"type": "reasoning", "summary": []}, item]));
        body["instructions"] = json!("Be brief.");
        let error = hub.respond(body).await.expect_err("a fault");
        let ModelError::Invalid { message, param } = &error else { panic!("{error:?}") };
        assert_eq!(param, "input[2]", "{message}");
        assert!(message.contains("`input[2]`") && !message.contains("messages["), "{message}");
    }
}

#[tokio::test]
async fn what_anthropics_tools_did_goes_back_to_its_place() {
    let thought = json!({"type": "thinking", "thinking": "Hm.", "signature": "sig"});
    let text = json!({"type": "text", "text": "Hi END"});
    let search =
        json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"a": 1}});
    let found = json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []});
    let call = json!({"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}});
    let content = json!([thought, text, search, found, thought, text, search, call, thought]);
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let whole = json!({"id": "msg_1", "type": "message", "content": content, "stop_reason": "tool_use", "usage": usage});
    let (hub, upstream) = hub_of(ProviderKind::Anthropic).await;
    upstream.reply(Reply::json(200, &whole));
    upstream.reply(Reply::chunks(&streamed(&content, "tool_use", &usage)));
    let answer = hub.respond(ask(json!("x"))).await.expect("an answer");
    let events = hub.respond_streamed(ask(json!("x"))).await.expect("a stream");
    for answer in [&answer, last(&events)] {
        upstream.reply(Reply::json(200, &whole));
        let mut input = vec![json!({"role": "user", "content": "x"})];
        input.extend(answer["output"].as_array().expect("items").iter().cloned());
        input.push(json!({"type": "function_call_output", "call_id": "toolu_1", "output": "1"}));
        hub.respond(ask(Value::Array(input))).await.expect("an answer");
        let seen = upstream.calls().pop().expect("a call").body;
        assert_eq!(seen["messages"][1]["content"], content);
    }
}
