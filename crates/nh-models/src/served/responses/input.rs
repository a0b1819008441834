//! `instructions` and `input` as the messages of a chat.

use std::mem;

use serde_json::{Map, Value, json};

use super::super::Places;
use super::kept::Kept;
use super::{text, wrong};
use crate::ModelError;
use crate::provider::Place;

pub(super) fn messages(body: &Map<String, Value>) -> Result<(Vec<Value>, Places), ModelError> {
    let mut talk = Talk::default();
    match body.get("instructions") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) => talk.push(json!({"role": "system", "content": text}), "instructions"),
        given => return Err(wrong("instructions", given, "it must be a text")),
    }
    let input = body.get("input");
    match input {
        Some(Value::String(text)) => talk.push(json!({"role": "user", "content": text}), "input"),
        Some(Value::Array(items)) => {
            for (place, item) in items.iter().enumerate() {
                talk.add(item, &format!("input[{place}]"))?;
            }
        }
        _ => return Err(wrong("input", input, "it must be a text or a list of items")),
    }
    talk.flush();
    match talk.messages.is_empty() {
        true => Err(wrong("input", input, "it must hold at least one message")),
        false => Ok((talk.messages, talk.places)),
    }
}

#[derive(Default)]
struct Talk {
    messages: Vec<Value>,
    places: Places,
    said: Said,
}

/// What the assistant said in several items and in one message.
#[derive(Default)]
struct Said {
    text: String,
    calls: Vec<Value>,
    kept: Kept,
    /// What was thought after the text.
    later: Kept,
    /// Characters of the same turn in messages before this.
    before: usize,
    /// The first item of it.
    at: String,
}

impl Talk {
    fn push(&mut self, message: Value, at: &str) {
        self.messages.push(message);
        self.places.up_to(self.messages.len(), at);
    }

    fn add(&mut self, item: &Value, at: &str) -> Result<(), ModelError> {
        let remedy = match item["type"].as_str().unwrap_or_default() {
            "message" => return self.message(item, at),
            "" if item["type"].is_null() && item.is_object() => return self.message(item, at),
            "function_call" => return self.call(item, at),
            "function_call_output" => return self.output(item, at),
            "reasoning" => {
                self.said.think(Kept::read(item));
                return Ok(());
            }
            "item_reference" => "no items are kept here: send the item itself",
            _ => "it must be one of message, function_call, function_call_output, reasoning",
        };
        Err(wrong(&format!("{at}.type"), item.get("type"), remedy))
    }

    fn message(&mut self, item: &Value, at: &str) -> Result<(), ModelError> {
        let content = content(item.get("content"), &format!("{at}.content"))?;
        match item["role"].as_str().unwrap_or_default() {
            "assistant" => self.say(&content, at),
            role @ ("user" | "system" | "developer") => {
                self.flush();
                self.push(json!({"role": role, "content": content}), at);
                Ok(())
            }
            _ => {
                let remedy = "it must be one of user, assistant, system, developer";
                Err(wrong(&format!("{at}.role"), item.get("role"), remedy))
            }
        }
    }

    fn say(&mut self, content: &Value, at: &str) -> Result<(), ModelError> {
        // Results of calls must come next after them, and so what is said besides goes with them.
        if !self.said.text.is_empty() && self.said.calls.is_empty() {
            let mut later = mem::take(&mut self.said.later);
            let gone = self.said.text.chars().count();
            later.place(gone, Place::default());
            let before = self.said.before.saturating_add(gone);
            self.flush();
            (self.said.kept, self.said.before) = (later, before);
        }
        self.said.begin(at);
        match content {
            Value::Array(parts) => {
                for (place, part) in parts.iter().enumerate() {
                    let Some(text) = part["text"].as_str() else {
                        let at = format!("{at}.content[{place}].type");
                        return Err(wrong(&at, part.get("type"), "an assistant's message holds only texts"));
                    };
                    self.said.text.push_str(text);
                }
            }
            content => self.said.text.push_str(content.as_str().unwrap_or_default()),
        }
        Ok(())
    }

    fn call(&mut self, item: &Value, at: &str) -> Result<(), ModelError> {
        let [id, name, arguments] = ["call_id", "name", "arguments"].map(|field| text(item, field, at));
        let function = json!({"name": name?, "arguments": arguments?});
        self.said.begin(at);
        self.said.calls.push(json!({"id": id?, "type": "function", "function": function}));
        Ok(())
    }

    fn output(&mut self, item: &Value, at: &str) -> Result<(), ModelError> {
        let id = text(item, "call_id", at)?;
        let content = content(item.get("output"), &format!("{at}.output"))?;
        self.flush();
        self.push(json!({"role": "tool", "tool_call_id": id, "content": content}), at);
        Ok(())
    }

    /// Thoughts alone are no message.
    fn flush(&mut self) {
        let Said { text, calls, mut kept, later, at, .. } = mem::take(&mut self.said);
        if text.is_empty() && calls.is_empty() {
            return;
        }
        let content = if text.is_empty() { Value::Null } else { Value::from(text) };
        let mut message =
            Map::from_iter([("role".to_owned(), Value::from("assistant")), ("content".to_owned(), content)]);
        if !calls.is_empty() {
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
        kept.extend(later);
        kept.put(&mut message);
        self.push(Value::Object(message), &at);
    }
}

impl Said {
    fn begin(&mut self, at: &str) {
        if self.at.is_empty() {
            at.clone_into(&mut self.at);
        }
    }

    fn think(&mut self, mut kept: Kept) {
        let mut least = Place { content: 0, calls: self.calls.len() };
        least.say(&self.text);
        kept.place(self.before, least);
        if self.text.is_empty() { self.kept.extend(kept) } else { self.later.extend(kept) }
    }
}

/// A text, or a chat's parts. One text is no list: some servers take a system's and a tool's words
/// only so.
fn content(given: Option<&Value>, at: &str) -> Result<Value, ModelError> {
    let parts = match given {
        Some(Value::String(text)) => return Ok(Value::from(text.as_str())),
        Some(Value::Array(parts)) => parts.iter().enumerate(),
        _ => return Err(wrong(at, given, "it must be a text or a list of parts")),
    };
    let made =
        parts.map(|(place, one)| part(one, &format!("{at}[{place}]"))).collect::<Result<Vec<_>, _>>()?;
    match made.as_slice() {
        [] => Ok(Value::from("")),
        [one] if one.get("cache_control").is_none() && one["type"] == "text" => Ok(one["text"].clone()),
        _ => Ok(Value::Array(made)),
    }
}

fn part(part: &Value, at: &str) -> Result<Value, ModelError> {
    let mut made = match part["type"].as_str().unwrap_or_default() {
        "input_text" | "output_text" | "text" => json!({"type": "text", "text": text(part, "text", at)?}),
        "refusal" => json!({"type": "text", "text": text(part, "refusal", at)?}),
        "input_image" => image(part, at)?,
        "input_file" => file(part, at)?,
        "input_audio" => json!({"type": "input_audio", "input_audio": part["input_audio"]}),
        _ => {
            let remedy =
                "it must be one of input_text, input_image, input_file, input_audio, output_text, refusal";
            return Err(wrong(&format!("{at}.type"), part.get("type"), remedy));
        }
    };
    if let Some(cache) = part.get("cache_control").filter(|cache| !cache.is_null()) {
        made["cache_control"] = cache.clone();
    }
    Ok(made)
}

fn image(part: &Value, at: &str) -> Result<Value, ModelError> {
    let Some(url) = part["image_url"].as_str() else {
        let remedy = "give an https or a data URL: no files are kept here under a `file_id`";
        return Err(wrong(&format!("{at}.image_url"), part.get("image_url"), remedy));
    };
    let mut image = json!({"url": url});
    if let Some(detail) = part["detail"].as_str() {
        image["detail"] = Value::from(detail);
    }
    Ok(json!({"type": "image_url", "image_url": image}))
}

fn file(part: &Value, at: &str) -> Result<Value, ModelError> {
    let Some(data) = part["file_data"].as_str().or_else(|| part["file_url"].as_str()) else {
        let remedy = "give a data URL, or `file_url`: no files are kept here under a `file_id`";
        return Err(wrong(&format!("{at}.file_data"), part.get("file_data"), remedy));
    };
    let mut file = json!({"file_data": data});
    if let Some(name) = part["filename"].as_str() {
        file["filename"] = Value::from(name);
    }
    Ok(json!({"type": "file", "file": file}))
}
