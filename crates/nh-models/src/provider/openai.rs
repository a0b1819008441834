//! OpenAI's protocol as OpenAI speaks it, and as its many imitators do (Ollama, vLLM, llama.cpp).

use serde_json::{Map, Value};

/// What other providers' models want back on the next turn: OpenAI refuses fields of a message that
/// it does not know.
const OTHERS_STATE: [&str; 4] = ["reasoning", "reasoning_content", "reasoning_details", "extra_content"];

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
