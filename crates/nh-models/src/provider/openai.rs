//! OpenAI's protocol as OpenAI speaks it, and as its many imitators do (Ollama, vLLM, llama.cpp).

use serde_json::{Map, Value, json};

use crate::ModelError;
use crate::chat::shown as short;

/// What other providers' models want back on the next turn: OpenAI refuses fields of a message that
/// it does not know.
const OTHERS_STATE: [&str; 4] = ["reasoning", "reasoning_content", "reasoning_details", "extra_content"];

/// Refuses files by their URL, which OpenAI's chats do not take
/// (<https://platform.openai.com/docs/guides/file-inputs>).
pub(super) fn check_files(body: &Map<String, Value>) -> Result<(), ModelError> {
    for (place, message) in list(body.get("messages")).enumerate() {
        for (index, part) in list(message.get("content")).enumerate() {
            let data = &part["file"]["file_data"];
            if data.as_str().is_some_and(|data| data.starts_with("https://") || data.starts_with("http://")) {
                let param = format!("messages[{place}].content[{index}].file.file_data");
                let message = format!(
                    "`{param}` has the URL of a file, {}, which this provider's models do not take; give its bytes as a data URL (data:application/pdf;base64,…)",
                    short(data)
                );
                return Err(ModelError::Invalid { message, param });
            }
        }
    }
    Ok(())
}

fn list(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// Only a user shows pictures: those of tools' results follow them.
pub(super) fn let_user_show(messages: Vec<Value>) -> Vec<Value> {
    let is_of_tool = |message: &Value| message["role"] == "tool" && message["content"].is_array();
    if !messages.iter().any(is_of_tool) {
        return messages;
    }
    let mut fitted = Vec::with_capacity(messages.len());
    let mut shown = Vec::new();
    for mut message in messages {
        let is_result = message["role"] == "tool";
        if !is_result && !shown.is_empty() {
            fitted.push(json!({"role": "user", "content": std::mem::take(&mut shown)}));
        }
        if let Some(content) = message.get_mut("content").filter(|_| is_result)
            && let Value::Array(parts) = content
        {
            let before = shown.len();
            shown.extend(parts.extract_if(.., |part| part["type"] != "text"));
            if shown.len() > before {
                join_texts(content);
            }
        }
        fitted.push(message);
    }
    if !shown.is_empty() {
        fitted.push(json!({"role": "user", "content": shown}));
    }
    fitted
}

/// Many imitators read no lists of texts.
pub(super) fn join_texts(content: &mut Value) {
    let Some(parts) = content.as_array() else { return };
    let texts = parts.iter().map(|part| part["text"].as_str().filter(|_| part["type"] == "text"));
    if let Some(texts) = texts.collect::<Option<Vec<&str>>>() {
        *content = Value::from(texts.join("\n\n"));
    }
}

pub(super) fn fit_chat_of_openai(body: &mut Map<String, Value>) {
    let Some(messages) = body.get_mut("messages").and_then(Value::as_array_mut) else { return };
    for message in messages.iter_mut().filter_map(Value::as_object_mut) {
        message.retain(|field, _| !OTHERS_STATE.contains(&field.as_str()));
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten().filter_map(Value::as_object_mut) {
            call.remove("extra_content");
        }
    }
}

/// Imitators' chat templates know no role `developer`, OpenAI's newer name for
/// `system`.
pub(super) fn fit_chat_of_imitator(body: &mut Map<String, Value>) {
    let Some(messages) = body.get_mut("messages").and_then(Value::as_array_mut) else { return };
    for message in messages {
        if let Some(role) = message.get_mut("role")
            && role == "developer"
        {
            *role = Value::from("system");
        }
    }
}
