//! OpenAI's protocol as its many imitators speak it (Ollama, vLLM, llama.cpp).

use serde_json::{Map, Value};

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
