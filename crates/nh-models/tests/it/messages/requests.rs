//! Requests, on their way to each kind of provider.

use http::{HeaderName, HeaderValue};
use nh_models::served::messages;
use nh_models::{ModelError, ProviderKind};
use serde_json::{Value, json};

use super::{answer_of, asked, everything, written};
use crate::harness::{hub_of, object};

#[tokio::test]
async fn anthropic_is_asked_what_its_client_asked() {
    let given = everything();
    assert_eq!(written(ProviderKind::Anthropic, &given).await, given);

    let mut thinks = given.clone();
    thinks.as_object_mut().expect("an object").remove("temperature");
    thinks["thinking"] = json!({"type": "enabled", "budget_tokens": 2048});
    assert_eq!(written(ProviderKind::Anthropic, &thinks).await, thinks);
    thinks["thinking"] = json!({"type": "disabled"});
    thinks["temperature"] = json!(0.5);
    assert_eq!(written(ProviderKind::Anthropic, &thinks).await, thinks);
}

#[tokio::test]
async fn texts_stand_for_lists_of_one_block() {
    let plain = json!({"model": "priced", "max_tokens": 16, "system": "Be brief.", "messages": [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]});
    let block = |text: &str| json!([{"type": "text", "text": text}]);
    let listed = json!({"model": "priced", "max_tokens": 16, "system": block("Be brief."), "messages": [
        {"role": "user", "content": block("Hi")}, {"role": "assistant", "content": block("Ho")}]});
    assert_eq!(written(ProviderKind::Anthropic, &plain).await, listed);
    assert_eq!(asked(plain.clone()), asked(listed));
    let messages = json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Ho"}]);
    let openai = json!({"model": "priced", "max_tokens": 16, "messages": messages});
    assert_eq!(written(ProviderKind::Openai, &plain).await, openai);
}

/// Without the document that is given by its URL, which OpenAI's chats do not take.
fn with_bytes_alone() -> Value {
    let mut body = everything();
    body["messages"][0]["content"].as_array_mut().expect("blocks").remove(5);
    body
}

fn for_others() -> Value {
    let mut body = with_bytes_alone();
    body["tools"].as_array_mut().expect("tools").pop();
    body["thinking"] = json!({"type": "adaptive"});
    body["metadata"]["user_id"] = json!("u".repeat(65));
    body
}

#[tokio::test]
async fn no_other_provider_sees_what_only_anthropic_takes() {
    let google = written(ProviderKind::Google, &for_others()).await.to_string();
    for word in ["anthropic", "cache_control", "output_config", "is_error", "citations", "user_id", "file_1"]
    {
        assert!(!google.contains(word), "{word} in {google}");
    }
    let body = written(ProviderKind::Openai, &for_others()).await;
    let text = body.to_string();
    for word in [
        "anthropic",
        "cache_control",
        "top_k",
        "thinking",
        "output_config",
        "is_error",
        "reasoning_details",
        "citations",
        "metadata",
        "file_1",
    ] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    assert_eq!(body.get("user"), None);
    assert_eq!(body.get("reasoning_effort"), None);
    assert_eq!((&body["tool_choice"], &body["parallel_tool_calls"]), (&json!("required"), &json!(false)));
    assert_eq!(body["response_format"]["json_schema"]["schema"], json!({"type": "object"}));
    assert_eq!((&body["stop"], &body["max_tokens"]), (&json!(["END"]), &json!(4096)));
    let messages = body["messages"].as_array().expect("messages");
    let roles: Vec<_> = messages.iter().map(|message| message["role"].as_str().expect("a role")).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "tool", "user", "user"]);
    assert_eq!(messages[0]["content"], "Be brief.");
    assert_eq!(messages[1]["content"][1]["image_url"]["url"], "data:image/png;base64,aGk=");
    assert_eq!(
        messages[1]["content"].as_array().and_then(|parts| parts.last()),
        Some(&json!({"type": "text", "text": "b\n\nText."}))
    );
    assert_eq!((&messages[3]["content"], &messages[4]["content"]), (&json!("seen"), &json!("blind")));
    assert_eq!(messages[5]["content"][0]["type"], "image_url");
    assert_eq!(messages[6]["content"], "And?");
}

#[tokio::test]
async fn openrouter_gets_what_it_passes_to_anthropic() {
    let body = written(ProviderKind::Openrouter, &for_others()).await;
    let messages = &body["messages"];
    assert_eq!(messages[0]["content"][0]["cache_control"]["type"], "ephemeral");
    assert_eq!(messages[2]["reasoning_details"][0]["signature"], "sig1");
    assert_eq!(messages[3]["content"][0]["cache_control"]["type"], "ephemeral");
    assert_eq!((&body["top_k"], &body["reasoning_effort"]), (&json!(5), &json!("high")));
}

#[tokio::test]
async fn tools_that_run_at_anthropic_are_refused_elsewhere() {
    let (hub, upstream) = hub_of(ProviderKind::Openai).await;
    let error = hub.chat(asked(with_bytes_alone())).await.expect_err("an error");
    let ModelError::Invalid { message, param } = error else { panic!("{error}") };
    assert_eq!(param, "tools[1].type");
    assert!(message.contains("web_search_20250305"), "{message}");
    assert!(upstream.calls().is_empty());
}

#[test]
fn mistakes_name_their_field() {
    let ok = json!({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]});
    let with = |field: &str, value: Value| {
        let mut body = ok.clone();
        body[field] = value;
        body
    };
    let of = |content: Value| with("messages", json!([{"role": "assistant", "content": content}]));
    for (body, at) in [
        (with("max_tokens", Value::Null), "max_tokens"),
        (with("max_tokens", json!(-1)), "max_tokens"),
        (with("max_tokens", json!("1")), "max_tokens"),
        (with("messages", json!([])), "messages"),
        (with("messages", json!([7])), "messages[0].role"),
        (with("messages", json!([{"role": "tool"}])), "messages[0].role"),
        (with("system", json!(7)), "system"),
        (with("tools", json!({})), "tools"),
        (with("tools", json!([{}])), "tools[0].name"),
        (of(json!(7)), "messages[0].content"),
        (of(json!(["x"])), "messages[0].content[0].type"),
        (of(json!([{"type": "tool_use", "name": "f"}])), "messages[0].content[0].id"),
        (
            with("messages", json!([{"role": "user", "content": [{"type": "tool_result"}]}])),
            "messages[0].content[0].tool_use_id",
        ),
    ] {
        let error = messages::request(object(body.clone())).expect_err(&body.to_string());
        let ModelError::Invalid { message, param } = error else { panic!("{error}") };
        assert_eq!(param, at);
        assert!(message.starts_with(&format!("`{at}` is ")), "{message}");
    }
}

#[test]
fn a_count_is_an_estimate_of_all_that_is_read() {
    let count = |body: Value| {
        messages::count(object(body)).expect("a count")["input_tokens"].as_u64().expect("tokens")
    };
    let hello = json!({"model": "m", "messages": [{"role": "user", "content": "Hello, how are you?"}]});
    let mut longer = hello.clone();
    longer["system"] = json!("word ".repeat(400));
    assert!((1..50).contains(&count(hello)));
    assert!(count(longer) > 400);
}

#[tokio::test]
async fn a_fault_is_named_where_the_client_put_it() {
    let (hub, _upstream) = hub_of(ProviderKind::Openai).await;
    let result = json!({"type": "tool_result", "tool_use_id": "a", "content": "1"});
    let call = json!({"type": "tool_use", "id": "a", "name": "f", "input": {}});
    let document = json!({"type": "document", "source": {"type": "url", "url": "https://a.b/c.pdf"}});
    let body = json!({"model": "priced", "max_tokens": 16, "system": "Be brief.", "messages": [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": [call]},
        {"role": "user", "content": [result, document]}]});
    let request = messages::request(object(body)).expect("a request");
    let error = request.places.told(hub.chat(Value::Object(request.chat)).await.expect_err("a fault"));
    let ModelError::Invalid { message, param } = &error else { panic!("{error:?}") };
    assert_eq!(param, "messages[2]", "{message}");
    assert!(message.contains("`messages[2]`") && !message.contains("messages[4]"), "{message}");
}

#[tokio::test]
async fn betas_go_to_anthropic_alone() {
    let body = json!({"model": "priced", "max_tokens": 16, "messages": [{"role": "user", "content": "Hi"}]});
    let asked = |betas: &[&str]| {
        let mut chat = object(asked(body.clone()));
        let headers = betas.iter().map(|beta| {
            (
                HeaderName::from_static("anthropic-beta"),
                HeaderValue::from_bytes(beta.as_bytes()).expect("a value"),
            )
        });
        messages::put_beta(&mut chat, &headers.collect()).map(|()| Value::Object(chat))
    };
    for kind in [ProviderKind::Anthropic, ProviderKind::Openai, ProviderKind::Openrouter] {
        let (hub, upstream) = hub_of(kind).await;
        upstream.reply(answer_of(kind));
        hub.chat(asked(&["one-2025", "two-2025,three"]).expect("betas")).await.expect("an answer");
        let seen = &upstream.calls()[0];
        let is_anthropic = kind == ProviderKind::Anthropic;
        let sent = seen.headers.get("anthropic-beta").map(|beta| beta.to_str().expect("a text"));
        assert_eq!(sent, is_anthropic.then_some("one-2025,two-2025,three"));
        assert!(!seen.body.to_string().contains("2025"), "{}", seen.body);
    }
    for wrong in ["\u{e9}".to_owned(), "x".repeat(2_000)] {
        let error = asked(&[&wrong]).expect_err("refused");
        assert!(
            matches!(&error, ModelError::Invalid { param, .. } if param == "anthropic-beta"),
            "{error:?}"
        );
    }
    // Nobody gets around that by the body.
    let (hub, upstream) = hub_of(ProviderKind::Anthropic).await;
    upstream.reply(answer_of(ProviderKind::Anthropic));
    let mut chat = asked(&[]).expect("none");
    chat["anthropic"] = json!({"anthropic-beta": "x\r\ny: z"});
    hub.chat(chat).await.expect("an answer");
    assert!(!upstream.calls()[0].headers.contains_key("anthropic-beta"));
}
