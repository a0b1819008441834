//! A streamed message as OpenAI's chunks
//! (<https://docs.anthropic.com/en/docs/build-with-claude/streaming>).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::usage::Counts;
use super::{BLOCK, Place, THINKING_FORMAT, put_end};

const MAX_NAME_BYTES: usize = 256;

#[derive(Default)]
pub(crate) struct Events {
    head: Map<String, Value>,
    counts: Counts,
    /// By the index of its block, a call's own.
    calls: BTreeMap<u64, usize>,
    /// Blocks so far that are kept in `reasoning_details`.
    kept: usize,
    /// The last of them is a thought that was not signed yet.
    is_thinking: bool,
    /// The index of the last block of Anthropic's own tools, and its place among those kept.
    own: Option<(u64, usize)>,
    /// Of what comes next.
    place: Place,
}

impl Events {
    /// What an event says, as the data of OpenAI's frames. What makes no sense is passed on,
    /// to be refused there.
    pub(crate) fn frames(&mut self, event: &str) -> Vec<String> {
        let Ok(Value::Object(event)) = serde_json::from_str(event) else { return vec![event.to_owned()] };
        let field = |name: &str| event.get(name).unwrap_or(&Value::Null);
        match field("type").as_str().unwrap_or_default() {
            "message_start" => self.begin(field("message")),
            "content_block_start" => self.block(field("index").as_u64(), field("content_block")),
            "content_block_delta" => self.delta(field("index").as_u64(), field("delta")),
            "message_delta" => self.end(field("delta"), field("usage")),
            "message_stop" => vec!["[DONE]".to_owned()],
            "error" => vec![json!({"error": error(field("error"))}).to_string()],
            // `ping`, `content_block_stop`, and what is not known yet: to be ignored.
            _ => Vec::new(),
        }
    }

    fn begin(&mut self, message: &Value) -> Vec<String> {
        for name in ["id", "model"] {
            // They are in every chunk.
            if message[name].as_str().is_some_and(|text| text.len() <= MAX_NAME_BYTES) {
                self.head.insert(name.to_owned(), message[name].clone());
            }
        }
        self.counts.add(&message["usage"]);
        // The input is paid for from here on, however the stream ends.
        let used = self.counts.told().map(|usage| json!({"choices": [], "usage": usage}).to_string());
        let mut frames = self.chunk(json!({"role": "assistant", "content": ""}));
        frames.extend(used);
        frames
    }

    fn block(&mut self, index: Option<u64>, block: &Value) -> Vec<String> {
        if std::mem::take(&mut self.is_thinking) {
            self.kept += 1;
        }
        match block["type"].as_str().unwrap_or_default() {
            "tool_use" => {
                let place = self.calls.len();
                self.calls.insert(index.unwrap_or_default(), place);
                self.place.calls = self.calls.len();
                let function = json!({"name": block["name"], "arguments": ""});
                let call =
                    json!({"index": place, "id": block["id"], "type": "function", "function": function});
                self.chunk(json!({"tool_calls": [call]}))
            }
            "redacted_thinking" => {
                let detail = json!({"type": "reasoning.encrypted", "data": block["data"]});
                self.kept += 1;
                self.keep(self.kept - 1, detail, None)
            }
            "text" | "thinking" | "" => Vec::new(),
            _ => {
                self.own = Some((index.unwrap_or_default(), self.kept));
                self.kept += 1;
                self.keep(self.kept - 1, json!({"type": BLOCK, "block": block}), None)
            }
        }
    }

    fn delta(&mut self, index: Option<u64>, delta: &Value) -> Vec<String> {
        match delta["type"].as_str().unwrap_or_default() {
            "text_delta" => {
                self.place.say(delta["text"].as_str().unwrap_or_default());
                self.chunk(json!({"content": delta["text"]}))
            }
            "input_json_delta" => {
                let index = index.unwrap_or_default();
                if let Some((_, place)) = self.own.filter(|(own, _)| *own == index) {
                    return self.keep(place, json!({"type": BLOCK, "text": delta["partial_json"]}), None);
                }
                let Some(place) = self.calls.get(&index) else { return Vec::new() };
                let call = json!({"index": place, "function": {"arguments": delta["partial_json"]}});
                self.chunk(json!({"tool_calls": [call]}))
            }
            "thinking_delta" => {
                let detail = json!({"type": "reasoning.text", "text": delta["thinking"]});
                self.is_thinking = true;
                self.keep(self.kept, detail, Some(&delta["thinking"]))
            }
            "signature_delta" => {
                let detail = json!({"type": "reasoning.text", "text": "", "signature": delta["signature"]});
                self.is_thinking = false;
                self.kept += 1;
                self.keep(self.kept - 1, detail, None)
            }
            _ => Vec::new(),
        }
    }

    fn keep(&self, index: usize, mut detail: Value, text: Option<&Value>) -> Vec<String> {
        detail["format"] = Value::from(THINKING_FORMAT);
        detail["index"] = Value::from(index);
        self.place.put(&mut detail);
        let mut delta = json!({"reasoning_details": [detail]});
        if let Some(text) = text {
            delta["reasoning_content"] = text.clone();
        }
        self.chunk(delta)
    }

    fn end(&mut self, delta: &Value, usage: &Value) -> Vec<String> {
        self.counts.add(usage);
        let mut frames = match delta["stop_reason"].as_str() {
            Some(reason) => {
                let mut choice = choice(json!({}));
                put_end(&mut choice, reason, delta.get("stop_sequence"));
                self.chunk_of(choice)
            }
            None => Vec::new(),
        };
        frames.extend(self.counts.told().map(|usage| json!({"choices": [], "usage": usage}).to_string()));
        frames
    }

    fn chunk(&self, delta: Value) -> Vec<String> {
        self.chunk_of(choice(delta))
    }

    fn chunk_of(&self, choice: Value) -> Vec<String> {
        let mut chunk = self.head.clone();
        chunk.insert("choices".to_owned(), json!([choice]));
        vec![Value::Object(chunk).to_string()]
    }
}

fn choice(delta: Value) -> Value {
    json!({"index": 0, "delta": delta, "finish_reason": null})
}

/// With the status that the same error has outside of a stream
/// (<https://docs.anthropic.com/en/api/errors>).
fn error(error: &Value) -> Value {
    let code = match error["type"].as_str().unwrap_or_default() {
        "invalid_request_error" => 400,
        "authentication_error" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" => 404,
        "request_too_large" => 413,
        "rate_limit_error" => 429,
        "timeout_error" => 504,
        _ => 502,
    };
    json!({"message": error["message"], "code": code})
}
