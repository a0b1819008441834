//! OpenRouter (<https://openrouter.ai/docs>). It says its own prices and the
//! cost of each call, sends comment lines while it queues, and may answer 200
//! and then an `error` frame.

use serde_json::{Map, Value};

use super::anthropic;

/// It reads `reasoning_details` as it wrote them.
pub(super) fn fit_chat(body: &mut Map<String, Value>) {
    let messages = body.get_mut("messages").and_then(Value::as_array_mut);
    for message in messages.into_iter().flatten() {
        if let Some(Value::Array(details)) = message.get_mut("reasoning_details") {
            anthropic::without_places(details);
        }
    }
}

/// `google/gemini-2.5-flash:free` asks for a variant of the model before the
/// colon; the listing names few of them.
pub(super) fn variant_of(id: &str) -> Option<&str> {
    let (base, variant) = id.rsplit_once(':')?;
    (!base.is_empty() && !variant.is_empty()).then_some(base)
}
