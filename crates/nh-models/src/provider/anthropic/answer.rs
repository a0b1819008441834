//! A whole message as OpenAI's completion.

use serde_json::{Map, Value, json};

use super::usage::Counts;
use super::{BLOCK, Place, THINKING_FORMAT, put_end};

/// What is no message stays as it is.
pub(in crate::provider) fn read(answer: Map<String, Value>) -> Map<String, Value> {
    let Some(blocks) = answer.get("content").and_then(Value::as_array) else { return answer };
    let mut message = Message::default();
    blocks.iter().for_each(|block| message.add(block));
    let mut counts = Counts::default();
    counts.add(answer.get("usage").unwrap_or(&Value::Null));
    let stop_reason = answer.get("stop_reason").and_then(Value::as_str).unwrap_or_default();
    let mut choice = json!({"index": 0, "message": message.into_value()});
    put_end(&mut choice, stop_reason, answer.get("stop_sequence"));
    let mut completion = Map::from_iter([
        ("object".to_owned(), Value::from("chat.completion")),
        ("choices".to_owned(), json!([choice])),
    ]);
    for field in ["id", "model"] {
        completion.extend(answer.get(field).map(|value| (field.to_owned(), value.clone())));
    }
    completion.extend(counts.told().map(|usage| ("usage".to_owned(), usage)));
    completion
}

#[derive(Default)]
struct Message {
    text: String,
    thinking: String,
    details: Vec<Value>,
    calls: Vec<Value>,
    /// Of what comes next.
    place: Place,
}

impl Message {
    fn add(&mut self, block: &Value) {
        let text = |field: &str| block[field].as_str().unwrap_or_default();
        match text("type") {
            "text" => {
                self.text.push_str(text("text"));
                self.place.say(text("text"));
            }
            "thinking" => {
                self.thinking.push_str(text("thinking"));
                self.keep(json!({"type": "reasoning.text", "text": text("thinking"), "signature": block["signature"]}));
            }
            "redacted_thinking" => {
                self.keep(json!({"type": "reasoning.encrypted", "data": block["data"]}));
            }
            "tool_use" => {
                let arguments = match &block["input"] {
                    Value::Null => "{}".to_owned(),
                    input => input.to_string(),
                };
                self.calls.push(json!({"id": block["id"], "type": "function",
                    "function": {"name": block["name"], "arguments": arguments}}));
                self.place.calls += 1;
            }
            "" => {}
            // What Anthropic's own tools did.
            _ => self.keep(json!({"type": BLOCK, "block": block})),
        }
    }

    fn keep(&mut self, mut detail: Value) {
        detail["format"] = Value::from(THINKING_FORMAT);
        detail["index"] = Value::from(self.details.len());
        self.place.put(&mut detail);
        self.details.push(detail);
    }

    fn into_value(self) -> Value {
        let content = if self.text.is_empty() { Value::Null } else { Value::from(self.text) };
        let mut message =
            Map::from_iter([("role".to_owned(), Value::from("assistant")), ("content".to_owned(), content)]);
        let mut put = |field: &str, value: Value, is_there: bool| {
            if is_there {
                message.insert(field.to_owned(), value);
            }
        };
        let has = (!self.thinking.is_empty(), !self.details.is_empty(), !self.calls.is_empty());
        put("reasoning_content", Value::from(self.thinking), has.0);
        put("reasoning_details", Value::Array(self.details), has.1);
        put("tool_calls", Value::Array(self.calls), has.2);
        Value::Object(message)
    }
}
