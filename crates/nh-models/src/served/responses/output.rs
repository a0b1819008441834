//! The items of an answer, and the events that tell how they grow
//! (<https://platform.openai.com/docs/api-reference/responses-streaming>).

use std::collections::BTreeMap;
use std::mem;

use nh_types::SharedIds;
use serde_json::{Value, json};

use super::kept::{Kept, THOUGHTS};
use crate::chat::ID_LETTERS;

const ID_LENGTH: usize = 48;

pub(super) struct Output {
    ids: SharedIds,
    items: Vec<Item>,
    /// The thought or the message that goes on.
    open: Option<usize>,
    /// By their index in the chat: calls go on beside each other.
    calls: BTreeMap<u64, usize>,
    events: Vec<Value>,
}

struct Item {
    id: String,
    status: &'static str,
    body: Body,
}

enum Body {
    Thought(Kept),
    Message(Vec<Part>),
    Call { id: String, name: String, arguments: String },
}

#[derive(Default)]
struct Part {
    is_refusal: bool,
    text: String,
    logprobs: Vec<Value>,
}

impl Output {
    pub(super) fn new(ids: SharedIds) -> Self {
        Self { ids, items: Vec::new(), open: None, calls: BTreeMap::new(), events: Vec::new() }
    }

    pub(super) fn items(&self) -> Value {
        self.items.iter().map(Item::value).collect()
    }

    /// What happened since the last time, without numbers.
    pub(super) fn take_events(&mut self) -> Vec<Value> {
        mem::take(&mut self.events)
    }

    /// A chat's delta, or a whole message of it.
    pub(super) fn add(&mut self, delta: &Value, logprobs: &Value) {
        let thought = THOUGHTS.into_iter().find_map(|field| Some((field, delta[field].as_str()?)));
        if let Some((field, text)) = thought.filter(|(_, text)| !text.is_empty()) {
            self.think(field, text);
        }
        for detail in delta["reasoning_details"].as_array().into_iter().flatten() {
            self.keep(|kept| kept.add_detail(detail));
        }
        match &delta["content"] {
            Value::String(text) => self.say(false, text, logprobs),
            // Some have parts there.
            Value::Array(parts) => {
                let texts = parts.iter().filter_map(|part| part["text"].as_str());
                texts.for_each(|text| self.say(false, text, logprobs));
            }
            _ => {}
        }
        self.say(true, delta["refusal"].as_str().unwrap_or_default(), &Value::Null);
        for (place, call) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
            self.call(call["index"].as_u64().unwrap_or(place as u64), call);
        }
    }

    /// Nothing more comes. What was cut short was so in its last item, which is never closed before.
    pub(super) fn end(&mut self, is_cut: bool) {
        let says = |item: &Item| !matches!(item.body, Body::Thought(_));
        if !is_cut && !self.items.iter().any(says) {
            self.message();
        }
        let last = self.items.len().saturating_sub(1);
        let status = |place: usize| if is_cut && place == last { "incomplete" } else { "completed" };
        if let Some(place) = self.open.take() {
            self.close(place, status(place));
        }
        for place in mem::take(&mut self.calls).into_values() {
            self.close(place, status(place));
        }
    }

    /// As [`Output::end`] where it failed: without events.
    pub(super) fn abandon(&mut self) {
        for item in self.items.iter_mut().filter(|item| item.status == "in_progress") {
            item.status = "incomplete";
        }
    }

    fn keep(&mut self, put: impl FnOnce(&mut Kept)) {
        let place = self.thought();
        if let Body::Thought(kept) = &mut self.items[place].body {
            put(kept);
        }
    }

    fn think(&mut self, field: &'static str, text: &str) {
        let place = self.thought();
        let Body::Thought(kept) = &mut self.items[place].body else { return };
        let is_first = kept.text().is_empty();
        kept.think(field, text);
        if is_first {
            let part = json!({"type": "summary_text", "text": ""});
            let added = json!({"summary_index": 0, "part": part});
            self.tell("response.reasoning_summary_part.added", place, added);
        }
        let delta = json!({"summary_index": 0, "delta": text});
        self.tell("response.reasoning_summary_text.delta", place, delta);
    }

    fn say(&mut self, is_refusal: bool, text: &str, logprobs: &Value) {
        if text.is_empty() {
            return;
        }
        let place = self.message();
        let Body::Message(parts) = &self.items[place].body else { return };
        if parts.last().is_none_or(|part| part.is_refusal != is_refusal) {
            self.close_part(place);
            self.open_part(place, is_refusal);
        }
        let Body::Message(parts) = &mut self.items[place].body else { return };
        let content_index = parts.len().saturating_sub(1);
        let logprobs = logprobs.as_array().cloned().unwrap_or_default();
        if let Some(part) = parts.last_mut() {
            part.text.push_str(text);
            part.logprobs.extend(logprobs.iter().cloned());
        }
        let mut delta = json!({"content_index": content_index, "delta": text});
        if is_refusal {
            self.tell("response.refusal.delta", place, delta);
        } else {
            delta["logprobs"] = Value::Array(logprobs);
            self.tell("response.output_text.delta", place, delta);
        }
    }

    fn call(&mut self, index: u64, piece: &Value) {
        let known = self.calls.get(&index).copied();
        let id = match known.map(|place| &self.items[place].body) {
            Some(Body::Call { id, .. }) => id.clone(),
            _ => piece["id"].as_str().unwrap_or_default().to_owned(),
        };
        if let Some(extra) = piece.get("extra_content").filter(|extra| !extra.is_null()) {
            self.keep(|kept| kept.add_extra(&id, extra));
        }
        let function = &piece["function"];
        let place = known.unwrap_or_else(|| {
            self.close_open();
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            let place = self.begin("fc", Body::Call { id, name, arguments: String::new() });
            self.calls.insert(index, place);
            place
        });
        match &function["arguments"] {
            Value::Null => {}
            Value::String(text) => self.argue(place, text),
            // Some do not write it as a text.
            other => self.argue(place, &other.to_string()),
        }
    }

    fn argue(&mut self, place: usize, text: &str) {
        let Body::Call { arguments, .. } = &mut self.items[place].body else { return };
        if !text.is_empty() {
            arguments.push_str(text);
            self.tell("response.function_call_arguments.delta", place, json!({"delta": text}));
        }
    }

    /// The thought that is open, or a new one.
    fn thought(&mut self) -> usize {
        match self.open.filter(|place| matches!(self.items[*place].body, Body::Thought(_))) {
            Some(place) => place,
            None => self.turn_to("rs", Body::Thought(Kept::default())),
        }
    }

    fn message(&mut self) -> usize {
        match self.open.filter(|place| matches!(self.items[*place].body, Body::Message(_))) {
            Some(place) => place,
            None => self.turn_to("msg", Body::Message(Vec::new())),
        }
    }

    fn turn_to(&mut self, prefix: &str, body: Body) -> usize {
        self.close_open();
        let place = self.begin(prefix, body);
        self.open = Some(place);
        place
    }

    fn begin(&mut self, prefix: &str, body: Body) -> usize {
        let id = format!("{prefix}_{}", self.ids.text(ID_LETTERS, ID_LENGTH));
        let place = self.items.len();
        self.items.push(Item { id, status: "in_progress", body });
        self.tell_item("response.output_item.added", place);
        place
    }

    fn close_open(&mut self) {
        if let Some(place) = self.open.take() {
            self.close(place, "completed");
        }
    }

    fn close(&mut self, place: usize, status: &'static str) {
        match &self.items[place].body {
            Body::Thought(kept) if kept.text().is_empty() => {}
            Body::Thought(kept) => {
                let part = json!({"type": "summary_text", "text": kept.text()});
                let text = json!({"summary_index": 0, "text": kept.text()});
                self.tell("response.reasoning_summary_text.done", place, text);
                let done = json!({"summary_index": 0, "part": part});
                self.tell("response.reasoning_summary_part.done", place, done);
            }
            Body::Message(parts) => {
                if parts.is_empty() {
                    self.open_part(place, false);
                }
                self.close_part(place);
            }
            Body::Call { arguments, .. } => {
                // Nothing is no JSON, and clients read it.
                if arguments.trim().is_empty() && status == "completed" {
                    self.argue(place, "{}");
                }
                if let Body::Call { name, arguments, .. } = &self.items[place].body {
                    let done = json!({"name": name, "arguments": arguments});
                    self.tell("response.function_call_arguments.done", place, done);
                }
            }
        }
        self.items[place].status = status;
        self.tell_item("response.output_item.done", place);
    }

    fn open_part(&mut self, place: usize, is_refusal: bool) {
        let Body::Message(parts) = &mut self.items[place].body else { return };
        let part = Part { is_refusal, ..Part::default() };
        let added = json!({"content_index": parts.len(), "part": part.value()});
        parts.push(part);
        self.tell("response.content_part.added", place, added);
    }

    /// The last one, where there is one.
    fn close_part(&mut self, place: usize) {
        let Body::Message(parts) = &self.items[place].body else { return };
        let Some((part, before)) = parts.split_last() else { return };
        let content_index = before.len();
        let (kind, said) = match part.is_refusal {
            true => ("response.refusal.done", json!({"content_index": content_index, "refusal": part.text})),
            false => (
                "response.output_text.done",
                json!({"content_index": content_index, "text": part.text, "logprobs": part.logprobs}),
            ),
        };
        let done = json!({"content_index": content_index, "part": part.value()});
        self.tell(kind, place, said);
        self.tell("response.content_part.done", place, done);
    }

    fn tell_item(&mut self, kind: &str, place: usize) {
        let item = self.items[place].value();
        self.events.push(json!({"type": kind, "output_index": place, "item": item}));
    }

    fn tell(&mut self, kind: &str, place: usize, mut event: Value) {
        event["type"] = Value::from(kind);
        event["output_index"] = Value::from(place);
        event["item_id"] = Value::from(self.items[place].id.as_str());
        self.events.push(event);
    }
}

impl Item {
    fn value(&self) -> Value {
        match &self.body {
            Body::Thought(kept) => {
                let mut item = json!({"type": "reasoning", "id": self.id, "summary": []});
                if !kept.text().is_empty() {
                    item["summary"] = json!([{"type": "summary_text", "text": kept.text()}]);
                }
                if let Some(written) = kept.written() {
                    item["encrypted_content"] = Value::from(written);
                }
                item
            }
            Body::Message(parts) => json!({"type": "message", "id": self.id, "status": self.status,
                "role": "assistant", "content": parts.iter().map(Part::value).collect::<Value>()}),
            Body::Call { id, name, arguments } => json!({"type": "function_call", "id": self.id,
                "status": self.status, "call_id": id, "name": name, "arguments": arguments}),
        }
    }
}

impl Part {
    fn value(&self) -> Value {
        match self.is_refusal {
            true => json!({"type": "refusal", "refusal": self.text}),
            false => json!({"type": "output_text", "text": self.text, "annotations": [],
                "logprobs": self.logprobs}),
        }
    }
}
