//! The planner's reply in the chat protocol, whole and as a stream.

use bytes::Bytes;
use futures_util::stream;
use nh_store::usage::UsageKind;
use nh_types::SharedIds;
use nh_types::model::Usage;
use serde_json::{Map, Value, json};

use super::conversation::Conversation;
use super::plan::{PlannedCall, Reply, reply};
use super::{MODEL_ID, PROVIDER};
use crate::bids;
use crate::call::Call;
use crate::catalogue::Price;
use crate::chat::{call_id, completion_id, finish_reason};
use crate::models::Inner;
use crate::stream::{StreamEnd, wants_usage};
use crate::usage::{Meter, Metered, prompt_tokens};
use crate::{Caller, ChatStream, Completion, ModelError};

/// Characters of text in one chunk of a stream.
const CHUNK_CHARS: usize = 48;

pub(crate) async fn chat(
    hub: &Inner,
    caller: &Caller,
    call: &Call,
    body: &Map<String, Value>,
) -> Result<Completion, ModelError> {
    let message = message(hub, body)?;
    let usage = account(hub, caller, call, body, &message).await?;
    let has_calls = message.contains_key("tool_calls");
    let choice = [
        ("index", Value::from(0)),
        ("message", Value::Object(message)),
        ("logprobs", Value::Null),
        ("finish_reason", Value::from(finish_reason(has_calls))),
    ];
    let body = [
        ("id", Value::from(completion_id(&hub.ids))),
        ("object", Value::from("chat.completion")),
        ("created", Value::from(hub.clock.now().as_millis() / 1_000)),
        ("model", Value::from(MODEL_ID)),
        ("choices", Value::Array(vec![Value::from_iter(choice)])),
        ("usage", usage_object(usage.input_tokens, usage.output_tokens)),
    ];
    let body = body.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
    Ok(Completion { body, usage })
}

pub(crate) async fn chat_stream(
    hub: &Inner,
    caller: &Caller,
    call: &Call,
    body: &Map<String, Value>,
) -> Result<(ChatStream, Usage), ModelError> {
    let message = message(hub, body)?;
    let usage = account(hub, caller, call, body, &message).await?;
    let has_calls = message.contains_key("tool_calls");
    let header = json!({
        "id": completion_id(&hub.ids),
        "object": "chat.completion.chunk",
        "created": hub.clock.now().as_millis() / 1_000,
        "model": MODEL_ID,
    });
    let frame = |choices: Value, usage: Option<Value>| {
        let mut chunk = header.clone();
        chunk["choices"] = choices;
        if let Some(usage) = usage {
            chunk["usage"] = usage;
        }
        Bytes::from(format!("data: {chunk}\n\n"))
    };
    let delta = |delta: Value| frame(json!([{"index": 0, "delta": delta, "finish_reason": null}]), None);
    let mut frames: Vec<Bytes> = deltas(&message).into_iter().map(delta).collect();
    frames.push(frame(json!([{"index": 0, "delta": {}, "finish_reason": finish_reason(has_calls)}]), None));
    if wants_usage(body) {
        frames.push(frame(json!([]), Some(usage_object(usage.input_tokens, usage.output_tokens))));
    }
    frames.push(Bytes::from_static(b"data: [DONE]\n\n"));
    Ok((ChatStream::new(stream::iter(frames), StreamEnd::known(usage)), usage))
}

/// The assistant's message.
fn message(hub: &Inner, body: &Map<String, Value>) -> Result<Map<String, Value>, ModelError> {
    let talk = Conversation::read(body, &hub.toolbox)?;
    let mut message = Map::from_iter([("role".to_owned(), Value::from("assistant"))]);
    match reply(&talk) {
        Reply::Text(text) => {
            let text = match talk.json_field {
                Some(field) => Value::from_iter([(field, text)]).to_string(),
                None => text,
            };
            message.insert("content".to_owned(), Value::from(text));
        }
        Reply::Calls(calls) => {
            message.insert("content".to_owned(), Value::Null);
            let calls: Vec<Value> = calls.into_iter().map(|call| call_object(call, &hub.ids)).collect();
            message.insert("tool_calls".to_owned(), Value::Array(calls));
        }
    }
    Ok(message)
}

fn call_object(call: PlannedCall, ids: &SharedIds) -> Value {
    json!({
        "id": call_id(ids),
        "type": "function",
        "function": {"name": call.tool, "arguments": Value::Object(call.arguments).to_string()},
    })
}

/// The pieces of a message as a stream tells them: the role, then the text in
/// pieces, or each call's head and then its arguments.
fn deltas(message: &Map<String, Value>) -> Vec<Value> {
    let calls = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if calls.is_empty() {
        let text = message.get("content").and_then(Value::as_str).unwrap_or_default();
        let letters: Vec<char> = text.chars().collect();
        let pieces =
            letters.chunks(CHUNK_CHARS).map(|piece| json!({"content": piece.iter().collect::<String>()}));
        return std::iter::once(json!({"role": "assistant", "content": ""})).chain(pieces).collect();
    }
    let mut deltas = vec![json!({"role": "assistant", "content": null})];
    for (index, call) in calls.iter().enumerate() {
        let mut head = call.clone();
        let arguments = head["function"]["arguments"].take();
        head["index"] = Value::from(index);
        head["function"]["arguments"] = Value::from("");
        deltas.push(json!({"tool_calls": [head]}));
        deltas.push(json!({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]}));
    }
    deltas
}

fn usage_object(input_tokens: u64, output_tokens: u64) -> Value {
    json!({
        "prompt_tokens": input_tokens,
        "completion_tokens": output_tokens,
        "total_tokens": input_tokens.saturating_add(output_tokens),
    })
}

async fn account(
    hub: &Inner,
    caller: &Caller,
    call: &Call,
    body: &Map<String, Value>,
    message: &Map<String, Value>,
) -> Result<Usage, ModelError> {
    let metered = Metered {
        caller,
        meter: call.meter(),
        provider: PROVIDER,
        model: MODEL_ID,
        kind: UsageKind::Chat,
        price: Some(Price::FREE),
        prompt_tokens: prompt_tokens(body),
    };
    let mut meter = Meter::begin(hub, metered).await?;
    let size: usize = message
        .iter()
        .filter(|(field, _)| *field != "role")
        .map(|(_, value)| value.as_str().map_or_else(|| value.to_string().len(), str::len))
        .sum();
    meter.add_output_bytes(size);
    if let Some(charge) = &caller.charge {
        // It is already written, so its cost is known.
        let (usage, _) = meter.usage();
        bids::reserve_exactly(charge, &mut meter, &usage).await?;
    }
    Ok(meter.settle())
}
