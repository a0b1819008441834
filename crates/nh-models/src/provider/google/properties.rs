//! Whatever JSON comes: an answer or an error, and no panic.

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::super::asking::Operation;
use super::{Events, read, write};

/// What the translations look for.
const WORDS: [&str; 66] = [
    "model",
    "messages",
    "role",
    "user",
    "assistant",
    "tool",
    "system",
    "content",
    "type",
    "text",
    "image_url",
    "url",
    "data:image/png;base64,AA",
    "https://x/y",
    "file",
    "file_data",
    "input_audio",
    "data",
    "format",
    "images",
    "tool_calls",
    "tool_call_id",
    "id",
    "function",
    "name",
    "arguments",
    "{\"a\":1}",
    "{}",
    "tools",
    "parameters",
    "tool_choice",
    "required",
    "extra_content",
    "google",
    "thought_signature",
    "stop",
    "modalities",
    "response_format",
    "json_schema",
    "schema",
    "reasoning",
    "effort",
    "gemini-2.5-flash",
    "input",
    "dimensions",
    "candidates",
    "parts",
    "index",
    "thought",
    "thoughtSignature",
    "functionCall",
    "args",
    "inlineData",
    "mimeType",
    "image/png",
    "executableCode",
    "code",
    "finishReason",
    "STOP",
    "MALFORMED_FUNCTION_CALL",
    "promptFeedback",
    "blockReason",
    "usageMetadata",
    "promptTokenCount",
    "embeddings",
    "values",
];

fn json() -> impl Strategy<Value = Value> {
    let word = || prop::sample::select(&WORDS[..]).prop_map(str::to_owned);
    let leaf = prop_oneof![
        2 => word().prop_map(Value::from),
        1 => "\\PC{0,8}".prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::vec((word(), inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// An object with the field of its kind, so that something is looked at.
fn object(field: &'static str) -> impl Strategy<Value = Map<String, Value>> {
    let list = prop::collection::vec(json(), 0..4);
    (json(), prop_oneof![list.prop_map(Value::from), json()]).prop_map(move |(value, inner)| {
        let mut object = value.as_object().cloned().unwrap_or_default();
        object.insert(field.to_owned(), inner);
        object
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: nh_testkit::cases(512), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_written_or_refused(mut body in object("messages"), is_named in any::<bool>()) {
        if is_named {
            body.insert("model".to_owned(), Value::from("gemini-3-flash"));
        }
        for operation in [Operation::Chat, Operation::ChatStream, Operation::Embeddings] {
            if let Ok((path, _)) = write(operation, &body) {
                prop_assert!(path.starts_with("models/") || path.starts_with("tunedModels/"), "{path}");
            }
        }
    }

    #[test]
    fn any_answer_is_read(answer in object("candidates")) {
        if let Some(choices) = read(answer).get("choices").and_then(Value::as_array) {
            prop_assert!(choices.iter().all(|choice| choice["finish_reason"].is_string()));
        }
    }

    #[test]
    fn any_event_becomes_frames(answers in prop::collection::vec(object("candidates"), 1..4), text in "\\PC{0,20}") {
        let mut events = Events::default();
        for answer in answers {
            for frame in events.frames(&Value::Object(answer).to_string()) {
                prop_assert!(serde_json::from_str::<Map<String, Value>>(&frame).is_ok());
            }
        }
        prop_assert!(!events.frames(&text).is_empty());
    }
}
