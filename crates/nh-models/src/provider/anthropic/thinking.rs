//! How much a model is to think, and what of its sampling it then takes.

use serde_json::{Map, Value, json};

use super::request::config;

/// Its smallest budget for thinking.
const LEAST_THINKING: u64 = 1_024;

/// `reasoning_effort`, or OpenRouter's `reasoning`: models from 4.6 on take a word for it,
/// those before a number of tokens
/// (<https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking>).
pub(super) fn put_thinking(request: &mut Map<String, Value>, body: &Map<String, Value>, messages: &[Value]) {
    let reasoning = body.get("reasoning").unwrap_or(&Value::Null);
    let effort =
        body.get("reasoning_effort").and_then(Value::as_str).or_else(|| reasoning["effort"].as_str());
    let Some(effort) = effort.filter(|effort| *effort != "none") else { return };
    // What is forced to call a tool may not think.
    let is_forced =
        request.get("tool_choice").is_some_and(|choice| choice["type"] == "any" || choice["type"] == "tool");
    if request.contains_key("thinking") || is_forced {
        return;
    }
    let version = version(request);
    if version >= ADAPTIVE {
        let word = match effort {
            "minimal" | "low" => "low",
            "medium" => "medium",
            _ => "high",
        };
        request.insert("thinking".to_owned(), json!({"type": "adaptive", "display": "summarized"}));
        config(request).insert("effort".to_owned(), Value::from(word));
        return;
    }
    if version < THINKING || calls_without_a_thought(messages) {
        return;
    }
    // Shares of the answer, as OpenRouter has them.
    let tenths = match effort {
        "minimal" => 1,
        "low" => 2,
        "medium" => 5,
        _ => 8,
    };
    let limit = request.get("max_tokens").and_then(Value::as_u64).unwrap_or_default();
    let budget = (limit.saturating_mul(tenths) / 10).max(LEAST_THINKING);
    // Of the answer something has to be left.
    if budget < limit {
        request.insert("thinking".to_owned(), json!({"type": "enabled", "budget_tokens": budget}));
    }
}

/// The first models that think, that choose themselves how much, and that take no sampling.
const THINKING: (u32, u32) = (3, 7);
const ADAPTIVE: (u32, u32) = (4, 6);
const WITHOUT_SAMPLING: (u32, u32) = (4, 7);

/// One of `temperature` and `top_p`, where there is one that the model takes: each alone is refused
/// with thinking, both together by the models from 4.1 on.
pub(super) fn put_sampling(request: &mut Map<String, Value>, body: &Map<String, Value>) {
    let thinks = request.get("thinking").is_some_and(|thinking| thinking["type"] != "disabled");
    if thinks || version(request) >= WITHOUT_SAMPLING {
        request.remove("top_k");
        return;
    }
    let number = |field: &str| body.get(field).and_then(Value::as_f64);
    if let Some(temperature) = number("temperature") {
        // OpenAI's goes to 2.
        request.insert("temperature".to_owned(), Value::from(temperature.min(1.0)));
    } else if let Some(top_p) = number("top_p") {
        request.insert("top_p".to_owned(), Value::from(top_p));
    }
}

/// With a budget for it, a model must have thought before it called tools in the latest turn.
fn calls_without_a_thought(messages: &[Value]) -> bool {
    let latest = messages.iter().rev().find(|message| message["role"] == "assistant");
    let Some(blocks) = latest.and_then(|message| message["content"].as_array()) else { return false };
    let kind = |block: &Value| block["type"].as_str().unwrap_or_default().to_owned();
    blocks.iter().any(|block| block["type"] == "tool_use")
        && !blocks.first().is_some_and(|block| kind(block).ends_with("thinking"))
}

/// Of `claude-opus-4-6-…` (4, 6); of a name without numbers none.
fn version(request: &Map<String, Value>) -> (u32, u32) {
    let model = request.get("model").and_then(Value::as_str).unwrap_or_default();
    let mut numbers = model.split(['-', '.']).filter_map(|part| part.parse::<u32>().ok());
    let major = numbers.next().filter(|major| *major < 100).unwrap_or(0);
    // A date behind the major number is no minor one.
    (major, numbers.next().filter(|minor| *minor < 100).unwrap_or(0))
}
