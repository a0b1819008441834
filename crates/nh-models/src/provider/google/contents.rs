//! OpenAI's messages as Gemini's contents (<https://ai.google.dev/api/caching#Content>).

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{invalid, signature};
use crate::ModelError;
use crate::chat::shown;

/// Where a file may be, if it does not come along.
const SCHEMES: [&str; 3] = ["https://", "http://", "gs://"];
/// For a call that another provider's model made, and that Gemini would refuse without a
/// signature (<https://ai.google.dev/gemini-api/docs/thought-signatures#faqs>).
const NOT_SIGNED: &str = "skip_thought_signature_validator";

/// What the system says, and the contents: no two of one role after another.
pub(super) fn write(
    messages: &[Value],
    wants_signatures: bool,
) -> Result<(Vec<Value>, Vec<Value>), ModelError> {
    let (mut system, mut turns): (Vec<Value>, Vec<(&str, Vec<Value>)>) = (Vec::new(), Vec::new());
    // By the ids of the calls, the functions' names.
    let mut called = HashMap::new();
    for (place, message) in messages.iter().enumerate() {
        let at = format!("messages[{place}]");
        let (role, parts) = match message["role"].as_str().unwrap_or_default() {
            "system" | "developer" => {
                system.extend(content(&at, &message["content"])?);
                continue;
            }
            "assistant" => {
                let calls = message["tool_calls"].as_array().into_iter().flatten();
                called.extend(
                    calls.filter_map(|call| Some((call["id"].as_str()?, call["function"]["name"].as_str()?))),
                );
                ("model", said(&at, message, wants_signatures)?)
            }
            "tool" | "function" => ("user", result(&at, message, &called)?),
            "user" => ("user", content(&at, &message["content"])?),
            other => {
                let given = shown(&Value::from(other));
                let text = format!(
                    "`{at}.role` is {given}; it must be one of system, developer, user, assistant, tool"
                );
                return Err(invalid(format!("{at}.role"), text));
            }
        };
        match turns.last_mut() {
            Some((last, so_far)) if *last == role => so_far.extend(parts),
            _ => turns.push((role, parts)),
        }
    }
    turns.retain(|(_, parts)| !parts.is_empty());
    if turns.is_empty() {
        // OpenAI answers what the system says alone, and Gemini refuses a list without contents.
        turns.push(("user", std::mem::take(&mut system)));
    }
    if turns[0].1.is_empty() {
        let text = "`messages` have no words and nothing else; give one that says something";
        return Err(invalid("messages", text.to_owned()));
    }
    let contents = turns.into_iter().map(|(role, parts)| json!({"role": role, "parts": parts})).collect();
    Ok((system, contents))
}

fn content(at: &str, content: &Value) -> Result<Vec<Value>, ModelError> {
    match content {
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(said_text(text).into_iter().collect()),
        Value::Array(items) => parts(&format!("{at}.content"), items),
        other => {
            let message = format!("`{at}.content` is {}; it must be a text or a list of parts", shown(other));
            Err(invalid(format!("{at}.content"), message))
        }
    }
}

fn parts(at: &str, items: &[Value]) -> Result<Vec<Value>, ModelError> {
    let mut parts = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        parts.extend(part(&format!("{at}[{index}]"), item)?);
    }
    Ok(parts)
}

/// Nothing for an empty text.
fn said_text(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!({"text": text}))
}

fn part(at: &str, part: &Value) -> Result<Option<Value>, ModelError> {
    match part["type"].as_str().unwrap_or_default() {
        "text" | "input_text" | "output_text" => Ok(said_text(part["text"].as_str().unwrap_or_default())),
        "refusal" => Ok(said_text(part["refusal"].as_str().unwrap_or_default())),
        "image_url" => {
            let url = part["image_url"]["url"].as_str().or_else(|| part["image_url"].as_str());
            media(&format!("{at}.image_url.url"), url).map(Some)
        }
        "file" => media(&format!("{at}.file.file_data"), part["file"]["file_data"].as_str()).map(Some),
        "input_audio" => {
            let audio = &part["input_audio"];
            let (Some(data), Some(format)) = (audio["data"].as_str(), audio["format"].as_str()) else {
                let at = format!("{at}.input_audio");
                let message = format!("`{at}` must have `data` in base64 and a `format` such as \"wav\"");
                return Err(invalid(at, message));
            };
            Ok(Some(inline(&format!("audio/{format}"), data)))
        }
        _ => {
            let at = format!("{at}.type");
            let given = shown(&part["type"]);
            let message = format!(
                "`{at}` is {given}, which Gemini's models do not take; give text, image_url, input_audio or file"
            );
            Err(invalid(at, message))
        }
    }
}

fn inline(media_type: &str, data: &str) -> Value {
    json!({"inlineData": {"mimeType": media_type, "data": data}})
}

/// A `data:` URL's bytes, or where they are.
fn media(at: &str, url: Option<&str>) -> Result<Value, ModelError> {
    let url = url.unwrap_or_default();
    if let Some((media_type, data)) = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        return Ok(inline(media_type.split(';').next().unwrap_or_default(), data));
    }
    if SCHEMES.iter().any(|scheme| url.starts_with(scheme)) {
        return Ok(json!({"fileData": {"fileUri": url}}));
    }
    let begin: String = url.chars().take(60).collect();
    let message = format!(
        "`{at}` is {}; give a data URL in base64 (data:image/png;base64,…), or an https or gs URL",
        shown(&Value::from(begin))
    );
    Err(invalid(at, message))
}

/// What the model said before.
fn said(at: &str, message: &Value, wants_signatures: bool) -> Result<Vec<Value>, ModelError> {
    let mut said = content(at, &message["content"])?;
    if let Some(images) = message["images"].as_array() {
        said.extend(parts(&format!("{at}.images"), images)?);
    }
    if let Some(signature) = signature(message) {
        if said.is_empty() {
            said.push(json!({"text": ""}));
        }
        if let Some(last) = said.last_mut() {
            last["thoughtSignature"] = Value::from(signature);
        }
    }
    for (index, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
        let arguments = call["function"]["arguments"].as_str().unwrap_or_default();
        let arguments = if arguments.trim().is_empty() { "{}" } else { arguments };
        let Ok(args @ Value::Object(_)) = serde_json::from_str(arguments) else {
            let at = format!("{at}.tool_calls[{index}].function.arguments");
            let begin: String = arguments.chars().take(60).collect();
            let given = shown(&Value::from(begin));
            let message = format!("`{at}` is {given}; Gemini wants the JSON of an object");
            return Err(invalid(at, message));
        };
        let mut made = json!({"name": call["function"]["name"], "args": args});
        if let Some(id) = call["id"].as_str().filter(|id| !id.is_empty()) {
            made["id"] = Value::from(id);
        }
        let mut part = json!({"functionCall": made});
        // Of calls that were made together the first alone is signed.
        let not_signed = (wants_signatures && index == 0).then_some(NOT_SIGNED);
        if let Some(signature) = signature(call).or(not_signed) {
            part["thoughtSignature"] = Value::from(signature);
        }
        said.push(part);
    }
    Ok(said)
}

/// What a tool gave: an object, and media behind it.
fn result(at: &str, message: &Value, called: &HashMap<&str, &str>) -> Result<Vec<Value>, ModelError> {
    let id = message["tool_call_id"].as_str().unwrap_or_default();
    let Some(name) = called.get(id).copied().or_else(|| message["name"].as_str()) else {
        let at = format!("{at}.tool_call_id");
        let given = shown(&message["tool_call_id"]);
        let message = format!("`{at}` is {given}, which no call before it has; give the id of the call");
        return Err(invalid(at, message));
    };
    let (texts, media): (Vec<Value>, Vec<Value>) =
        content(at, &message["content"])?.into_iter().partition(|part| part["text"].is_string());
    let text: String = texts.iter().filter_map(|part| part["text"].as_str()).collect();
    let has_failed = message["is_error"] == true;
    let response = match serde_json::from_str(&text) {
        Ok(object @ Value::Object(_)) => object,
        _ if has_failed => json!({"error": text}),
        _ => json!({"result": text}),
    };
    let mut made = json!({"name": name, "response": response});
    if !id.is_empty() {
        made["id"] = Value::from(id);
    }
    Ok(std::iter::once(json!({"functionResponse": made})).chain(media).collect())
}
