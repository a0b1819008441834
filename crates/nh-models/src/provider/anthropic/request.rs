//! OpenAI's chat request as Anthropic's.

use serde_json::{Map, Value, json};

use super::super::asking::Operation;
use super::thinking::{put_sampling, put_thinking};
use super::{OWN, OWN_FIELDS, kept, schema};
use crate::ModelError;
use crate::chat::shown;

/// Anthropic wants a bound; where the request has none, this is it.
const DEFAULT_MAX_TOKENS: u64 = 8_192;
/// Of a part as of a block.
const SAME_IN_PARTS: [&str; 3] = ["cache_control", "citations", "context"];
/// What `json_object` has no word for.
const JSON_ALONE: &str = "Answer with one JSON object and nothing else.";

pub(in crate::provider) fn write(
    operation: Operation,
    mut body: Map<String, Value>,
) -> Result<Map<String, Value>, ModelError> {
    if operation == Operation::Embeddings {
        return Err(invalid(
            "model",
            "Anthropic makes no embeddings; choose another provider's model".to_owned(),
        ));
    }
    if body.get("n").is_some_and(|count| !count.is_null() && *count != 1) {
        return Err(invalid(
            "n",
            format!("`n` is {}; Anthropic gives one answer: leave it out", shown(&body["n"])),
        ));
    }
    let own = body.remove(OWN);
    let is_anthropics = own.is_some();
    if let Some(Value::Object(mut own)) = own {
        // No other: they may say what a budget was not asked for.
        own.retain(|field, _| OWN_FIELDS.contains(&field.as_str()));
        body.extend(own);
    }
    let mut request = Map::new();
    for field in ["model"].iter().chain(&OWN_FIELDS) {
        if let Some(value) = body.remove(*field).filter(|value| !value.is_null()) {
            request.insert((*field).to_owned(), value);
        }
    }
    let limit = ["max_completion_tokens", "max_tokens"].iter().find_map(|field| body.get(*field)?.as_u64());
    request.insert("max_tokens".to_owned(), Value::from(limit.unwrap_or(DEFAULT_MAX_TOKENS)));
    if operation == Operation::ChatStream {
        request.insert("stream".to_owned(), Value::Bool(true));
    }
    if let Some(user) = body.get("user").and_then(Value::as_str) {
        request.entry("metadata").or_insert_with(|| json!({"user_id": user}));
    }
    let stops = match body.remove("stop") {
        Some(Value::String(stop)) => vec![Value::from(stop)],
        Some(Value::Array(stops)) => stops,
        _ => Vec::new(),
    };
    // White space alone is refused.
    let stops: Vec<Value> = stops.into_iter().filter(|stop| stop.as_str().is_some_and(is_said)).collect();
    if !stops.is_empty() {
        request.insert("stop_sequences".to_owned(), Value::Array(stops));
    }
    let (mut system, messages) = messages(&body)?;
    put_tools(&mut request, &body)?;
    put_form(&mut request, &mut system, &body, is_anthropics);
    if is_anthropics {
        // As its client sent them.
        let sampling = ["temperature", "top_p"].map(|field| Some((field.to_owned(), body.remove(field)?)));
        request.extend(sampling.into_iter().flatten());
    } else {
        put_thinking(&mut request, &body, &messages);
        put_sampling(&mut request, &body);
    }
    if !system.is_empty() {
        request.insert("system".to_owned(), Value::Array(system));
    }
    request.insert("messages".to_owned(), Value::Array(messages));
    Ok(request)
}

fn invalid(param: impl Into<String>, message: String) -> ModelError {
    ModelError::Invalid { message, param: param.into() }
}

/// What the system says, and the messages: no two of one role after another.
fn messages(body: &Map<String, Value>) -> Result<(Vec<Value>, Vec<Value>), ModelError> {
    let (mut system, mut turns): (Vec<Value>, Vec<(&str, Vec<Value>)>) = (Vec::new(), Vec::new());
    for (place, message) in body.get("messages").and_then(Value::as_array).into_iter().flatten().enumerate() {
        let (role, blocks) = match message["role"].as_str().unwrap_or_default() {
            "system" | "developer" => {
                system.extend(content(place, &message["content"])?);
                continue;
            }
            "assistant" => ("assistant", said(place, message)?),
            "tool" | "function" => ("user", vec![result(place, message)?]),
            "user" => ("user", content(place, &message["content"])?),
            other => {
                let text = format!(
                    "`messages[{place}].role` is \"{other}\"; it must be one of system, developer, user, assistant, tool"
                );
                return Err(invalid(format!("messages[{place}].role"), text));
            }
        };
        match turns.last_mut() {
            Some((last, so_far)) if *last == role => so_far.extend(blocks),
            _ => turns.push((role, blocks)),
        }
    }
    turns.retain(|(_, blocks)| !blocks.is_empty());
    if turns.is_empty() {
        // OpenAI answers what the system says alone, and Anthropic refuses a list without messages.
        turns.push(("user", std::mem::take(&mut system)));
    }
    if turns[0].1.is_empty() {
        let text = "`messages` have no words and nothing else; give one that says something";
        return Err(invalid("messages", text.to_owned()));
    }
    let messages =
        turns.into_iter().map(|(role, content)| json!({"role": role, "content": content})).collect();
    Ok((system, messages))
}

/// Anthropic refuses texts of white space alone.
fn is_said(text: &str) -> bool {
    !text.trim().is_empty()
}

fn is_said_block(block: &Value) -> bool {
    block["type"] != "text" || block["text"].as_str().is_some_and(is_said)
}

fn content(place: usize, content: &Value) -> Result<Vec<Value>, ModelError> {
    let mut blocks = all_content(place, content)?;
    blocks.retain(is_said_block);
    Ok(blocks)
}

/// White space too.
fn all_content(place: usize, content: &Value) -> Result<Vec<Value>, ModelError> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(vec![json!({"type": "text", "text": text})]),
        Value::Array(parts) => {
            let mut blocks = Vec::with_capacity(parts.len());
            for (index, part) in parts.iter().enumerate() {
                blocks.push(block(part, || format!("messages[{place}].content[{index}]"))?);
            }
            Ok(blocks)
        }
        other => {
            let at = format!("messages[{place}].content");
            Err(invalid(
                at.clone(),
                format!("`{at}` is {}; it must be a text or a list of parts", shown(other)),
            ))
        }
    }
}

fn block(part: &Value, at: impl Fn() -> String) -> Result<Value, ModelError> {
    let mut block = match part["type"].as_str().unwrap_or_default() {
        "text" | "input_text" | "output_text" => {
            json!({"type": "text", "text": part["text"].as_str().unwrap_or_default()})
        }
        "refusal" => json!({"type": "text", "text": part["refusal"].as_str().unwrap_or_default()}),
        "image_url" => {
            let url = part["image_url"]["url"].as_str().or_else(|| part["image_url"].as_str());
            json!({"type": "image", "source": source(url, &at)?})
        }
        "file" => {
            let mut block =
                json!({"type": "document", "source": source(part["file"]["file_data"].as_str(), &at)?});
            if let Some(name) = part["file"]["filename"].as_str() {
                block["title"] = Value::from(name);
            }
            block
        }
        OWN => return Ok(part["block"].clone()),
        other => {
            let text = format!(
                "`{}.type` is \"{other}\", which Anthropic's models do not take; give text, image_url or file",
                at()
            );
            return Err(invalid(format!("{}.type", at()), text));
        }
    };
    for field in SAME_IN_PARTS {
        if let Some(value) = part.get(field).filter(|value| !value.is_null()) {
            block[field] = value.clone();
        }
    }
    Ok(block)
}

/// A `data:` URL's bytes, or where they are.
fn source(url: Option<&str>, at: impl Fn() -> String) -> Result<Value, ModelError> {
    let Some(url) = url else {
        return Err(invalid(at(), format!("`{}` has no URL; give an https or a data URL", at())));
    };
    let Some(inline) = url.strip_prefix("data:") else { return Ok(json!({"type": "url", "url": url})) };
    match inline.split_once(";base64,") {
        Some((media_type, data)) => {
            let media_type = media_type.split(';').next().unwrap_or_default();
            Ok(json!({"type": "base64", "media_type": media_type, "data": data}))
        }
        None => Err(invalid(at(), format!("`{}` is a data URL that is not in base64", at()))),
    }
}

/// What the model said before, in the order in which it said it.
fn said(place: usize, message: &Value) -> Result<Vec<Value>, ModelError> {
    let mut calls = Vec::new();
    for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        let Ok(input @ Value::Object(_)) = serde_json::from_str(arguments) else {
            let at = format!("messages[{place}].tool_calls[{index}].function.arguments");
            return Err(invalid(
                at.clone(),
                format!("`{at}` is not the JSON of an object, which Anthropic wants"),
            ));
        };
        let mut block = json!({"type": "tool_use", "id": call_id(call["id"].as_str().unwrap_or_default()), "name": call["function"]["name"], "input": input});
        if let Some(cache) = call.get("cache_control").filter(|cache| !cache.is_null()) {
            block["cache_control"] = cache.clone();
        }
        calls.push(block);
    }
    let kept = kept::blocks(&message["reasoning_details"]);
    let mut blocks = kept::weave(kept, all_content(place, &message["content"])?, calls);
    blocks.retain(is_said_block);
    Ok(blocks)
}

/// Of letters, digits, `_` and `-` alone, as Anthropic wants it; others have dots and colons.
fn call_id(id: &str) -> String {
    let fits = |letter: &char| letter.is_ascii_alphanumeric() || "_-".contains(*letter);
    id.chars().map(|letter| if fits(&letter) { letter } else { '_' }).collect()
}

fn result(place: usize, message: &Value) -> Result<Value, ModelError> {
    let id = message["tool_call_id"].as_str().or_else(|| message["name"].as_str());
    let Some(id) = id else {
        let at = format!("messages[{place}].tool_call_id");
        return Err(invalid(
            at.clone(),
            format!("`{at}` is missing; give the id of the call that it answers"),
        ));
    };
    let mut block = json!({"type": "tool_result", "tool_use_id": call_id(id)});
    let content = content(place, &message["content"])?;
    if !content.is_empty() {
        block["content"] = Value::Array(content);
    }
    for field in ["is_error", "cache_control"] {
        if let Some(value) = message.get(field).filter(|value| !value.is_null()) {
            block[field] = value.clone();
        }
    }
    Ok(block)
}

fn put_tools(request: &mut Map<String, Value>, body: &Map<String, Value>) -> Result<(), ModelError> {
    let mut tools = Vec::new();
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        let Some(function) = tool.get("function") else {
            // One of Anthropic's own.
            tools.push(tool.clone());
            continue;
        };
        let schema = match &function["parameters"] {
            Value::Object(schema) if !schema.is_empty() => Value::Object(schema.clone()),
            _ => json!({"type": "object", "properties": {}}),
        };
        let mut made = json!({"name": function["name"], "input_schema": schema});
        for (field, value) in [
            ("description", &function["description"]),
            ("strict", &function["strict"]),
            ("cache_control", &tool["cache_control"]),
        ] {
            if !value.is_null() {
                made[field] = value.clone();
            }
        }
        tools.push(made);
    }
    if tools.is_empty() {
        return Ok(());
    }
    request.insert("tools".to_owned(), Value::Array(tools));
    let choice = body.get("tool_choice").unwrap_or(&Value::Null);
    let mut choice = match choice {
        Value::Null => json!({"type": "auto"}),
        Value::String(word) if word == "required" => json!({"type": "any"}),
        Value::String(word) if word == "auto" || word == "none" => json!({"type": word}),
        Value::Object(one) if one.contains_key("function") => {
            json!({"type": "tool", "name": one["function"]["name"]})
        }
        other => {
            let text = format!(
                "`tool_choice` is {}; give \"auto\", \"none\", \"required\" or a function",
                shown(other)
            );
            return Err(invalid("tool_choice", text));
        }
    };
    if body.get("parallel_tool_calls") == Some(&Value::Bool(false)) && choice["type"] != "none" {
        choice["disable_parallel_tool_use"] = Value::Bool(true);
    }
    request.insert("tool_choice".to_owned(), choice);
    Ok(())
}

/// `response_format`; as it came, where a client of Anthropic's sent it.
fn put_form(
    request: &mut Map<String, Value>,
    system: &mut Vec<Value>,
    body: &Map<String, Value>,
    is_anthropics: bool,
) {
    let form = body.get("response_format").unwrap_or(&Value::Null);
    match form["type"].as_str().unwrap_or_default() {
        "json_schema" if form["json_schema"]["schema"].is_object() => {
            let mut format = json!({"type": "json_schema", "schema": form["json_schema"]["schema"]});
            if !is_anthropics {
                schema::close(&mut format["schema"]);
            }
            config(request).insert("format".to_owned(), format);
        }
        "json_object" => system.push(json!({"type": "text", "text": JSON_ALONE})),
        _ => {}
    }
}

pub(super) fn config(request: &mut Map<String, Value>) -> &mut Map<String, Value> {
    let config = request.entry("output_config").or_insert_with(|| json!({}));
    if !config.is_object() {
        *config = json!({});
    }
    match config {
        Value::Object(config) => config,
        _ => unreachable!("it was made an object"),
    }
}
