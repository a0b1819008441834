//! Anthropic's request as OpenAI's.

use serde_json::{Map, Value, json};

use super::super::Places;
use super::hidden;
use crate::ModelError;
use crate::chat::shown;
use crate::provider::{OWN, OWN_FIELDS, Place, THINKING_FORMAT};
use crate::usage::prompt_tokens;

const SAME_FIELDS: [&str; 5] = ["model", "models", "stream", "temperature", "top_p"];
/// Of a block as of a part.
const SAME_IN_BLOCKS: [&str; 3] = ["cache_control", "citations", "context"];
/// OpenAI wants one.
const SCHEMA_NAME: &str = "answer";

/// What to ask for.
#[derive(Debug)]
pub struct Request {
    /// The body for [`Models::chat`](crate::Models::chat), or for
    /// [`Models::chat_stream`](crate::Models::chat_stream).
    pub chat: Map<String, Value>,
    /// For the error that the chat may end in.
    pub places: Places,
}

/// Reads the body of a `POST /v1/messages`.
pub fn request(body: Map<String, Value>) -> Result<Request, ModelError> {
    let limit = body.get("max_tokens").cloned().unwrap_or_default();
    if !limit.is_u64() {
        let given = if limit.is_null() { "missing".to_owned() } else { shown(&limit) };
        return Err(invalid("max_tokens", format!("is {given}; it must be a whole number")));
    }
    let (mut chat, places) = chat(body)?;
    chat.insert("max_tokens".to_owned(), limit);
    Ok(Request { chat, places })
}

/// The answer to `POST /v1/messages/count_tokens`: an estimate, by the size of the request.
pub fn count(body: Map<String, Value>) -> Result<Value, ModelError> {
    Ok(json!({"input_tokens": prompt_tokens(&chat(body)?.0)}))
}

pub(super) fn invalid(at: impl Into<String>, what: impl AsRef<str>) -> ModelError {
    let param = at.into();
    ModelError::Invalid { message: format!("`{param}` {}", what.as_ref()), param }
}

fn is_given(value: &&Value) -> bool {
    !value.is_null()
}

fn chat(mut body: Map<String, Value>) -> Result<(Map<String, Value>, Places), ModelError> {
    let (messages, places) = messages(&body)?;
    let mut chat = Map::from_iter([("messages".to_owned(), Value::Array(messages))]);
    let mut put = |field: &str, value: Option<Value>| {
        chat.extend(value.filter(|value| !value.is_null()).map(|value| (field.to_owned(), value)));
    };
    for field in SAME_FIELDS {
        put(field, body.remove(field));
    }
    if body.get("stop_sequences").and_then(Value::as_array).is_some_and(|stops| !stops.is_empty()) {
        put("stop", body.remove("stop_sequences"));
    }
    put("user", body.remove("metadata").map(|mut metadata| take(&mut metadata, "user_id")));
    let format = body.get_mut("output_config").map(|config| take(config, "format")).unwrap_or_default();
    if format["type"] == "json_schema" {
        let schema = json!({"name": SCHEMA_NAME, "schema": format["schema"]});
        put("response_format", Some(json!({"type": "json_schema", "json_schema": schema})));
    }
    let tools = tools(&body)?;
    if !tools.is_empty() {
        put("tools", Some(Value::Array(tools)));
        let choice = body.remove("tool_choice").unwrap_or_default();
        put("tool_choice", tool_choice(&choice)?);
        let is_one = choice["disable_parallel_tool_use"] == true;
        put("parallel_tool_calls", is_one.then_some(Value::Bool(false)));
    }
    let is_empty = |value: &Value| value.is_null() || value.as_object().is_some_and(Map::is_empty);
    let own = OWN_FIELDS.iter().filter_map(|field| body.remove_entry(*field));
    put(OWN, Some(Value::Object(own.filter(|(_, value)| !is_empty(value)).collect())));
    if chat.get("stream") == Some(&Value::Bool(true)) {
        chat.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    Ok((chat, places))
}

/// Null where there is none.
fn take(from: &mut Value, field: &str) -> Value {
    from.as_object_mut().and_then(|fields| fields.remove(field)).unwrap_or_default()
}

fn tools(body: &Map<String, Value>) -> Result<Vec<Value>, ModelError> {
    let tools = match body.get("tools").filter(is_given) {
        None => return Ok(Vec::new()),
        Some(Value::Array(tools)) => tools,
        Some(other) => return Err(invalid("tools", format!("is {}; it must be a list", shown(other)))),
    };
    let mut made = Vec::with_capacity(tools.len());
    for (place, tool) in tools.iter().enumerate() {
        if tool["type"].as_str().is_some_and(|kind| kind != "custom") {
            // One of Anthropic's own.
            made.push(tool.clone());
            continue;
        }
        if !tool["name"].is_string() {
            let given = format!("is {}; it must be a text", shown(&tool["name"]));
            return Err(invalid(format!("tools[{place}].name"), given));
        }
        let mut function = json!({"name": tool["name"], "parameters": tool["input_schema"]});
        for field in ["description", "strict"] {
            put_same(&mut function, tool, field);
        }
        let mut one = json!({"type": "function", "function": function});
        put_same(&mut one, tool, "cache_control");
        made.push(one);
    }
    Ok(made)
}

fn put_same(to: &mut Value, from: &Value, field: &str) {
    if let Some(value) = from.get(field).filter(is_given) {
        to[field] = value.clone();
    }
}

fn tool_choice(choice: &Value) -> Result<Option<Value>, ModelError> {
    Ok(Some(match choice["type"].as_str().unwrap_or_default() {
        "" if choice.is_null() => return Ok(None),
        "any" => Value::from("required"),
        word @ ("auto" | "none") => Value::from(word),
        "tool" => json!({"type": "function", "function": {"name": choice["name"]}}),
        _ => {
            let given = shown(&choice["type"]);
            return Err(invalid(
                "tool_choice.type",
                format!("is {given}; it must be auto, any, tool or none"),
            ));
        }
    }))
}

fn messages(body: &Map<String, Value>) -> Result<(Vec<Value>, Places), ModelError> {
    let given = body.get("messages").unwrap_or(&Value::Null);
    let Some(messages) = given.as_array().filter(|messages| !messages.is_empty()) else {
        let told = format!("is {}; it must be a list with at least one message", shown(given));
        return Err(invalid("messages", told));
    };
    let mut made = Vec::with_capacity(messages.len() + 1);
    if let Some(system) = body.get("system").filter(is_given) {
        made.extend(message("system", parts(system, "system")?));
    }
    let mut places = Places::default();
    places.up_to(made.len(), "system");
    for (place, message) in messages.iter().enumerate() {
        let (content, at) = (&message["content"], format!("messages[{place}].content"));
        match message["role"].as_str().unwrap_or_default() {
            "user" => made.extend(asked(content, &at)?),
            "assistant" => made.push(said(content, &at)?),
            "system" => made.extend(self::message("system", parts(content, &at)?)),
            _ => {
                let told = format!("is {}; it must be user, assistant or system", shown(&message["role"]));
                return Err(invalid(format!("messages[{place}].role"), told));
            }
        }
        places.up_to(made.len(), &format!("messages[{place}]"));
    }
    Ok((made, places))
}

/// None where nothing is said.
fn message(role: &str, parts: Vec<Value>) -> Option<Value> {
    (!parts.is_empty()).then(|| json!({"role": role, "content": content(parts)}))
}

/// A text alone needs no list.
fn content(mut parts: Vec<Value>) -> Value {
    match parts.as_mut_slice() {
        [Value::Object(part)] if part.len() == 2 && part.contains_key("text") => {
            part.remove("text").unwrap_or_default()
        }
        _ => Value::Array(parts),
    }
}

/// A list of blocks, or a text, which is a list of one.
fn blocks<'a>(content: &'a Value, at: &str) -> Result<Vec<(String, &'a Value)>, ModelError> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::Array(blocks) => {
            Ok(blocks.iter().enumerate().map(|(index, block)| (format!("{at}[{index}]"), block)).collect())
        }
        other => Err(invalid(at, format!("is {}; it must be a text or a list of blocks", shown(other)))),
    }
}

fn parts(content: &Value, at: &str) -> Result<Vec<Value>, ModelError> {
    if let Value::String(text) = content {
        return Ok(text_part(text).into_iter().collect());
    }
    let mut parts = Vec::new();
    for (at, block) in blocks(content, at)? {
        parts.extend(part(block, &at)?);
    }
    Ok(parts)
}

fn text_part(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!({"type": "text", "text": text}))
}

fn part(block: &Value, at: &str) -> Result<Option<Value>, ModelError> {
    let source = &block["source"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let url = match source["type"].as_str().unwrap_or_default() {
        "base64" => text(&source["media_type"])
            .zip(text(&source["data"]))
            .map(|(media_type, data)| format!("data:{media_type};base64,{data}")),
        "url" => text(&source["url"]),
        _ => None,
    };
    let kind = block["type"].as_str().unwrap_or_default();
    let mut part = match (kind, url) {
        ("text", _) => match text_part(block["text"].as_str().unwrap_or_default()) {
            None => return Ok(None),
            Some(part) => part,
        },
        ("image", Some(url)) => json!({"type": "image_url", "image_url": {"url": url}}),
        ("document", Some(url)) => {
            let mut file = json!({"file_data": url});
            file.as_object_mut().into_iter().for_each(|file| {
                file.extend(
                    block.get("title").filter(is_given).map(|title| ("filename".to_owned(), title.clone())),
                );
            });
            json!({"type": "file", "file": file})
        }
        ("", _) => {
            let given = shown(&block["type"]);
            return Err(invalid(format!("{at}.type"), format!("is {given}; it must be text, image, …")));
        }
        // OpenAI has no word for it.
        _ => return Ok(Some(json!({"type": OWN, "block": block}))),
    };
    for field in SAME_IN_BLOCKS {
        put_same(&mut part, block, field);
    }
    Ok(Some(part))
}

/// What tools said comes first, as the calls before it want.
fn asked(content: &Value, at: &str) -> Result<Vec<Value>, ModelError> {
    if content.is_string() {
        return Ok(message("user", parts(content, at)?).into_iter().collect());
    }
    let (mut made, mut rest) = (Vec::new(), Vec::new());
    for (at, block) in blocks(content, at)? {
        if block["type"] != "tool_result" {
            rest.extend(part(block, &at)?);
            continue;
        }
        let id = id(block, "tool_use_id", &at)?;
        let result = parts(&block["content"], &format!("{at}.content"))?;
        let result = if result.is_empty() { Value::from("") } else { self::content(result) };
        let mut result = json!({"role": "tool", "tool_call_id": id, "content": result});
        for field in ["is_error", "cache_control"] {
            put_same(&mut result, block, field);
        }
        made.push(result);
    }
    made.extend(message("user", rest));
    Ok(made)
}

fn id<'a>(block: &'a Value, field: &str, at: &str) -> Result<&'a str, ModelError> {
    block[field].as_str().ok_or_else(|| {
        invalid(format!("{at}.{field}"), format!("is {}; it must be a text", shown(&block[field])))
    })
}

/// What the model said before: its thoughts, its words and its calls.
fn said(content: &Value, at: &str) -> Result<Value, ModelError> {
    let mut said = Said::default();
    if content.is_string() {
        said.parts = parts(content, at)?;
    } else {
        for (at, block) in blocks(content, at)? {
            said.add(block, &at)?;
        }
    }
    Ok(said.into_message())
}

#[derive(Default)]
struct Said {
    parts: Vec<Value>,
    details: Vec<Value>,
    /// Of models that sign nothing.
    thoughts: Vec<String>,
    calls: Vec<Value>,
    /// Of calls: their id, and what else they had.
    extras: Vec<Value>,
    /// Of what comes next.
    place: Place,
}

impl Said {
    fn add(&mut self, block: &Value, at: &str) -> Result<(), ModelError> {
        match block["type"].as_str().unwrap_or_default() {
            "thinking" => {
                let thought = block["thinking"].as_str().unwrap_or_default();
                match block["signature"].as_str().unwrap_or_default() {
                    "" => self.thoughts.push(thought.to_owned()),
                    signature => {
                        self.keep(json!({"type": "reasoning.text", "text": thought, "signature": signature}))
                    }
                }
            }
            "redacted_thinking" => match block["data"].as_str().and_then(hidden::read) {
                Some(mut kept) if kept["detail"].is_object() => self.details.push(kept["detail"].take()),
                Some(kept) => self.extras.push(kept),
                None => self.keep(json!({"type": "reasoning.encrypted", "data": block["data"]})),
            },
            "tool_use" => {
                let input = &block["input"];
                let arguments = if input.is_null() { "{}".to_owned() } else { input.to_string() };
                let function = json!({"name": id(block, "name", at)?, "arguments": arguments});
                let mut call = json!({"id": id(block, "id", at)?, "type": "function", "function": function});
                put_same(&mut call, block, "cache_control");
                self.calls.push(call);
                self.place.calls += 1;
            }
            _ => {
                let part = part(block, at)?;
                match part.as_ref().map(|part| part["text"].as_str()) {
                    Some(Some(text)) => self.place.say(text),
                    Some(None) => self.place.content += 1,
                    None => {}
                }
                self.parts.extend(part);
            }
        }
        Ok(())
    }

    /// A thought of Anthropic's own.
    fn keep(&mut self, mut detail: Value) {
        detail["format"] = Value::from(THINKING_FORMAT);
        detail["index"] = Value::from(self.details.len());
        self.place.put(&mut detail);
        self.details.push(detail);
    }

    fn into_message(mut self) -> Value {
        for extra in self.extras {
            if let Some(call) = self.calls.iter_mut().find(|call| call["id"] == extra["call"]) {
                put_same(call, &extra, "extra_content");
            }
        }
        let content = if self.parts.is_empty() { Value::Null } else { content(self.parts) };
        let mut message = json!({"role": "assistant", "content": content});
        if !self.details.is_empty() {
            message["reasoning_details"] = Value::Array(self.details);
        }
        if !self.thoughts.is_empty() {
            message["reasoning_content"] = Value::from(self.thoughts.join("\n"));
        }
        if !self.calls.is_empty() {
            message["tool_calls"] = Value::Array(self.calls);
        }
        message
    }
}
