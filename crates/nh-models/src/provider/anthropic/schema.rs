//! Schemas of answers, as Anthropic takes them
//! (<https://platform.claude.com/docs/en/build-with-claude/structured-outputs>).

use serde_json::Value;

/// Where a schema has others by name, in a list or alone.
const BY_NAME: [&str; 3] = ["properties", "$defs", "definitions"];
const LISTED: [&str; 4] = ["anyOf", "allOf", "oneOf", "prefixItems"];
const ALONE: &str = "items";

/// Says of objects, where nothing is said of it, that they have no more fields than are named:
/// others are refused. So OpenAI wants it where an answer is to fit strictly.
pub(super) fn close(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    for name in BY_NAME {
        let inner = fields.get_mut(name).and_then(Value::as_object_mut);
        inner.into_iter().flat_map(|inner| inner.values_mut()).for_each(close);
    }
    for name in LISTED {
        let inner = fields.get_mut(name).and_then(Value::as_array_mut);
        inner.into_iter().flatten().for_each(close);
    }
    if let Some(inner) = fields.get_mut(ALONE) {
        close(inner);
    }
    let is_object = match fields.get("type") {
        Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
        Some(kind) => kind == "object",
        None => fields.get("properties").is_some_and(Value::is_object),
    };
    if is_object {
        fields.entry("additionalProperties").or_insert(Value::Bool(false));
    }
}
