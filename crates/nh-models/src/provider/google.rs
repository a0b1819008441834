//! Gemini through Google's OpenAI-compatible endpoint
//! (<https://ai.google.dev/gemini-api/docs/openai>). Its other traps are met
//! where every provider's answer is mended: tool calls without `index`, tool
//! turns that end with `stop`, reasoning tokens that only the total shows.
//! `extra_content.google.thought_signature` of a tool call passes through both
//! ways, since unknown fields do.

use serde_json::{Map, Value};

pub(super) fn fit_chat(body: &mut Map<String, Value>) {
    super::openai::fit_chat_of_imitator(body);
}
