//! What a model wants back of its thoughts on the next turn. A client sends it unread, as a
//! reasoning item's `encrypted_content`: JSON in base64 here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::provider::{Place, THINKING_FORMAT};

/// Tells what the hub wrote from what others did.
const MARK: &str = "neuralhub";
/// What providers call a thought's text.
pub(super) const THOUGHTS: [&str; 2] = ["reasoning_content", "reasoning"];

#[derive(Default)]
pub(super) struct Kept {
    text: String,
    /// One of [`THOUGHTS`].
    field: Option<&'static str>,
    /// `reasoning_details`.
    details: Vec<Value>,
    /// `extra_content` of calls, by their ids.
    extras: Map<String, Value>,
}

impl Kept {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn think(&mut self, field: &'static str, text: &str) {
        self.field = Some(field);
        self.text.push_str(text);
    }

    /// A stream tells a detail in pieces of one index.
    pub(super) fn add_detail(&mut self, piece: &Value) {
        let last = self.details.last_mut().and_then(Value::as_object_mut);
        let (Some(last), Some(piece_fields)) = (last, piece.as_object()) else {
            self.details.push(piece.clone());
            return;
        };
        let is_same = |field: &str| last.get(field) == piece_fields.get(field);
        if piece["index"].is_null() || !is_same("index") || !is_same("type") {
            self.details.push(piece.clone());
            return;
        }
        for (field, piece) in piece_fields.iter().filter(|(_, piece)| !piece.is_null()) {
            match (last.get_mut(field), piece) {
                (Some(Value::String(whole)), Value::String(piece))
                    if matches!(field.as_str(), "text" | "summary") =>
                {
                    whole.push_str(piece);
                }
                _ => drop(last.insert(field.clone(), piece.clone())),
            }
        }
    }

    pub(super) fn add_extra(&mut self, call_id: &str, extra: &Value) {
        self.extras.insert(call_id.to_owned(), extra.clone());
    }

    /// `encrypted_content`.
    pub(super) fn written(&self) -> Option<String> {
        if self.field.is_none() && self.details.is_empty() && self.extras.is_empty() {
            return None;
        }
        let kept = json!({"field": self.field, "details": self.details, "extras": self.extras});
        Some(STANDARD.encode(json!({MARK: kept}).to_string()))
    }

    /// Of a reasoning item; nothing, where another wrote it.
    pub(super) fn read(item: &Value) -> Self {
        let Some(kept) = item["encrypted_content"].as_str().and_then(decoded) else { return Self::default() };
        let field = THOUGHTS.into_iter().find(|field| kept["field"] == *field);
        let parts = item["summary"].as_array().into_iter().flatten();
        let text = parts.filter_map(|part| part["text"].as_str()).collect();
        let details = kept["details"].as_array().cloned().unwrap_or_default();
        Self { text, field, details, extras: kept["extras"].as_object().cloned().unwrap_or_default() }
    }

    /// Tells what of Anthropic's is kept that `gone` is no more in its message, and that it comes
    /// after `least`, which is: an item says its place itself.
    pub(super) fn place(&mut self, gone: usize, least: Place) {
        for detail in self.details.iter_mut().filter(|detail| detail["format"] == THINKING_FORMAT) {
            let Place { content, calls } = Place::of(detail);
            let content = content.saturating_sub(gone).max(least.content);
            Place { content, calls: calls.max(least.calls) }.put(detail);
        }
    }

    /// The details of a later item count on from those before.
    pub(super) fn extend(&mut self, later: Self) {
        let most = self.details.iter().filter_map(|detail| detail["index"].as_u64()).max();
        let first = most.map_or(0, |most| most.saturating_add(1));
        self.text.push_str(&later.text);
        self.field = later.field.or(self.field);
        self.extras.extend(later.extras);
        self.details.extend(later.details.into_iter().map(|mut detail| {
            if let Some(index) = detail["index"].as_u64() {
                detail["index"] = Value::from(index.saturating_add(first));
            }
            detail
        }));
    }

    /// Into an assistant's message.
    pub(super) fn put(self, message: &mut Map<String, Value>) {
        if let Some(field) = self.field.filter(|_| !self.text.is_empty()) {
            message.insert(field.to_owned(), Value::from(self.text));
        }
        if !self.details.is_empty() {
            message.insert("reasoning_details".to_owned(), Value::Array(self.details));
        }
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten() {
            let extra = call["id"].as_str().and_then(|id| self.extras.get(id));
            if let (Some(extra), Some(call)) = (extra.cloned(), call.as_object_mut()) {
                call.insert("extra_content".to_owned(), extra);
            }
        }
    }
}

fn decoded(text: &str) -> Option<Value> {
    let mut whole: Value = serde_json::from_slice(&STANDARD.decode(text).ok()?).ok()?;
    whole.get_mut(MARK).map(Value::take).filter(Value::is_object)
}
