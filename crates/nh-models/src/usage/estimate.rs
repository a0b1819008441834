//! Tokens guessed from sizes, where a provider does not say.

use serde_json::{Map, Value};

/// A token of English text is about four bytes; see OpenAI's tokeniser notes.
const BYTES_PER_TOKEN: u64 = 4;

/// What an image or a file in a prompt is taken for: its base64 says nothing
/// about its tokens.
const TOKENS_PER_ATTACHMENT: u64 = 1_000;

pub(crate) fn tokens_of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// The tokens of a request: its messages or input, and its tools.
pub(crate) fn prompt_tokens(body: &Map<String, Value>) -> u64 {
    let mut size = Size::default();
    for field in ["messages", "input", "tools"] {
        if let Some(value) = body.get(field) {
            size.add(value);
        }
    }
    tokens_of_bytes(size.bytes) + size.attachments * TOKENS_PER_ATTACHMENT
}

/// The tokens of a message, or of any other part of a request.
pub fn tokens_of(part: &Value) -> u64 {
    let mut size = Size::default();
    size.add(part);
    tokens_of_bytes(size.bytes) + size.attachments * TOKENS_PER_ATTACHMENT
}

/// What a guess is taken for at most: a token of two bytes, as base64, code and
/// scripts other than Latin come close to.
pub(crate) fn at_most(tokens: u64) -> u64 {
    tokens.saturating_mul(2)
}

#[derive(Default)]
struct Size {
    bytes: u64,
    attachments: u64,
}

impl Size {
    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) if text.starts_with("data:") => self.attachments += 1,
            Value::String(text) => self.bytes += text.len() as u64,
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(fields) => fields.iter().for_each(|(name, field)| {
                self.bytes += name.len() as u64;
                self.add(field);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => self.bytes += 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pictures_do_not_count_by_their_base64() {
        let picture = format!("data:image/png;base64,{}", "A".repeat(1_000_000));
        let body = json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": picture}},
        ]}]});
        let tokens = prompt_tokens(body.as_object().expect("an object"));
        assert!((1_000..1_100).contains(&tokens), "{tokens}");
    }
}
