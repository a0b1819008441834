//! What a model other than Anthropic's hides in its answer and wants to have back: it goes to the
//! client, which returns it unread, as the `data` of a block of redacted thinking.

use serde_json::{Value, json};

/// No data of Anthropic's own begins so.
const MARK: &str = "neuralhub:";

/// An encrypted thought, as OpenRouter has them in `reasoning_details`.
pub(super) fn of_detail(detail: &Value) -> String {
    format!("{MARK}{}", json!({"detail": detail}))
}

/// A signature of Google's, which belongs to a call
/// (<https://ai.google.dev/gemini-api/docs/thought-signatures>).
pub(super) fn of_call(id: &Value, extra_content: &Value) -> String {
    format!("{MARK}{}", json!({"call": id, "extra_content": extra_content}))
}

/// None where it is Anthropic's.
pub(super) fn read(data: &str) -> Option<Value> {
    Some(serde_json::from_str(data.strip_prefix(MARK)?).unwrap_or_default())
}
