//! OpenAI's completion as Anthropic's message.

use serde_json::{Map, Value, json};

use super::hidden;
use crate::provider::{BLOCK, Kept, PAUSE, Place, THINKING_FORMAT, weave};
use crate::usage::Reported;

/// What [`Models::chat`](crate::Models::chat) answers, as `POST /v1/messages` has it.
pub fn answer(mut body: Map<String, Value>) -> Value {
    let choice = body.get_mut("choices").and_then(|choices| choices.get_mut(0)).map(Value::take);
    let choice = choice.unwrap_or_default();
    let message = &choice["message"];
    let kept = kept(message);
    let mut content = Vec::new();
    let text = text_of(&message["content"]);
    let refusal = message["refusal"].as_str().unwrap_or_default();
    for text in [text.as_str(), refusal] {
        content.extend((!text.is_empty()).then(|| json!({"type": "text", "text": text})));
    }
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    content.extend(calls.iter().filter_map(extra).map(redacted));
    let blocks = weave(kept, content, calls.iter().map(call).collect());
    let end = End {
        finish_reason: choice["finish_reason"].as_str().unwrap_or_default(),
        is_pause: choice["native_finish_reason"] == PAUSE,
        stop_sequence: choice["stop_reason"].as_str(),
        has_calls: !calls.is_empty(),
        is_refusal: !refusal.is_empty(),
    };
    let mut answer = head(&Value::Object(body));
    answer["content"] = Value::Array(blocks);
    end.put(&mut answer);
    answer
}

/// A message that has said nothing yet.
pub(super) fn head(body: &Value) -> Value {
    let id = body["id"].as_str().unwrap_or_default();
    let id = if id.starts_with("msg_") {
        id.to_owned()
    } else {
        format!("msg_{}", id.strip_prefix("chatcmpl-").unwrap_or(id))
    };
    json!({
        "id": id,
        "type": "message",
        "role": "assistant",
        "model": body["model"].as_str().unwrap_or_default(),
        "content": [],
        "stop_reason": null,
        "stop_sequence": null,
        "usage": usage(&body["usage"]),
    })
}

/// Why an answer ended.
pub(super) struct End<'a> {
    pub(super) finish_reason: &'a str,
    /// Of Anthropic's own, told by the hub or by OpenRouter.
    pub(super) is_pause: bool,
    /// As vLLM tells it, and the hub of Anthropic.
    pub(super) stop_sequence: Option<&'a str>,
    pub(super) has_calls: bool,
    pub(super) is_refusal: bool,
}

impl End<'_> {
    pub(super) fn put(&self, to: &mut Value) {
        let reason = match self.finish_reason {
            _ if self.is_refusal => "refusal",
            _ if self.is_pause => PAUSE,
            "length" => "max_tokens",
            "content_filter" => "refusal",
            _ if self.has_calls => "tool_use",
            _ if self.stop_sequence.is_some() => "stop_sequence",
            _ => "end_turn",
        };
        to["stop_reason"] = Value::from(reason);
        to["stop_sequence"] = Value::from(self.stop_sequence.filter(|_| reason == "stop_sequence"));
    }
}

/// Anthropic's counts: input that was read from the cache or written to it is not in
/// `input_tokens`. `cost` is the hub's own, in US dollars.
pub(super) fn usage(told: &Value) -> Value {
    let used = Reported::read(told).unwrap_or_default().usage;
    let input = used.input_tokens.saturating_sub(used.cached_tokens);
    let written = told.pointer("/prompt_tokens_details/cache_write_tokens").and_then(Value::as_u64);
    let written = written.unwrap_or(0).min(input);
    let mut usage = json!({
        "input_tokens": input - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": used.cached_tokens,
        "output_tokens": used.output_tokens,
    });
    if used.reasoning_tokens > 0 {
        usage["output_tokens_details"] = json!({"thinking_tokens": used.reasoning_tokens});
    }
    if let Some(cost) = used.cost_usd {
        usage["cost"] = Value::from(cost);
    }
    usage
}

/// Thoughts that Anthropic signed, or those that can be read, what its own tools did, and what else
/// is to come back.
fn kept(message: &Value) -> Vec<(Place, Value)> {
    let mut blocks = Vec::new();
    let mut open: Option<(u64, Kept)> = None;
    let mut is_signed = false;
    for detail in message["reasoning_details"].as_array().into_iter().flatten() {
        is_signed |= matches!(Thought::of(detail), Some(Thought::Signed { .. }));
        // The whole of a gathered stream has its pieces still.
        let index = detail["index"].as_u64();
        if let Some((_, kept)) =
            open.as_mut().filter(|(last, kept)| Some(*last) == index && kept.goes_on_with(detail))
        {
            kept.add(detail);
            continue;
        }
        blocks.extend(open.take().map(|(_, kept)| kept.into_block()));
        match (Kept::begin(detail), index) {
            (Some(kept), Some(index)) => open = Some((index, kept)),
            (Some(kept), None) => blocks.push(kept.into_block()),
            (None, _) => {
                if let Some(Thought::Hidden(data)) = Thought::of(detail) {
                    blocks.push((Place::default(), redacted(data)));
                }
            }
        }
    }
    blocks.extend(open.map(|(_, kept)| kept.into_block()));
    let text = readable(message).unwrap_or_default();
    if !is_signed && !text.is_empty() {
        blocks.insert(0, (Place::default(), thinking(text, "")));
    }
    blocks
}

fn thinking(text: &str, signature: &str) -> Value {
    json!({"type": "thinking", "thinking": text, "signature": signature})
}

fn redacted(data: String) -> Value {
    json!({"type": "redacted_thinking", "data": data})
}

/// One of `reasoning_details`.
pub(super) enum Thought<'a> {
    /// Of Anthropic's, or a piece of one.
    Signed {
        text: &'a str,
        signature: &'a str,
        index: Option<u64>,
    },
    Hidden(String),
    /// A block of Anthropic's own tools, or a piece of its input.
    Block {
        index: u64,
        block: &'a Value,
        input: &'a str,
    },
}

impl<'a> Thought<'a> {
    /// None where it is only what `reasoning` says too.
    pub(super) fn of(detail: &'a Value) -> Option<Self> {
        let text = |field: &str| detail[field].as_str().unwrap_or_default();
        let is_anthropics = detail["format"] == THINKING_FORMAT;
        match text("type") {
            "reasoning.text" if is_anthropics => Some(Self::Signed {
                text: text("text"),
                signature: text("signature"),
                index: detail["index"].as_u64(),
            }),
            BLOCK if is_anthropics => Some(Self::Block {
                index: detail["index"].as_u64()?,
                block: &detail["block"],
                input: text("text"),
            }),
            "reasoning.encrypted" if is_anthropics => Some(Self::Hidden(text("data").to_owned())),
            "reasoning.encrypted" => Some(Self::Hidden(hidden::of_detail(detail))),
            _ => None,
        }
    }
}

/// What a model thought, of a message or of a delta: DeepSeek's name for it, and OpenRouter's.
pub(super) fn readable(said: &Value) -> Option<&str> {
    said["reasoning_content"].as_str().or_else(|| said["reasoning"].as_str())
}

/// What of a call its model wants back besides.
pub(super) fn extra(call: &Value) -> Option<String> {
    let extra = &call["extra_content"];
    extra.is_object().then(|| hidden::of_call(&call["id"], extra))
}

/// A text, or the texts of a list of parts.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect(),
        _ => String::new(),
    }
}

fn call(call: &Value) -> Value {
    let function = &call["function"];
    let arguments = function["arguments"].as_str().unwrap_or_default();
    let input = match serde_json::from_str(arguments) {
        Ok(input @ Value::Object(_)) => input,
        _ if arguments.trim().is_empty() => json!({}),
        // So that the model sees its mistake in what the tool says.
        _ => json!({"arguments": arguments}),
    };
    let text = |value: &Value| Value::from(value.as_str().unwrap_or_default());
    json!({"type": "tool_use", "id": text(&call["id"]), "name": text(&function["name"]), "input": input})
}
