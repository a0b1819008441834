//! Whatever comes: no panic, and events that are well formed.

use nh_models::served::messages;
use nh_models::{ModelError, ProviderKind};
use nh_testkit::upstream::chunk;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{answer_of, done, emitted, frame, gathered};
use crate::harness::{hub_of, object};

/// Any JSON, more often with words that mean something.
fn anything() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] = &[
        "text",
        "image",
        "document",
        "tool_use",
        "tool_result",
        "thinking",
        "redacted_thinking",
        "base64",
        "url",
        "user",
        "assistant",
        "system",
        "web_search_20250305",
        "custom",
        "auto",
        "any",
        "enabled",
        "json_schema",
        "anthropic",
        "neuralhub:{\"detail\":{}}",
        "neuralhub:{",
        "",
    ];
    const FIELDS: &[&str] = &[
        "type",
        "role",
        "content",
        "text",
        "source",
        "media_type",
        "data",
        "url",
        "id",
        "name",
        "input",
        "tool_use_id",
        "signature",
        "thinking",
        "cache_control",
        "is_error",
        "title",
        "input_schema",
        "format",
        "schema",
        "effort",
        "user_id",
        "disable_parallel_tool_use",
        "budget_tokens",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        prop::sample::select(WORDS).prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(FIELDS), inner, 0..6).prop_map(|fields| fields
                .into_iter()
                .map(|(field, value)| (field.to_owned(), value))
                .collect()),
        ]
    })
}

fn blocks() -> impl Strategy<Value = Value> {
    let block =
        (
            prop::sample::select(
                &[
                    "text",
                    "image",
                    "document",
                    "tool_use",
                    "tool_result",
                    "thinking",
                    "redacted_thinking",
                    "x",
                ][..],
            ),
            anything(),
        )
            .prop_map(|(kind, mut block)| {
                if let Some(block) = block.as_object_mut() {
                    block.insert("type".to_owned(), json!(kind));
                    block.entry("id").or_insert(json!("t"));
                    block.entry("name").or_insert(json!("f"));
                    block.entry("tool_use_id").or_insert(json!("t"));
                }
                block
            });
    prop_oneof![3 => prop::collection::vec(block, 0..4).prop_map(Value::from), 1 => anything()]
}

fn any_request() -> impl Strategy<Value = Value> {
    const FIELDS: &[&str] = &[
        "system",
        "tools",
        "tool_choice",
        "stop_sequences",
        "temperature",
        "top_k",
        "metadata",
        "thinking",
        "output_config",
        "stream",
        "anthropic",
        "cache_control",
        "user",
    ];
    let message = (prop::sample::select(&["user", "assistant", "system"][..]), blocks())
        .prop_map(|(role, content)| json!({"role": role, "content": content}));
    let messages =
        prop_oneof![4 => prop::collection::vec(message, 1..4).prop_map(Value::from), 1 => anything()];
    let fields = prop::collection::btree_map(prop::sample::select(FIELDS), anything(), 0..5);
    (messages, fields).prop_map(|(messages, fields)| {
        let mut body = json!({"model": "priced", "max_tokens": 64, "messages": messages});
        for (field, value) in fields {
            body[field] = value;
        }
        body
    })
}

fn any_delta() -> impl Strategy<Value = Value> {
    let call = (0_u64..3, any::<bool>(), prop::sample::select(&["", "{", "{}", "\"a\":1", "}", "x"][..]))
        .prop_map(|(index, is_named, piece)| {
            let mut call = json!({"index": index, "id": "c", "function": {"arguments": piece}});
            if is_named {
                call["function"]["name"] = json!("f");
                call["extra_content"] = json!({"google": {"thought_signature": "s"}});
            }
            json!({"tool_calls": [call]})
        });
    let detail = (0_u64..2, prop::sample::select(&["reasoning.text", "reasoning.encrypted", "reasoning.summary"][..]), any::<bool>()).prop_map(|(index, kind, is_signed)| {
        let mut detail = json!({"type": kind, "text": "t", "data": "d", "index": index, "format": "anthropic-claude-v1"});
        if is_signed {
            detail["signature"] = json!("s");
        }
        json!({"reasoning_details": [detail], "reasoning_content": "t"})
    });
    prop_oneof![
        "\\PC{0,6}".prop_map(|text| json!({"content": text})),
        Just(json!({"reasoning": "hm"})),
        Just(json!({"refusal": "no"})),
        Just(json!({"content": [{"type": "text", "text": "x"}, 7]})),
        call,
        detail,
        anything(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: nh_testkit::cases(256), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked: a request that every provider can be asked, or a fault of the client's.
    #[test]
    fn any_request_is_read_or_refused(body in any_request()) {
        let _ = messages::count(object(body.clone()));
        match messages::request(object(body)) {
            Ok(request) => prop_assert!(request.chat["messages"].is_array()),
            Err(error) => prop_assert!(matches!(error, ModelError::Invalid { .. }), "{error}"),
        }
    }

    #[test]
    fn any_answer_is_a_message(choice in anything(), message in anything(), usage in anything()) {
        let mut body = json!({"choices": [choice], "usage": usage});
        let _ = messages::answer(object(body.clone()));
        body["choices"] = json!([{"message": message}]);
        prop_assert!(messages::answer(object(body))["content"].is_array());
    }

    #[test]
    fn any_stream_is_well_formed(deltas in prop::collection::vec(any_delta(), 0..12), is_done in any::<bool>(), cut in 1_usize..40) {
        let mut bytes: Vec<u8> = deltas.iter().flat_map(|delta| frame(&chunk(delta.clone(), None))).collect();
        bytes.extend(is_done.then(done).unwrap_or_default());
        let pieces: Vec<Vec<u8>> = bytes.chunks(cut).map(<[u8]>::to_vec).collect();
        let told = gathered(&emitted(&pieces));
        prop_assert_eq!(told["type"] == "message", is_done);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: nh_testkit::cases(32), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_provider_can_be_asked_anything(body in any_request()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            for kind in [ProviderKind::Anthropic, ProviderKind::Openai, ProviderKind::Openrouter, ProviderKind::Google] {
                let Ok(messages::Request { chat, .. }) = messages::request(object(body.clone())) else { continue };
                let (hub, upstream) = hub_of(kind).await;
                upstream.reply(answer_of(kind));
                if let Err(error) = hub.chat(Value::Object(chat)).await {
                    assert!(matches!(error, ModelError::Invalid { .. }), "{error}");
                }
            }
        });
    }
}
