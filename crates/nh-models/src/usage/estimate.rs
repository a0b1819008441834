//! Tokens guessed from sizes, where a provider does not say.

use serde_json::{Map, Value};

use crate::provider::OWN;

/// A token of English text is about four bytes; see OpenAI's tokeniser notes.
const BYTES_PER_TOKEN: u64 = 4;

/// What a picture in a prompt is taken for, whose base64 says nothing about its tokens; and what
/// is only named there, as by a URL. A file that is there has as many at least.
const TOKENS_PER_ATTACHMENT: u64 = 1_000;

/// Fields of a request that say how it is to be answered, and that no model reads.
const NOT_READ: [&str; 23] = [
    "audio",
    "encoding_format",
    "function_call",
    "logit_bias",
    "metadata",
    "modalities",
    "model",
    "models",
    "prompt_cache_key",
    "prompt_cache_retention",
    "provider",
    "reasoning",
    "reasoning_effort",
    "route",
    "safety_identifier",
    "service_tier",
    "stop",
    "stream_options",
    "tool_choice",
    "transforms",
    "user",
    "verbosity",
    "web_search_options",
];

pub(crate) fn tokens_of_bytes(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN)
}

/// The tokens of a request: of all that its provider may take as a part of the prompt.
pub(crate) fn prompt_tokens(body: &Map<String, Value>) -> u64 {
    let mut size = Size::default();
    for (name, field) in body {
        match field {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            _ if NOT_READ.contains(&name.as_str()) => {}
            Value::Array(messages) if name == "messages" => {
                messages.iter().for_each(|message| size.add_message(message));
            }
            _ => size.add(field),
        }
    }
    size.tokens()
}

/// The tokens of a message, or of any other part of a request.
pub fn tokens_of(part: &Value) -> u64 {
    let mut size = Size::default();
    size.add_message(part);
    size.tokens()
}

/// What a guess is taken for at most: a token of two bytes, as base64, code and
/// scripts other than Latin come close to.
pub(crate) fn at_most(tokens: u64) -> u64 {
    tokens.saturating_mul(2)
}

#[derive(Default)]
struct Size {
    bytes: u64,
    /// Of attachments.
    tokens: u64,
}

impl Size {
    fn tokens(&self) -> u64 {
        tokens_of_bytes(self.bytes).saturating_add(self.tokens)
    }

    fn add(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.bytes += text.len() as u64,
            Value::Array(items) => items.iter().for_each(|item| self.add(item)),
            Value::Object(fields) => fields.iter().for_each(|(name, field)| {
                self.bytes += name.len() as u64;
                self.add(field);
            }),
            Value::Null | Value::Bool(_) | Value::Number(_) => self.bytes += 4,
        }
    }

    /// Only what providers look at as an attachment is one: whatever else begins with `data:` is
    /// a text to them.
    fn add_message(&mut self, message: &Value) {
        let Value::Object(fields) = message else { return self.add(message) };
        for (name, field) in fields {
            self.bytes += name.len() as u64;
            match (name.as_str(), field) {
                ("content" | "images", Value::Array(parts)) => {
                    parts.iter().for_each(|part| self.add_part(part))
                }
                _ => self.add(field),
            }
        }
    }

    fn add_part(&mut self, part: &Value) {
        let Value::Object(fields) = part else { return self.add(part) };
        for (name, field) in fields {
            self.bytes += name.len() as u64;
            match (part["type"].as_str().unwrap_or_default(), name.as_str()) {
                ("image_url", "image_url") => self.add_attached(field, &["url"]),
                ("file", "file") => self.add_attached(field, &["file_data", "file_id"]),
                (OWN, "block") => {
                    self.add(field);
                    self.tokens += TOKENS_PER_ATTACHMENT * named_sources(field);
                }
                _ => self.add(field),
            }
        }
    }

    /// `data` are the fields that hold the attachment.
    fn add_attached(&mut self, holder: &Value, data: &[&str]) {
        match holder {
            Value::String(url) => self.tokens += attached(url),
            Value::Object(fields) => {
                for (name, field) in fields {
                    self.bytes += name.len() as u64;
                    match field {
                        Value::String(text) if data.contains(&name.as_str()) => self.tokens += attached(text),
                        _ => self.add(field),
                    }
                }
            }
            _ => self.add(holder),
        }
    }
}

/// The tokens of a data URL's bytes, or of what another URL or an id names.
fn attached(url: &str) -> u64 {
    let tokens = match url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((media_type, _)) if media_type.starts_with("image/") => 0,
        Some((_, base64)) => tokens_of_bytes(base64.len() as u64 / 4 * 3),
        None => tokens_of_bytes(url.len() as u64),
    };
    tokens.max(TOKENS_PER_ATTACHMENT)
}

/// How often a block of Anthropic's own says where something is.
fn named_sources(block: &Value) -> u64 {
    match block {
        Value::Array(items) => items.iter().map(named_sources).sum(),
        Value::Object(fields) => {
            let is_named = |source: &Value| source["type"] == "url" || source["type"] == "file";
            u64::from(fields.get("source").is_some_and(is_named))
                + fields.values().map(named_sources).sum::<u64>()
        }
        _ => 0,
    }
}
