//! What of an assistant's message OpenAI has no word for, and Anthropic wants back on the next
//! turn: thoughts, and the blocks of Anthropic's own tools. They are in `reasoning_details`, each
//! with its place among the words and the calls: Anthropic refuses thoughts in another order.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Value, json};

use super::THINKING_FORMAT;

/// As `type` in `reasoning_details`: a `block` of Anthropic's own tools as it came. In a stream
/// pieces of its input follow as `text`.
pub(crate) const BLOCK: &str = "anthropic.block";
/// The place of a detail, absent at the beginning of its message.
const AFTER: &str = "after";

/// What stands before something in its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Characters of text; a part that is no text counts as one.
    pub(crate) content: usize,
    pub(crate) calls: usize,
}

impl Place {
    pub(crate) fn say(&mut self, text: &str) {
        self.content = self.content.saturating_add(text.chars().count());
    }

    pub(crate) fn of(detail: &Value) -> Self {
        let count = |name: &str| {
            let count = detail[AFTER][name].as_u64().unwrap_or(0);
            usize::try_from(count).unwrap_or(usize::MAX)
        };
        Self { content: count("content"), calls: count("calls") }
    }

    pub(crate) fn put(self, detail: &mut Value) {
        let Some(detail) = detail.as_object_mut() else { return };
        match self == Self::default() {
            true => drop(detail.remove(AFTER)),
            false => {
                let after = json!({"content": self.content, "calls": self.calls});
                detail.insert(AFTER.to_owned(), after);
            }
        }
    }
}

/// Without what only the hub knows how to read, for others who take `reasoning_details`.
pub(in crate::provider) fn without_places(details: &mut Vec<Value>) {
    details.retain(|detail| detail["type"] != BLOCK);
    details.iter_mut().for_each(|detail| Place::default().put(detail));
}

/// A block, put together of its pieces.
pub(crate) struct Kept {
    place: Place,
    block: Value,
    /// The JSON of its input, where that comes in pieces.
    input: String,
}

impl Kept {
    /// Of a first piece; None where it is not Anthropic's.
    pub(crate) fn begin(detail: &Value) -> Option<Self> {
        if detail["format"] != THINKING_FORMAT {
            return None;
        }
        let block = match detail["type"].as_str().unwrap_or_default() {
            "reasoning.encrypted" => json!({"type": "redacted_thinking", "data": detail["data"]}),
            "reasoning.text" => json!({"type": "thinking", "thinking": "", "signature": ""}),
            BLOCK if detail["block"]["type"].is_string() => detail["block"].clone(),
            _ => return None,
        };
        let mut kept = Self { place: Place::of(detail), block, input: String::new() };
        kept.add(detail);
        Some(kept)
    }

    /// Whether a piece goes on with it.
    pub(crate) fn goes_on_with(&self, detail: &Value) -> bool {
        match detail["type"].as_str().unwrap_or_default() {
            "reasoning.text" => self.block["type"] == "thinking",
            BLOCK => detail["block"].is_null(),
            _ => false,
        }
    }

    pub(crate) fn add(&mut self, detail: &Value) {
        let text = |field: &str| detail[field].as_str().unwrap_or_default();
        if detail["type"] == BLOCK {
            self.input.push_str(text("text"));
            return;
        }
        for (field, from) in [("thinking", "text"), ("signature", "signature")] {
            if let Some(Value::String(so_far)) = self.block.get_mut(field) {
                so_far.push_str(text(from));
            }
        }
    }

    pub(crate) fn into_block(mut self) -> (Place, Value) {
        if let Ok(input @ Value::Object(_)) = serde_json::from_str(&self.input)
            && let Some(block) = self.block.as_object_mut()
        {
            block.insert("input".to_owned(), input);
        }
        (self.place, self.block)
    }
}

/// The blocks of `reasoning_details`. Pieces of one have one index, and come together again. Of
/// other providers' thoughts Anthropic wants none.
pub(super) fn blocks(details: &Value) -> Vec<(Place, Value)> {
    let mut kept: BTreeMap<u64, Kept> = BTreeMap::new();
    let details = details.as_array().into_iter().flatten();
    for (place, detail) in details.filter(|one| one["format"] == THINKING_FORMAT).enumerate() {
        let index = detail["index"].as_u64().unwrap_or(place as u64);
        match kept.get_mut(&index) {
            Some(kept) if kept.goes_on_with(detail) => kept.add(detail),
            _ => kept.extend(Kept::begin(detail).map(|one| (index, one))),
        }
    }
    // A thought without its signature is refused.
    let is_taken = |block: &Value| block["type"] != "thinking" || block["signature"] != "";
    kept.into_values().map(Kept::into_block).filter(|(_, block)| is_taken(block)).collect()
}

/// A message's blocks, with those that were kept at their places.
pub(crate) fn weave(kept: Vec<(Place, Value)>, content: Vec<Value>, calls: Vec<Value>) -> Vec<Value> {
    let mut woven = Vec::with_capacity(kept.len() + content.len() + calls.len());
    let mut content = Content { left: content.into(), cut: 0, gone: 0 };
    let (mut calls, mut called) = (calls.into_iter(), 0);
    for (place, block) in kept {
        content.take_to(place.content, &mut woven);
        let before = woven.len();
        woven.extend(calls.by_ref().take(place.calls.saturating_sub(called)));
        called += woven.len() - before;
        woven.push(block);
    }
    content.take_to(usize::MAX, &mut woven);
    woven.extend(calls);
    woven
}

struct Content {
    left: VecDeque<Value>,
    /// Bytes of the first text that are gone already.
    cut: usize,
    /// As [`Place::content`] counts.
    gone: usize,
}

impl Content {
    fn take_to(&mut self, end: usize, woven: &mut Vec<Value>) {
        while self.gone < end {
            let Some(first) = self.left.front_mut() else { return };
            let Some(text) = first["text"].as_str().filter(|_| first["type"] == "text") else {
                self.gone += 1;
                woven.extend(self.left.pop_front());
                continue;
            };
            let rest = &text[self.cut..];
            if let Some((bytes, _)) = rest.char_indices().nth(end - self.gone) {
                woven.push(json!({"type": "text", "text": &rest[..bytes]}));
                self.cut += bytes;
                self.gone = end;
                return;
            }
            self.gone = self.gone.saturating_add(rest.chars().count());
            if self.cut > 0 {
                first["text"] = Value::from(rest);
            }
            self.cut = 0;
            woven.extend(self.left.pop_front());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_to_their_places() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let kept = |all: &[(usize, usize)]| {
            let places = all.iter().map(|(content, calls)| Place { content: *content, calls: *calls });
            places.map(|place| (place, json!("k"))).collect::<Vec<_>>()
        };
        let (k, call, other) = (json!("k"), json!({"type": "tool_use"}), json!({"type": "image"}));
        let woven = weave(
            kept(&[(0, 0), (1, 0), (3, 1), (5, 1), (0, 0), (usize::MAX, 9)]),
            vec![text("aé"), other.clone(), text("xyz")],
            vec![call.clone(), call.clone()],
        );
        let (a, e, xy, z) = (text("a"), text("é"), text("xy"), text("z"));
        let expected = [&k, &a, &k, &e, &other, &call, &k, &xy, &k, &k, &z, &call, &k];
        assert_eq!(woven.iter().collect::<Vec<_>>(), expected);
        let woven = weave(kept(&[(2, 0)]), vec![text("ab")], vec![call.clone()]);
        assert_eq!(woven, [text("ab"), k, call]);
    }
}
