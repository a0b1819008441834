//! OpenAI's requests as Gemini's.

use serde_json::{Map, Value, json};

use super::super::asking::Operation;
use super::{contents, embeddings, invalid, place, thinking};
use crate::ModelError;
use crate::chat::shown;

/// Fields of Gemini's own that a request may have besides OpenAI's, and their names.
const OWN_FIELDS: [(&str, &str); 4] = [
    ("safetySettings", "safetySettings"),
    ("labels", "labels"),
    ("cached_content", "cachedContent"),
    ("cachedContent", "cachedContent"),
];
/// OpenAI's fields that are the same in `generationConfig`, but for their names. Of the limits
/// the newer name wins.
const SAME_FIELDS: [(&str, &str); 9] = [
    ("temperature", "temperature"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("n", "candidateCount"),
    ("seed", "seed"),
    ("presence_penalty", "presencePenalty"),
    ("frequency_penalty", "frequencyPenalty"),
    ("max_tokens", "maxOutputTokens"),
    ("max_completion_tokens", "maxOutputTokens"),
];

/// The path behind the `base_url`, and the body.
pub(in crate::provider) fn write(
    operation: Operation,
    body: &Map<String, Value>,
) -> Result<(String, Map<String, Value>), ModelError> {
    let (name, path) = place(body.get("model").and_then(Value::as_str).unwrap_or_default())?;
    let (method, request) = match operation {
        Operation::Chat => ("generateContent", chat(&name, body)?),
        Operation::ChatStream => ("streamGenerateContent?alt=sse", chat(&name, body)?),
        Operation::Embeddings => ("batchEmbedContents", embeddings::write(&name, body)?),
    };
    Ok((format!("{path}:{method}"), request))
}

fn chat(model: &str, body: &Map<String, Value>) -> Result<Map<String, Value>, ModelError> {
    let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let (system, contents) = contents::write(messages, thinking::wants_signatures(model))?;
    let mut request = Map::from_iter([("contents".to_owned(), Value::Array(contents))]);
    if !system.is_empty() {
        request.insert("systemInstruction".to_owned(), json!({"parts": system}));
    }
    put(&mut request, body, &OWN_FIELDS);
    put_tools(&mut request, body)?;
    let config = config(model, body);
    if !config.is_empty() {
        request.insert("generationConfig".to_owned(), Value::Object(config));
    }
    Ok(request)
}

/// Copies what is given from its name there to its name here.
fn put(into: &mut Map<String, Value>, from: &Map<String, Value>, fields: &[(&str, &str)]) {
    for (there, here) in fields {
        if let Some(value) = from.get(*there).filter(|value| !value.is_null()) {
            into.insert((*here).to_owned(), value.clone());
        }
    }
}

/// `generationConfig` (<https://ai.google.dev/api/generate-content#generationconfig>).
fn config(model: &str, body: &Map<String, Value>) -> Map<String, Value> {
    let mut config = Map::new();
    put(&mut config, body, &SAME_FIELDS);
    match body.get("stop") {
        Some(Value::String(stop)) => drop(config.insert("stopSequences".to_owned(), json!([stop]))),
        Some(stops @ Value::Array(_)) => drop(config.insert("stopSequences".to_owned(), stops.clone())),
        _ => {}
    }
    if let Some(modalities) = body.get("modalities").and_then(Value::as_array) {
        let words = modalities.iter().filter_map(Value::as_str).map(|word| Value::from(word.to_uppercase()));
        config.insert("responseModalities".to_owned(), words.collect());
    }
    let form = body.get("response_format").unwrap_or(&Value::Null);
    let word = form["type"].as_str().unwrap_or_default();
    if word == "json_object" || word == "json_schema" {
        config.insert("responseMimeType".to_owned(), Value::from("application/json"));
    }
    let schema = &form["json_schema"]["schema"];
    if word == "json_schema" && !schema.is_null() {
        config.insert("responseJsonSchema".to_owned(), schema.clone());
    }
    config.extend(thinking::config(model, body).map(|thinking| ("thinkingConfig".to_owned(), thinking)));
    config
}

/// Gemini's <https://ai.google.dev/api/caching#Tool>.
fn put_tools(request: &mut Map<String, Value>, body: &Map<String, Value>) -> Result<(), ModelError> {
    let (mut functions, mut tools) = (Vec::new(), Vec::new());
    for tool in body.get("tools").and_then(Value::as_array).into_iter().flatten() {
        let Some(function) = tool.get("function") else {
            // One of Gemini's own, such as `{"googleSearch": {}}`.
            tools.push(tool.clone());
            continue;
        };
        let mut made = json!({"name": function["name"]});
        for (field, value) in
            [("description", &function["description"]), ("parametersJsonSchema", &function["parameters"])]
        {
            if !value.is_null() {
                made[field] = value.clone();
            }
        }
        functions.push(made);
    }
    if !functions.is_empty() {
        tools.push(json!({"functionDeclarations": functions}));
        if let Some(choice) = choice(body.get("tool_choice").unwrap_or(&Value::Null))? {
            request.insert("toolConfig".to_owned(), json!({"functionCallingConfig": choice}));
        }
    }
    if !tools.is_empty() {
        request.insert("tools".to_owned(), Value::Array(tools));
    }
    Ok(())
}

fn choice(choice: &Value) -> Result<Option<Value>, ModelError> {
    Ok(Some(match choice {
        Value::Null => return Ok(None),
        Value::String(word) if word == "auto" => json!({"mode": "AUTO"}),
        Value::String(word) if word == "required" => json!({"mode": "ANY"}),
        Value::String(word) if word == "none" => json!({"mode": "NONE"}),
        Value::Object(one) if one.contains_key("function") => {
            json!({"mode": "ANY", "allowedFunctionNames": [one["function"]["name"]]})
        }
        other => {
            let given = shown(other);
            let message =
                format!("`tool_choice` is {given}; give \"auto\", \"none\", \"required\" or a function");
            return Err(invalid("tool_choice", message));
        }
    }))
}
