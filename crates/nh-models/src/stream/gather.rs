//! A streamed answer, gathered into the whole one that it amounts to.

use futures_util::StreamExt;
use nh_http::sse::Decoder;
use serde_json::{Map, Value};

use super::ChatStream;
use super::relay::SSE_LIMITS;
use crate::chat::MAX_VALUES;
use crate::{Completion, ModelError};

/// After so much of a stream what was gathered of it is counted.
const WEIGH_EVERY_BYTES: usize = 1_000_000;

/// Who hears an answer while it is written.
pub struct Listener<'a> {
    /// Somebody does now.
    pub is_heard: bool,
    /// Is told each delta of the first choice, as OpenAI's chunks have them.
    pub tell: &'a (dyn Fn(&Value) + Send + Sync),
}

/// Reads a stream to its end.
pub(crate) async fn gather(
    mut stream: ChatStream,
    listener: &Listener<'_>,
) -> Result<Completion, ModelError> {
    let mut decoder = Decoder::new(SSE_LIMITS);
    let (mut answer, mut unweighed) = (Answer::default(), 0);
    while let Some(bytes) = stream.next().await {
        decoder.push(&bytes);
        // What the hub writes itself stays within the bounds that it reads by.
        while let Ok(Some(frame)) = decoder.next_frame() {
            unweighed += frame.data.len();
            if let Ok(chunk) = serde_json::from_str(&frame.data) {
                answer.add(chunk, listener);
            }
        }
        if unweighed > WEIGH_EVERY_BYTES {
            unweighed = 0;
            if answer.values() > MAX_VALUES {
                return Err(failed(format!("its answer has more than {MAX_VALUES} values")));
            }
        }
    }
    let usage = stream.ending().unwrap_or_else(|| Err(cut()))?;
    Ok(Completion { body: answer.into_body(), usage })
}

fn cut() -> ModelError {
    failed("its stream was cut off".to_owned())
}

fn failed(message: String) -> ModelError {
    ModelError::Failed { provider: "neuralhub".to_owned(), message }
}

/// The answer so far: what all chunks have in common, and its choices.
#[derive(Default)]
pub(super) struct Answer {
    head: Map<String, Value>,
    choices: Vec<Choice>,
}

#[derive(Default)]
struct Choice {
    message: Map<String, Value>,
    calls: Vec<Map<String, Value>>,
    finish_reason: Value,
}

impl Answer {
    pub(super) fn add(&mut self, mut chunk: Map<String, Value>, listener: &Listener<'_>) {
        let choices = match chunk.remove("choices") {
            Some(Value::Array(choices)) => choices,
            _ => Vec::new(),
        };
        for mut piece in choices.into_iter().filter(Value::is_object) {
            let place = piece["index"].as_u64().and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
            while self.choices.len() <= place {
                self.choices.push(Choice::default());
            }
            let delta = piece["delta"].take();
            if place == 0 && delta.as_object().is_some_and(|delta| !delta.is_empty()) {
                (listener.tell)(&delta);
            }
            let choice = &mut self.choices[place];
            if let Value::Object(delta) = delta {
                choice.add(delta);
            }
            if !piece["finish_reason"].is_null() {
                choice.finish_reason = piece["finish_reason"].take();
            }
        }
        for (field, value) in chunk {
            if !value.is_null() {
                self.head.insert(field, value);
            }
        }
    }

    /// How many it holds: lists and objects grow with what a provider sends, texts are its length.
    fn values(&self) -> usize {
        let of_choice = |choice: &Choice| {
            fields(&choice.message) + choice.calls.iter().map(|call| 1 + fields(call)).sum::<usize>()
        };
        fields(&self.head) + self.choices.iter().map(|choice| 1 + of_choice(choice)).sum::<usize>()
    }

    pub(super) fn into_body(self) -> Map<String, Value> {
        let mut body = self.head;
        body.insert("object".to_owned(), Value::from("chat.completion"));
        let choices = self.choices.into_iter().enumerate().map(|(index, choice)| choice.into_value(index));
        body.insert("choices".to_owned(), choices.collect());
        body
    }
}

impl Choice {
    fn add(&mut self, mut delta: Map<String, Value>) {
        if let Some(Value::Array(pieces)) = delta.remove("tool_calls") {
            for piece in pieces {
                if let Value::Object(piece) = piece {
                    self.add_call(piece);
                }
            }
        }
        for (field, piece) in delta {
            let whole = self.message.entry(field.as_str()).or_insert(Value::Null);
            // Some say it again in each piece.
            if field == "role" && !whole.is_null() {
                continue;
            }
            join(whole, piece);
        }
    }

    /// The shaper has seen to each piece's `index`.
    fn add_call(&mut self, mut piece: Map<String, Value>) {
        let index = piece.remove("index").and_then(|index| usize::try_from(index.as_u64()?).ok());
        let index = index.unwrap_or(0);
        while self.calls.len() <= index {
            self.calls.push(Map::new());
        }
        let call = &mut self.calls[index];
        if let Some(Value::Object(function)) = piece.remove("function") {
            let whole = call.entry("function").or_insert_with(|| Value::Object(Map::new()));
            for (field, piece) in function {
                if field == "arguments" {
                    join(&mut whole["arguments"], piece);
                } else if whole[field.as_str()].is_null() {
                    whole[field.as_str()] = piece;
                }
            }
        }
        for (field, piece) in piece {
            let whole = call.entry(field.as_str()).or_insert(Value::Null);
            if whole.is_null() || whole.is_object() {
                join(whole, piece);
            }
        }
    }

    fn into_value(mut self, index: usize) -> Value {
        crate::chat::put_if_absent(&mut self.message, "role", || Value::from("assistant"));
        self.message.entry("content").or_insert(Value::Null);
        // Some count from 1.
        self.calls.retain(|call| !call.is_empty());
        if !self.calls.is_empty() {
            let calls = self.calls.into_iter().map(Value::Object).collect();
            self.message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        Value::from_iter([
            ("index", Value::from(index)),
            ("message", Value::Object(self.message)),
            ("finish_reason", self.finish_reason),
        ])
    }
}

fn fields(object: &Map<String, Value>) -> usize {
    object.values().map(values).sum()
}

fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(object) => fields(object),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Adds a piece to what came before it: texts and lists go on, objects grow,
/// and anything else is the last that was said.
fn join(whole: &mut Value, piece: Value) {
    match (whole, piece) {
        (_, Value::Null) => {}
        (Value::String(whole), Value::String(piece)) => whole.push_str(&piece),
        (Value::Array(whole), Value::Array(piece)) => whole.extend(piece),
        (Value::Object(whole), Value::Object(piece)) => {
            for (field, piece) in piece {
                join(whole.entry(field).or_insert(Value::Null), piece);
            }
        }
        (whole, piece) => *whole = piece,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn gathered(chunks: &[Value]) -> Value {
        let mut answer = Answer::default();
        let silent = Listener { is_heard: false, tell: &|_| {} };
        for chunk in chunks {
            answer.add(chunk.as_object().cloned().unwrap_or_default(), &silent);
        }
        Value::Object(answer.into_body())["choices"][0].take()
    }

    #[test]
    fn what_some_providers_say_amiss_does_no_harm() {
        let choice = gathered(&[
            json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
            json!({"choices": [{"index": 0, "delta": {"role": null, "content": "Hi"}}]}),
            json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "id": "a", "type": "function",
                "function": {"name": "add", "arguments": "{}"}}]}, "finish_reason": "tool_calls"}]}),
        ]);
        let call = json!({"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}});
        let message = json!({"role": "assistant", "content": "Hi", "tool_calls": [call]});
        assert_eq!(choice["message"], message);
    }

    #[test]
    fn pieces_of_text_calls_and_hidden_state_come_together() {
        let piece = |delta: Value| json!({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": null}]});
        let choice = gathered(&[
            piece(json!({"role": "assistant", "content": null, "reasoning": "Let"})),
            piece(json!({"reasoning": " me", "reasoning_details": [{"text": "Let"}]})),
            piece(json!({"tool_calls": [{"index": 0, "id": "a", "type": "function",
                "function": {"name": "add", "arguments": ""}, "extra_content": {"google": {"thought_signature": "s"}}}]})),
            piece(
                json!({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "add", "arguments": "{\"x\""}}]}),
            ),
            piece(json!({"tool_calls": [{"index": 1, "id": "b", "type": "function",
                "function": {"name": "sub", "arguments": "{}"}}, {"index": 0, "function": {"arguments": ":1}"}}]})),
            piece(json!({"reasoning_details": [{"text": " me"}]})),
            json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
            json!({"choices": [], "usage": {"prompt_tokens": 1}}),
        ]);
        assert_eq!(
            choice,
            json!({"index": 0, "finish_reason": "tool_calls", "message": {
                "role": "assistant", "content": null, "reasoning": "Let me",
                "reasoning_details": [{"text": "Let"}, {"text": " me"}],
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "add", "arguments": "{\"x\":1}"},
                     "extra_content": {"google": {"thought_signature": "s"}}},
                    {"id": "b", "type": "function", "function": {"name": "sub", "arguments": "{}"}},
                ],
            }})
        );
    }
}
