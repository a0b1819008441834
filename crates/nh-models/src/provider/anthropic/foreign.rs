//! A request that came as Anthropic's, for another provider: what no other takes is left out or
//! said in OpenAI's words. OpenAI, Google, Mistral and Groq refuse fields that they do not know.

use serde_json::{Map, Value, json};

use super::super::openai::{join_texts, let_user_show};
use super::OWN;
use crate::ModelError;
use crate::chat::shown as short;

/// What a provider takes besides OpenAI's fields.
#[derive(Clone, Copy)]
pub(in crate::provider) struct Taken {
    /// OpenRouter, which speaks to Anthropic itself.
    pub(in crate::provider) all: bool,
    /// Models that think want their thoughts back so (DeepSeek, Moonshot).
    pub(in crate::provider) reasoning_content: bool,
    /// Ollama refuses it for models that do not think.
    pub(in crate::provider) reasoning_effort: bool,
    /// The field that bounds an answer.
    pub(in crate::provider) answer_limit: &'static str,
}

/// OpenAI's bound; Claude Code's are longer.
const MAX_USER_CHARS: usize = 64;
/// OpenAI wants a name.
const FILE_NAME: &str = "document.pdf";

pub(in crate::provider) fn without_own(
    body: &mut Map<String, Value>,
    taken: Taken,
) -> Result<(), ModelError> {
    let own = body.remove(OWN).unwrap_or_default();
    if let Some(effort) = effort(&own, body).filter(|_| taken.reasoning_effort) {
        body.entry("reasoning_effort").or_insert(Value::from(effort));
    }
    if taken.all && own["top_k"].is_u64() {
        body.insert("top_k".to_owned(), own["top_k"].clone());
    }
    if let Some(limit) = body.remove("max_tokens") {
        body.insert(taken.answer_limit.to_owned(), limit);
    }
    if body.get("user").and_then(Value::as_str).is_some_and(|user| user.chars().count() > MAX_USER_CHARS) {
        body.remove("user");
    }
    for (place, tool) in list(body.get_mut("tools")).enumerate() {
        let Some(tool) = tool.as_object_mut().filter(|tool| tool.contains_key("function")) else {
            return Err(anthropics_tool(place, tool));
        };
        if !taken.all {
            tool.remove("cache_control");
        }
    }
    if let Some(Value::Array(messages)) = body.get_mut("messages") {
        *messages = fit_messages(std::mem::take(messages), taken);
    }
    Ok(())
}

fn list(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

fn anthropics_tool(place: usize, tool: &Value) -> ModelError {
    let kind = short(&tool["type"]);
    ModelError::Invalid {
        message: format!(
            "`tools[{place}].type` is {kind}, which runs at Anthropic; leave it out, or name a model of Anthropic's"
        ),
        param: format!("tools[{place}].type"),
    }
}

/// OpenAI's word for how much to think, where the request says it and the model is one that takes
/// it. Tokens for thinking are a share of the answer's.
fn effort(own: &Value, body: &Map<String, Value>) -> Option<&'static str> {
    let thinking = &own["thinking"];
    let model = body.get("model").and_then(Value::as_str).unwrap_or_default();
    if thinking["type"] == "disabled" || !may_think(model) {
        return None;
    }
    if let Some(word) = own["output_config"]["effort"].as_str() {
        return Some(match word {
            "low" => "low",
            "medium" => "medium",
            _ => "high",
        });
    }
    let budget = thinking["budget_tokens"].as_u64()?;
    let limit = body.get("max_tokens").or_else(|| body.get("max_completion_tokens"))?.as_u64()?.max(1);
    Some(match budget.saturating_mul(10) / limit {
        0..=3 => "low",
        4..=6 => "medium",
        _ => "high",
    })
}

/// OpenAI's older models and Google's refuse a word on it.
fn may_think(model: &str) -> bool {
    let never = ["gpt-3", "gpt-4", "chatgpt-4", "gemini-1", "gemini-2.0"];
    !never.iter().any(|start| model.rsplit('/').next().unwrap_or_default().starts_with(start))
}

fn fit_messages(mut messages: Vec<Value>, taken: Taken) -> Vec<Value> {
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        fit_message(message, taken);
    }
    let mut messages = let_user_show(messages);
    for message in &mut messages {
        let is_result = message["role"] == "tool";
        if let Some(content) = message.get_mut("content").filter(|_| is_result || !taken.all) {
            join_texts(content);
        }
        if let Some(cache) = message.get("cache_control").cloned().filter(|_| is_result) {
            let part = json!({"type": "text", "text": message["content"], "cache_control": cache});
            message["content"] = json!([part]);
        }
    }
    messages
}

fn fit_message(message: &mut Map<String, Value>, taken: Taken) {
    message.remove("is_error");
    if !taken.all {
        message.remove("cache_control");
        message.remove("reasoning_details");
    }
    if !taken.all && !taken.reasoning_content {
        message.remove("reasoning_content");
    }
    for call in list(message.get_mut("tool_calls")).filter_map(Value::as_object_mut) {
        call.remove("cache_control");
    }
    let Some(Value::Array(parts)) = message.get_mut("content") else { return };
    *parts = std::mem::take(parts).into_iter().filter_map(|part| fit_part(part, taken)).collect();
}

/// None where it says nothing to another provider.
fn fit_part(mut part: Value, taken: Taken) -> Option<Value> {
    if part["type"] == OWN {
        let text = text_of(&part["block"]);
        return (!text.is_empty()).then(|| json!({"type": "text", "text": text}));
    }
    let fields = part.as_object_mut()?;
    fields.remove("citations");
    fields.remove("context");
    if !taken.all {
        fields.remove("cache_control");
    }
    if let Some(Value::Object(file)) = fields.get_mut("file") {
        file.entry("filename").or_insert(Value::from(FILE_NAME));
    }
    Some(part)
}

/// What there is to read in a block: a document of text, a result of a search.
fn text_of(block: &Value) -> String {
    let mut texts = Vec::new();
    for text in [&block["title"], &block["text"], &block["content"], &block["source"]["content"]] {
        match text {
            Value::String(text) => texts.push(text.clone()),
            Value::Array(parts) => texts.extend(parts.iter().map(text_of)),
            _ => {}
        }
    }
    if block["source"]["type"] == "text" {
        texts.extend(block["source"]["data"].as_str().map(str::to_owned));
    }
    texts.retain(|text| !text.is_empty());
    texts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPENAI: Taken = Taken {
        all: false,
        reasoning_content: false,
        reasoning_effort: true,
        answer_limit: "max_completion_tokens",
    };

    fn fitted(mut body: Value) -> Map<String, Value> {
        let body = body.as_object_mut().expect("an object");
        without_own(body, OPENAI).expect("nothing that only Anthropic does");
        std::mem::take(body)
    }

    #[test]
    fn how_much_to_think_is_told_in_openais_words() {
        let effort = |model: &str, own: Value| {
            let body = fitted(json!({"model": model, "max_tokens": 1000, "anthropic": own}));
            assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(1000), None));
            body.get("reasoning_effort").cloned()
        };
        let budget = |tokens: u64| json!({"thinking": {"type": "enabled", "budget_tokens": tokens}});
        assert_eq!(effort("gpt-5", budget(200)), Some(json!("low")));
        assert_eq!(effort("gpt-5", budget(500)), Some(json!("medium")));
        assert_eq!(effort("gpt-5", budget(u64::MAX)), Some(json!("high")));
        assert_eq!(effort("gpt-4o", budget(500)), None);
        assert_eq!(effort("o4-mini", json!({"output_config": {"effort": "max"}})), Some(json!("high")));
        let off = json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "low"}});
        assert_eq!(effort("gpt-5", off), None);
        assert_eq!(effort("gpt-5", json!({"thinking": {"type": "adaptive"}})), None);
    }
}
