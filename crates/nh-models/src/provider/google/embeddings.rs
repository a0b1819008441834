//! Embeddings (<https://ai.google.dev/api/embeddings#method:-models.batchembedcontents>).

use serde_json::{Map, Value, json};

use super::answer::count;
use super::invalid;
use crate::ModelError;
use crate::chat::shown;

/// One request for each text.
pub(super) fn write(model: &str, body: &Map<String, Value>) -> Result<Map<String, Value>, ModelError> {
    let input = body.get("input").unwrap_or(&Value::Null);
    let (texts, is_list) = match input {
        Value::Array(texts) => (texts.as_slice(), true),
        one => (std::slice::from_ref(one), false),
    };
    let dimensions = body.get("dimensions").filter(|dimensions| !dimensions.is_null());
    let mut requests = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let Some(text) = text.as_str() else {
            let at = if is_list { format!("input[{index}]") } else { "input".to_owned() };
            let message = format!("`{at}` is {}; Gemini takes texts, not tokens: give the text", shown(text));
            return Err(invalid(at, message));
        };
        let mut request = json!({"model": model, "content": {"parts": [{"text": text}]}});
        if let Some(dimensions) = dimensions {
            request["outputDimensionality"] = dimensions.clone();
        }
        requests.push(request);
    }
    Ok(Map::from_iter([("requests".to_owned(), Value::Array(requests))]))
}

/// As OpenAI's list.
pub(super) fn read(answer: &Map<String, Value>) -> Map<String, Value> {
    let embeddings = answer.get("embeddings").and_then(Value::as_array).into_iter().flatten();
    let data = embeddings.enumerate().map(
        |(index, embedding)| json!({"object": "embedding", "index": index, "embedding": embedding["values"]}),
    );
    let mut list = Map::from_iter([
        ("object".to_owned(), Value::from("list")),
        ("data".to_owned(), data.collect::<Vec<_>>().into()),
    ]);
    let used = answer.get("usageMetadata").and_then(|used| count(used, "promptTokenCount"));
    if let Some(tokens) = used {
        list.insert("usage".to_owned(), json!({"prompt_tokens": tokens, "total_tokens": tokens}));
    }
    list
}
