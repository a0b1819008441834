//! How long a prompt is taken for, where the provider does not say.

use nh_models::ProviderKind;
use nh_testkit::upstream::Reply;
use serde_json::{Value, json};

use crate::harness::{hello, hub_of, object};

const MEGABYTE: usize = 1_000_000;

/// The tokens of a prompt of which the provider counts nothing.
async fn counted(more: Value) -> u64 {
    let (hub, upstream) = hub_of(ProviderKind::Openrouter).await;
    upstream.reply(Reply::json(200, &json!({"choices": [{"message": {"content": "Hello"}}]})));
    let mut body = hello("priced");
    body.as_object_mut().expect("an object").extend(object(more));
    let answer = hub.chat(body).await.expect("an answer");
    answer["usage"]["prompt_tokens"].as_u64().expect("a count")
}

fn user(content: Value) -> Value {
    json!({"messages": [{"role": "user", "content": content}]})
}

#[tokio::test]
async fn a_text_counts_by_its_bytes_whatever_it_looks_like() {
    let picture = format!("data:image/png;base64,{}", "word".repeat(MEGABYTE / 4));
    let text = format!("data: {}", "word".repeat(MEGABYTE / 4));
    let call = json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": picture}});
    let schema = json!({"type": "image_url", "image_url": {"url": picture}});
    for body in [
        user(json!(text)),
        user(json!(picture)),
        user(json!([{"type": "text", "text": picture}])),
        user(json!([{"type": "text", "text": "x", "image_url": {"url": picture}}])),
        json!({"messages": [{"role": "system", "content": picture}, {"role": "user", "content": "x"}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": picture}]}),
        json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}),
    ] {
        let tokens = counted(body).await;
        assert!(tokens > 200_000, "{tokens}");
    }
}

#[tokio::test]
async fn pictures_count_a_thousand_and_files_by_their_bytes() {
    let of = |media_type: &str, letters: usize| format!("data:{media_type};base64,{}", "A".repeat(letters));
    let picture = |url: String| user(json!([{"type": "image_url", "image_url": {"url": url}}]));
    let file = |data: String| user(json!([{"type": "file", "file": {"filename": "f", "file_data": data}}]));
    let url = "https://example.org/a".to_owned();
    let own = json!({"type": "anthropic", "block": {"type": "document", "source": {"type": "file", "file_id": "f"}}});
    for (body, least) in [
        (picture(of("image/png", MEGABYTE)), 1_000),
        (user(json!([{"type": "image_url", "image_url": of("image/png", MEGABYTE)}])), 1_000),
        (picture(url.clone()), 1_000),
        (file(url), 1_000),
        (user(json!([{"type": "file", "file": {"file_id": "f"}}])), 1_000),
        (user(json!([own])), 1_000),
        (file(of("application/pdf", 400)), 1_000),
        (file(of("text/plain", MEGABYTE)), 187_500),
        // Not a picture, and some providers read it.
        (picture(of("text/plain", MEGABYTE)), 187_500),
    ] {
        let tokens = counted(body).await;
        assert!((least..least + 100).contains(&tokens), "{tokens}, not {least}");
    }
}

#[tokio::test]
async fn all_that_a_provider_may_bill_as_prompt_is_counted() {
    let long = "word".repeat(MEGABYTE / 4);
    let schema =
        json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"description": long}}});
    for body in [
        json!({"functions": [{"name": "f", "description": long}]}),
        json!({"response_format": schema}),
        json!({"prediction": {"type": "content", "content": long}}),
        json!({"documents": [long]}),
    ] {
        let tokens = counted(body).await;
        assert!(tokens > 200_000, "{tokens}");
    }
    let few = counted(json!({})).await;
    let settings = json!({"temperature": 0.5, "n": 1, "user": "somebody", "stop": ["."], "tool_choice": "auto",
        "metadata": {"a": "b"}, "stream_options": {"include_usage": true}, "logit_bias": {"50256": -100}});
    assert_eq!(counted(settings).await, few);
}
