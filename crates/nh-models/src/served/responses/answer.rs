//! A response (<https://platform.openai.com/docs/api-reference/responses/object>).

use nh_types::SharedIds;
use serde_json::{Map, Value, json};

use super::Asked;
use super::output::Output;
use crate::chat::ID_LETTERS;
use crate::usage::Reported;

const ID_LENGTH: usize = 48;
/// What is repeated as it was given, null where it was not.
const REPEATED: [&str; 11] = [
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "model",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "temperature",
    "top_logprobs",
    "top_p",
    "user",
];

impl Asked {
    pub(super) fn of(body: &Map<String, Value>) -> Self {
        let given = |field: &str| body.get(field).cloned().unwrap_or_default();
        let or = |value: Value, is_right: fn(&Value) -> bool, other: Value| match is_right(&value) {
            true => value,
            false => other,
        };
        let mut reasoning = json!({"effort": null, "summary": null});
        let mut text = json!({"format": {"type": "text"}});
        for (whole, field) in [(&mut reasoning, "reasoning"), (&mut text, "text")] {
            let told = body.get(field).and_then(Value::as_object).into_iter().flatten();
            for (name, value) in told.filter(|(_, value)| !value.is_null()) {
                whole[name.as_str()] = value.clone();
            }
        }
        let choice = given("tool_choice");
        let mut told = Map::from_iter(REPEATED.map(|field| (field.to_owned(), given(field))));
        let more = [
            ("object", Value::from("response")),
            ("background", Value::Bool(false)),
            ("error", Value::Null),
            ("incomplete_details", Value::Null),
            ("metadata", or(given("metadata"), Value::is_object, json!({}))),
            ("output", json!([])),
            ("parallel_tool_calls", or(given("parallel_tool_calls"), Value::is_boolean, Value::Bool(true))),
            ("previous_response_id", Value::Null),
            ("reasoning", reasoning),
            ("status", Value::from("in_progress")),
            ("store", Value::Bool(false)),
            ("text", text),
            ("tool_choice", if choice.is_null() { Value::from("auto") } else { choice }),
            ("tools", or(given("tools"), Value::is_array, json!([]))),
            ("truncation", or(given("truncation"), Value::is_string, Value::from("disabled"))),
            ("usage", Value::Null),
        ];
        told.extend(more.map(|(field, value)| (field.to_owned(), value)));
        Self(told)
    }

    /// The answer that a chat completion amounts to.
    pub fn answer(self, ids: &SharedIds, completion: &Map<String, Value>) -> Map<String, Value> {
        let told = |field: &str| completion.get(field).unwrap_or(&Value::Null);
        let mut response = self.begun(ids, told("created").as_i64().unwrap_or_default());
        let choice = &told("choices")[0];
        let mut output = Output::new(ids.clone());
        output.add(&choice["message"], &choice["logprobs"]["content"]);
        learn(&mut response, completion);
        finish(&mut response, &mut output, choice["finish_reason"].as_str(), told("usage"));
        response
    }

    /// A response that was only begun.
    pub(super) fn begun(self, ids: &SharedIds, created_at: i64) -> Map<String, Value> {
        let mut response = self.0;
        let id = format!("resp_{}", ids.text(ID_LETTERS, ID_LENGTH));
        response.insert("id".to_owned(), Value::from(id));
        response.insert("created_at".to_owned(), Value::from(created_at));
        response
    }
}

/// Who answered, and how.
pub(super) fn learn(response: &mut Map<String, Value>, said: &Map<String, Value>) {
    for field in ["model", "service_tier"] {
        if let Some(value) = said.get(field).filter(|value| value.is_string()) {
            response.insert(field.to_owned(), value.clone());
        }
    }
}

pub(super) fn finish(
    response: &mut Map<String, Value>,
    output: &mut Output,
    finish_reason: Option<&str>,
    used: &Value,
) {
    let cut = match finish_reason {
        Some("length") => Some("max_output_tokens"),
        Some("content_filter") => Some("content_filter"),
        _ => None,
    };
    output.end(cut.is_some());
    let status = if cut.is_some() { "incomplete" } else { "completed" };
    response.insert("status".to_owned(), Value::from(status));
    if let Some(reason) = cut {
        response.insert("incomplete_details".to_owned(), json!({"reason": reason}));
    }
    response.insert("output".to_owned(), output.items());
    response.insert("usage".to_owned(), usage(used));
}

fn usage(used: &Value) -> Value {
    if !used.is_object() {
        return Value::Null;
    }
    // Some leave thoughts out of their output, and OpenAI does not.
    let counts = Reported::read(used).unwrap_or_default().usage;
    let written = &used["prompt_tokens_details"]["cache_write_tokens"];
    let mut told = json!({
        "input_tokens": counts.input_tokens,
        "input_tokens_details": {
            "cached_tokens": counts.cached_tokens,
            "cache_write_tokens": written.as_u64().unwrap_or(0),
        },
        "output_tokens": counts.output_tokens,
        "output_tokens_details": {"reasoning_tokens": counts.reasoning_tokens},
        "total_tokens": counts.input_tokens.saturating_add(counts.output_tokens),
    });
    for field in ["cost", "estimated"] {
        if let Some(value) = used.get(field).filter(|value| !value.is_null()) {
            told[field] = value.clone();
        }
    }
    told
}
