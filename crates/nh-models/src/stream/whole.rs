//! A whole answer to a request for a stream: some imitators of OpenAI's
//! protocol know no other.

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use super::{ChatStream, StreamEnd};
use crate::Completion;

pub(super) fn is_whole(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.trim_start().to_ascii_lowercase().starts_with("application/json")
}

/// The answer as a stream of one delta.
pub(crate) fn stream_of(completion: Completion, wants_usage: bool) -> ChatStream {
    let Completion { mut body, usage } = completion;
    let choices = match body.remove("choices") {
        Some(Value::Array(choices)) => choices,
        _ => Vec::new(),
    };
    let counted = body.remove("usage");
    body.insert("object".to_owned(), Value::from("chat.completion.chunk"));
    let (mut deltas, mut ends) = (Vec::new(), Vec::new());
    for mut choice in choices.into_iter().filter(Value::is_object) {
        let index = choice["index"].take();
        let mut delta = choice["message"].take();
        let calls = delta.get_mut("tool_calls").and_then(Value::as_array_mut);
        let calls = calls.into_iter().flatten().filter_map(Value::as_object_mut);
        for (index, call) in calls.enumerate() {
            call.insert("index".to_owned(), Value::from(index));
        }
        deltas.push(json!({"index": index, "delta": delta, "finish_reason": null}));
        ends.push(json!({"index": index, "delta": {}, "finish_reason": choice["finish_reason"].take()}));
    }
    let mut frames = vec![frame(&body, deltas, None), frame(&body, ends, None)];
    if wants_usage {
        frames.push(frame(&body, Vec::new(), counted));
    }
    frames.push(Bytes::from_static(b"data: [DONE]\n\n"));
    ChatStream::new(stream::iter(frames), StreamEnd::known(usage))
}

fn frame(head: &Map<String, Value>, choices: Vec<Value>, usage: Option<Value>) -> Bytes {
    let mut chunk = head.clone();
    chunk.insert("choices".to_owned(), Value::Array(choices));
    if let Some(usage) = usage {
        chunk.insert("usage".to_owned(), usage);
    }
    Bytes::from(format!("data: {}\n\n", Value::Object(chunk)))
}
