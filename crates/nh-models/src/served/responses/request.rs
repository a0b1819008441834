//! A request as OpenAI's chat request
//! (<https://platform.openai.com/docs/api-reference/responses/create>).

use serde_json::{Map, Value, json};

use super::super::Places;
use super::{Asked, input, tools, wrong};
use crate::ModelError;

const SAME_FIELDS: [&str; 8] = [
    "model",
    "models",
    "temperature",
    "top_p",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
];
const LOGPROBS: &str = "message.output_text.logprobs";
/// What needs something kept between requests, and what to do instead.
const STATE: [(&str, &str); 4] = [
    ("previous_response_id", "no responses are kept here: send the earlier items in `input`"),
    ("conversation", "no conversations are kept here: send the earlier items in `input`"),
    ("prompt", "no prompts are kept here: send its text in `instructions` and `input`"),
    ("background", "a response is answered at once: use POST /v1/run for background work"),
];

/// What to ask for, and what to remember for the answer.
pub struct Request {
    /// The body for [`Models::chat`](crate::Models::chat), or for
    /// [`Models::chat_stream`](crate::Models::chat_stream).
    pub chat: Map<String, Value>,
    pub is_streamed: bool,
    pub asked: Asked,
    /// For the error that the chat may end in.
    pub places: Places,
}

/// Reads the body of a `POST /v1/responses`.
pub fn read(body: &Map<String, Value>) -> Result<Request, ModelError> {
    for (field, remedy) in STATE {
        if let Some(given) = body.get(field).filter(|given| !given.is_null() && **given != false) {
            return Err(wrong(field, Some(given), remedy));
        }
    }
    let is_streamed = match body.get("stream") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(stream)) => *stream,
        given => return Err(wrong("stream", given, "it must be true or false")),
    };
    let mut chat = Map::new();
    for field in SAME_FIELDS {
        put(&mut chat, field, body.get(field));
    }
    put(&mut chat, "max_completion_tokens", body.get("max_output_tokens"));
    put(&mut chat, "reasoning_effort", body.get("reasoning").and_then(|reasoning| reasoning.get("effort")));
    put(&mut chat, "verbosity", body.get("text").and_then(|text| text.get("verbosity")));
    put(&mut chat, "response_format", response_format(body)?.as_ref());
    let (messages, places) = input::messages(body)?;
    chat.insert("messages".to_owned(), Value::Array(messages));
    tools::put(&mut chat, body)?;
    put_logprobs(&mut chat, body);
    if is_streamed {
        chat.insert("stream".to_owned(), Value::Bool(true));
        chat.insert("stream_options".to_owned(), json!({"include_usage": true}));
    }
    Ok(Request { chat, is_streamed, asked: Asked::of(body), places })
}

fn put(chat: &mut Map<String, Value>, field: &str, value: Option<&Value>) {
    if let Some(value) = value.filter(|value| !value.is_null()) {
        chat.insert(field.to_owned(), value.clone());
    }
}

/// `text.format`.
fn response_format(body: &Map<String, Value>) -> Result<Option<Value>, ModelError> {
    let Some(format) = body.get("text").and_then(|text| text.get("format")).filter(|one| !one.is_null())
    else {
        return Ok(None);
    };
    match format["type"].as_str().unwrap_or_default() {
        "text" => Ok(None),
        "json_object" => Ok(Some(json!({"type": "json_object"}))),
        "json_schema" => {
            let mut schema = format.as_object().cloned().unwrap_or_default();
            schema.remove("type");
            Ok(Some(json!({"type": "json_schema", "json_schema": schema})))
        }
        _ => {
            let remedy = "it must be one of text, json_object, json_schema";
            Err(wrong("text.format.type", format.get("type"), remedy))
        }
    }
}

fn put_logprobs(chat: &mut Map<String, Value>, body: &Map<String, Value>) {
    let most = body.get("top_logprobs").filter(|most| most.as_u64() != Some(0));
    let included = body.get("include").and_then(Value::as_array).into_iter().flatten();
    if most.is_some_and(|most| !most.is_null()) || included.into_iter().any(|one| one == LOGPROBS) {
        chat.insert("logprobs".to_owned(), Value::Bool(true));
        put(chat, "top_logprobs", most);
    }
}
