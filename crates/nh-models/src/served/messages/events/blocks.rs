//! The blocks of an answer in their order. One is open at a time, and what belongs to a later one
//! waits until those before it are closed: pieces of calls that are made in parallel may come
//! mixed.

use std::collections::{BTreeSet, VecDeque};

use bytes::BytesMut;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::write;

#[derive(Default)]
pub(super) struct Blocks {
    /// The first may be open already.
    left: VecDeque<Block>,
    /// Those that were closed.
    closed: usize,
    /// The indexes of all calls.
    calls: BTreeSet<u64>,
}

struct Block {
    kind: Kind,
    is_open: bool,
    /// What was not written yet.
    unsent: String,
    looks: Looks,
}

/// How often, and how far, it was looked whether a call is complete.
#[derive(Default)]
struct Looks {
    count: u32,
    bytes: usize,
}

/// After these a call must have grown to twice its size before it is looked at again.
const FREE_LOOKS: u32 = 64;

pub(super) enum Kind {
    Text,
    /// Pieces of one thought of Anthropic's have one index.
    Thinking {
        index: Option<u64>,
        signature: String,
    },
    Redacted {
        data: String,
    },
    /// What a tool of Anthropic's own did; pieces of its input have its index.
    Own {
        index: u64,
        block: Value,
    },
    Call {
        index: u64,
        id: String,
        name: String,
        arguments: String,
    },
}

impl Blocks {
    pub(super) fn has_calls(&self) -> bool {
        !self.calls.is_empty()
    }

    pub(super) fn add(&mut self, kind: Kind) {
        self.left.push_back(Block { kind, is_open: false, unsent: String::new(), looks: Looks::default() });
    }

    pub(super) fn say(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        if !self.left.back().is_some_and(|last| matches!(last.kind, Kind::Text)) {
            self.add(Kind::Text);
        }
        if let Some(last) = self.left.back_mut() {
            last.unsent.push_str(text);
        }
    }

    pub(super) fn think(&mut self, index: Option<u64>, text: &str, signature: &str) {
        if text.is_empty() && signature.is_empty() {
            return;
        }
        let is_same =
            |block: &Block| matches!(&block.kind, Kind::Thinking { index: last, .. } if *last == index);
        if !self.left.back().is_some_and(is_same) {
            self.add(Kind::Thinking { index, signature: String::new() });
        }
        if let Some(last) = self.left.back_mut() {
            last.unsent.push_str(text);
            if let Kind::Thinking { signature: so_far, .. } = &mut last.kind {
                so_far.push_str(signature);
            }
        }
    }

    /// A block of Anthropic's own as it came, or a piece of its input.
    pub(super) fn take(&mut self, index: u64, block: &Value, input: &str) {
        if block["type"].is_string() {
            self.add(Kind::Own { index, block: block.clone() });
        }
        let is_same = |last: &&mut Block| matches!(&last.kind, Kind::Own { index: at, .. } if *at == index);
        if let Some(last) = self.left.back_mut().filter(is_same) {
            last.unsent.push_str(input);
        }
    }

    /// A piece of a call. What comes of one that is closed already comes too late.
    pub(super) fn call(&mut self, piece: &Value) {
        let (at, function) = (piece["index"].as_u64().unwrap_or(0), &piece["function"]);
        if self.calls.insert(at) {
            let (id, name, arguments) = (String::new(), String::new(), String::new());
            self.add(Kind::Call { index: at, id, name, arguments });
        }
        for block in &mut self.left {
            let Kind::Call { index, id, name, arguments } = &mut block.kind else { continue };
            if *index != at {
                continue;
            }
            for (field, given) in [(id, &piece["id"]), (name, &function["name"])] {
                if field.is_empty() {
                    field.push_str(given.as_str().unwrap_or_default());
                }
            }
            let more = function["arguments"].as_str().unwrap_or_default();
            arguments.push_str(more);
            block.unsent.push_str(more);
        }
    }

    /// Writes what can be written now, or at the end all.
    pub(super) fn write(&mut self, is_end: bool, out: &mut BytesMut) {
        loop {
            let is_last = self.left.len() == 1;
            let Some(first) = self.left.front_mut() else { return };
            let is_closed = is_end || (!is_last && first.is_complete());
            first.write(self.closed, is_closed, out);
            if !is_closed {
                return;
            }
            self.left.pop_front();
            self.closed += 1;
        }
    }
}

impl Block {
    /// Whether nothing more is to be expected once another has begun.
    fn is_complete(&mut self) -> bool {
        let looks = &mut self.looks;
        match &self.kind {
            Kind::Text | Kind::Thinking { .. } | Kind::Redacted { .. } | Kind::Own { .. } => true,
            Kind::Call { arguments, .. } => {
                if looks.count >= FREE_LOOKS && arguments.len() < 2 * looks.bytes {
                    return false;
                }
                *looks = Looks { count: looks.count + 1, bytes: arguments.len() };
                arguments.trim_end().ends_with('}') && serde_json::from_str::<IgnoredAny>(arguments).is_ok()
            }
        }
    }

    fn write(&mut self, index: usize, is_closed: bool, out: &mut BytesMut) {
        // A call's name may come after its first piece.
        let is_named = !matches!(&self.kind, Kind::Call { name, .. } if name.is_empty());
        if !self.is_open && !is_closed && !is_named {
            return;
        }
        if !std::mem::replace(&mut self.is_open, true) {
            let block = self.beginning();
            write(out, &json!({"type": "content_block_start", "index": index, "content_block": block}));
        }
        let mut delta = |delta: Value| {
            write(out, &json!({"type": "content_block_delta", "index": index, "delta": delta}));
        };
        let unsent = std::mem::take(&mut self.unsent);
        if !unsent.is_empty() {
            delta(match &self.kind {
                Kind::Thinking { .. } => json!({"type": "thinking_delta", "thinking": unsent}),
                Kind::Call { .. } | Kind::Own { .. } => {
                    json!({"type": "input_json_delta", "partial_json": unsent})
                }
                Kind::Text | Kind::Redacted { .. } => json!({"type": "text_delta", "text": unsent}),
            });
        }
        if let Kind::Thinking { signature, .. } = &self.kind
            && is_closed
            && !signature.is_empty()
        {
            // Clients take the last one for the whole.
            delta(json!({"type": "signature_delta", "signature": signature}));
        }
        if is_closed {
            write(out, &json!({"type": "content_block_stop", "index": index}));
        }
    }

    fn beginning(&self) -> Value {
        match &self.kind {
            Kind::Text => json!({"type": "text", "text": ""}),
            Kind::Thinking { .. } => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Kind::Redacted { data } => json!({"type": "redacted_thinking", "data": data}),
            Kind::Own { block, .. } => block.clone(),
            Kind::Call { id, name, .. } => json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
        }
    }
}
