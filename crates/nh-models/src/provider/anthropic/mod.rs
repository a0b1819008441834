//! Anthropic's Messages API (<https://docs.anthropic.com/en/api/messages>).
//!
//! What a model thought is kept as OpenRouter keeps it: readable in
//! `reasoning_content`, and whole, with the signatures that Anthropic asks back on
//! the next turn, in `reasoning_details`.

mod answer;
mod events;
mod request;
mod usage;

use http::{HeaderName, HeaderValue};

pub(super) use answer::read;
pub(crate) use events::Events;
pub(super) use request::write;
pub(super) use usage::cache_surcharge;

pub(super) const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");
pub(super) const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("anthropic-version"), HeaderValue::from_static("2023-06-01"));

/// As `format` in `reasoning_details`.
const THINKING_FORMAT: &str = "anthropic-claude-v1";

/// OpenAI's word for why an answer ended.
fn finish_reason(stop_reason: &str) -> &'static str {
    match stop_reason {
        "tool_use" => "tool_calls",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "refusal" => "content_filter",
        _ => "stop",
    }
}
