//! Anthropic's Messages API (<https://docs.anthropic.com/en/api/messages>).
//!
//! What a model thought is kept as OpenRouter keeps it: readable in
//! `reasoning_content`, and whole, with the signatures that Anthropic asks back on
//! the next turn, in `reasoning_details`. There are also what Anthropic's own tools did, and how
//! all of it is mixed with words and calls: see `kept`.

mod answer;
mod events;
mod foreign;
mod kept;
mod request;
mod schema;
mod thinking;
mod usage;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

pub(super) use answer::read;
pub(crate) use events::Events;
pub(super) use foreign::{Taken, without_own};
pub(super) use kept::without_places;
pub(crate) use kept::{BLOCK, Kept, Place, weave};
pub(super) use request::write;
pub(super) use usage::cache_surcharge;

pub(super) const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");
pub(super) const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));

/// What only Anthropic takes is kept under this name, in a request and as the type of a part, so
/// that no other provider sees it: `served/messages` writes it.
pub(crate) const OWN: &str = "anthropic";
/// Fields of Anthropic's own that a request may have besides OpenAI's: those that need no
/// `anthropic-beta`.
pub(crate) const OWN_FIELDS: [&str; 6] =
    ["thinking", "top_k", "metadata", "output_config", "cache_control", "inference_geo"];
/// The header by which a client asks for what Anthropic does not promise yet, and its name in
/// [`OWN`].
pub(crate) const BETA: &str = "anthropic-beta";
pub(crate) const MAX_BETA_BYTES: usize = 1_024;
/// As `format` in `reasoning_details`.
pub(crate) const THINKING_FORMAT: &str = "anthropic-claude-v1";
/// A turn that is to be gone on with, by sending it back as it is. OpenAI's word is the one for an
/// answer that was cut, so that nobody takes it for a whole one.
pub(crate) const PAUSE: &str = "pause_turn";

/// Why an answer ended. The words that ended it are told as vLLM does, and a pause as OpenRouter
/// tells what OpenAI has no word for.
fn put_end(choice: &mut Value, stop_reason: &str, stop_sequence: Option<&Value>) {
    choice["finish_reason"] = Value::from(finish_reason(stop_reason));
    if stop_reason == PAUSE {
        choice["native_finish_reason"] = Value::from(PAUSE);
    }
    if let Some(words) = stop_sequence.filter(|words| words.is_string()) {
        choice["stop_reason"] = words.clone();
    }
}

/// The betas that a request asks for. A client may write its body as it likes.
pub(super) fn beta(body: &Map<String, Value>) -> Option<HeaderValue> {
    let names = body.get(OWN)?[BETA].as_str()?;
    let is_right = names.len() <= MAX_BETA_BYTES && names.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    is_right.then(|| HeaderValue::from_str(names).ok()).flatten()
}

/// OpenAI's word for why an answer ended.
fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "tool_use" => "tool_calls",
        "max_tokens" | "model_context_window_exceeded" | PAUSE => "length",
        "refusal" => "content_filter",
        _ => "stop",
    }
}
