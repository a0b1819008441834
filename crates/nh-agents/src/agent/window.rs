//! Keeps a prompt within the model's window.
//!
//! The rule: what is oldest goes first. Whole messages of the thread's earlier
//! conversation are left out, then whole turns of the run (a model's message
//! goes with the outputs of its calls, or providers refuse the rest), then
//! messages given before the last. The system prompt, the last message given
//! and the last turn stay; when those alone are too long, the longest outputs
//! of the last turn's tools are shortened in their middle. The model is told
//! how much it does not see.

use nh_models::tokens_of;
use serde_json::Value;

use super::messages::{Prompt, add_paragraph};

/// Kept free for the answer, or a quarter of a small window.
const ANSWER_TOKENS: u64 = 4096;

/// A tool's output is not shortened to less.
const LEAST_OUTPUT_BYTES: usize = 1000;

/// What was not shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    pub messages: usize,
    /// Of the last turn's outputs.
    pub bytes: usize,
}

impl LeftOut {
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }

    pub fn plus(self, more: Self) -> Self {
        Self { messages: self.messages + more.messages, bytes: self.bytes + more.bytes }
    }
}

/// How long a prompt may be in a window of so many tokens: a guess of its
/// length may be off by a tenth.
pub fn prompt_tokens_within(window_tokens: u64) -> u64 {
    window_tokens - window_tokens / 10 - ANSWER_TOKENS.min(window_tokens / 4)
}

/// Whether a provider refused a prompt for its length. They have no code in
/// common; what OpenAI, vLLM, llama.cpp, Google and OpenRouter say of it has
/// these words in common.
pub fn is_too_long(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("context length")
        || message.contains("context size")
        || message.contains("context window")
        || (message.contains("token") && message.contains("exceed"))
}

/// How long a prompt is, as a guess.
pub fn tokens(prompt: &Prompt) -> u64 {
    tokens_of(&Value::String(prompt.system.clone()))
        + prompt.rest.get("tools").map_or(0, tokens_of)
        + size(&prompt.conversation)
        + prompt.recalled.as_ref().map_or(0, tokens_of)
        + size(&prompt.given)
        + prompt.turns.iter().map(|turn| size(turn)).sum::<u64>()
}

/// Leaves out what it must.
pub fn fit(prompt: &mut Prompt, most_tokens: u64) -> LeftOut {
    let mut total = tokens(prompt);
    let mut left_out = LeftOut::default();
    if total <= most_tokens {
        return left_out;
    }
    if let Some(recalled) = prompt.recalled.take() {
        total -= tokens_of(&recalled);
        left_out.messages += 1;
    }
    left_out.messages += drop_messages(&mut prompt.conversation, 0, &mut total, most_tokens);
    left_out.messages += drop_oldest(&mut prompt.turns, 1, &mut total, most_tokens);
    left_out.messages += drop_messages(&mut prompt.given, 1, &mut total, most_tokens);
    if let Some(last) = prompt.turns.last_mut() {
        left_out.bytes = shorten_outputs(last, &mut total, most_tokens);
    }
    if left_out.messages > 0 {
        let note =
            format!("({} earlier messages were left out to fit the model's window.)", left_out.messages);
        add_paragraph(&mut prompt.system, &note);
    }
    left_out
}

fn size(messages: &[Value]) -> u64 {
    messages.iter().map(tokens_of).sum()
}

/// Removes messages from the front, a call's outputs with the call.
fn drop_messages(messages: &mut Vec<Value>, kept: usize, total: &mut u64, most_tokens: u64) -> usize {
    let mut groups: Vec<Vec<Value>> = Vec::new();
    for message in std::mem::take(messages) {
        match groups.last_mut().filter(|_| message["role"] == "tool") {
            Some(group) => group.push(message),
            None => groups.push(vec![message]),
        }
    }
    let dropped = drop_oldest(&mut groups, kept, total, most_tokens);
    messages.extend(groups.into_iter().flatten());
    dropped
}

/// Removes groups of messages from the front, as long as the whole is too long,
/// but not the last `kept`; how many messages that were.
fn drop_oldest(groups: &mut Vec<Vec<Value>>, kept: usize, total: &mut u64, most_tokens: u64) -> usize {
    let mut dropped = 0;
    for group in groups.iter().take(groups.len().saturating_sub(kept)) {
        if *total <= most_tokens {
            break;
        }
        *total = total.saturating_sub(size(group));
        dropped += 1;
    }
    groups.drain(..dropped).map(|group| group.len()).sum()
}

/// Shortens the longest outputs of a turn; how many bytes went.
fn shorten_outputs(turn: &mut [Value], total: &mut u64, most_tokens: u64) -> usize {
    let mut left_out = 0;
    let mut outputs: Vec<&mut Value> = turn.iter_mut().filter(|message| message["role"] == "tool").collect();
    outputs.sort_by_key(|message| std::cmp::Reverse(message["content"].as_str().map_or(0, str::len)));
    for message in outputs {
        let excess = total.saturating_sub(most_tokens);
        let Some(text) = message["content"].as_str().filter(|_| excess > 0) else { break };
        let before = tokens_of(message);
        // A token is guessed as four bytes.
        let keep = text.len().saturating_sub(usize::try_from(excess).unwrap_or(usize::MAX).saturating_mul(4));
        let Some((shorter, bytes)) = without_middle(text, keep.max(LEAST_OUTPUT_BYTES)) else { continue };
        left_out += bytes;
        message["content"] = Value::String(shorter);
        *total = total.saturating_sub(before.saturating_sub(tokens_of(message)));
    }
    left_out
}

/// The beginning and the end of a text, about `keep` bytes of it, and how many
/// bytes are missing; None when it is no longer than that.
fn without_middle(text: &str, keep: usize) -> Option<(String, usize)> {
    if text.len() <= keep {
        return None;
    }
    let head = text.floor_char_boundary(keep / 2);
    let tail = text.ceil_char_boundary(text.len() - keep / 2);
    let missing = tail - head;
    let note = format!("\n[… {missing} bytes left out to fit the model's window …]\n");
    Some((format!("{}{note}{}", &text[..head], &text[tail..]), missing))
}
