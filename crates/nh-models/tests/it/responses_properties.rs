//! Whatever is sent, and whatever a provider says: no panic, and events that fit together.

use nh_models::ProviderKind;
use nh_models::served::responses;
use nh_testkit::upstream::{Reply, chunk};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::harness::hub_of;
use crate::responses_check::ids;

/// Any JSON, with the words that matter here more often than others.
fn any_json() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] = &[
        "message",
        "user",
        "assistant",
        "system",
        "function_call",
        "function_call_output",
        "reasoning",
        "input_text",
        "output_text",
        "input_image",
        "input_file",
        "function",
        "allowed_tools",
        "json_schema",
        "length",
        "x",
        "{}",
        "eyJuZXVyYWxodWIiOnsiZGV0YWlscyI6W3siaW5kZXgiOjB9LDNdLCJleHRyYXMiOnsieCI6MX19fQ==",
    ];
    const FIELDS: &[&str] = &[
        "type",
        "role",
        "content",
        "text",
        "call_id",
        "name",
        "arguments",
        "output",
        "summary",
        "encrypted_content",
        "tools",
        "mode",
        "format",
        "image_url",
        "file_data",
        "id",
        "index",
        "function",
        "delta",
        "message",
        "usage",
        "reasoning_content",
        "reasoning_details",
        "tool_calls",
        "extra_content",
        "refusal",
        "finish_reason",
        "logprobs",
    ];
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(|number| json!(number)),
        4 => prop::sample::select(WORDS).prop_map(Value::from),
        1 => "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            2 => prop::collection::btree_map(prop::sample::select(FIELDS), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(field, value)| (field.to_owned(), value)).collect()),
        ]
    })
}

fn body() -> impl Strategy<Value = Map<String, Value>> {
    let item = prop_oneof![
        any_json(),
        any_json().prop_map(|content| json!({"role": "user", "content": content})),
        any_json().prop_map(|text| json!({"type": "reasoning", "encrypted_content": text, "summary": text})),
        "[a-c]"
            .prop_map(|id| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"})),
    ];
    let input = prop_oneof![any_json(), prop::collection::vec(item, 0..5).prop_map(Value::Array)];
    const FIELDS: &[&str] =
        &["instructions", "tools", "tool_choice", "text", "reasoning", "include", "stream", "metadata"];
    (
        input,
        prop::collection::btree_map(prop::sample::select(FIELDS).prop_map(str::to_owned), any_json(), 0..4),
    )
        .prop_map(|(input, more)| {
            let mut body: Map<String, Value> = more.into_iter().collect();
            body.insert("input".to_owned(), input);
            body
        })
}

fn delta() -> impl Strategy<Value = Value> {
    let piece = "[a-z{}\":]{0,4}";
    prop_oneof![
        piece.prop_map(|text| json!({"content": text})),
        piece.prop_map(|text| json!({"refusal": text})),
        piece.prop_map(|text| json!({"reasoning_content": text})),
        (piece, 0..3_u64).prop_map(|(text, index)| json!({"reasoning_details": [{"type": "reasoning.text",
            "text": text, "index": index}]})),
        (0..4_u64, piece)
            .prop_map(|(index, text)| json!({"tool_calls": [{"index": index, "id": format!("c{index}"),
            "function": {"name": "f", "arguments": text}}]})),
        (0..4_u64).prop_map(|index| json!({"tool_calls": [{"index": index, "id": format!("c{index}"),
            "function": {"name": "f"}, "extra_content": {"google": {}}}]})),
    ]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases: nh_testkit::cases(cases), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(512))]

    #[test]
    fn no_request_and_no_answer_is_a_panic(
        body in body(), completion in any_json(), message in any_json(), usage in any_json(),
    ) {
        if let Ok(request) = responses::read(&body) {
            let messages = request.chat["messages"].as_array().expect("messages");
            prop_assert!(!messages.is_empty() && messages.iter().all(|message| message["role"].is_string()));
            let mut completion = completion.as_object().cloned().unwrap_or_default();
            completion.insert("choices".to_owned(), json!([{"message": message}]));
            completion.insert("usage".to_owned(), usage);
            let answer = request.asked.answer(&ids(), &completion);
            prop_assert_eq!(&answer["object"], "response");
            prop_assert!(answer["output"].is_array());
        }
    }
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn events_fit_together(
        deltas in prop::collection::vec(delta(), 1..12),
        reason in prop::sample::select(vec!["stop", "tool_calls", "length", "content_filter"]),
        is_cut in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (hub, upstream) = hub_of(ProviderKind::Openai).await;
            let mut chunks: Vec<Value> = deltas.into_iter().map(|delta| chunk(delta, None)).collect();
            let reply = match is_cut {
                true => Reply::chunks(&chunks),
                false => {
                    chunks.push(chunk(json!({}), Some(reason)));
                    Reply::chunks(&chunks).done()
                }
            };
            upstream.reply(reply);
            let events = hub.respond_streamed(json!({"model": "priced", "input": "x"})).await.expect("a stream");
            let last = events.last().expect("events")["type"].clone();
            let expected = match (is_cut, reason) {
                (true, _) => "response.failed",
                (false, "stop" | "tool_calls") => "response.completed",
                _ => "response.incomplete",
            };
            assert_eq!(last, expected);
        });
    }
}
