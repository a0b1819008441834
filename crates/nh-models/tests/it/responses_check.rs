//! Asking for responses, and what every stream of their events must be.

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::StreamExt;
use nh_models::ModelError;
use nh_models::served::responses::{self, Request};
use nh_testkit::SeededIds;
use nh_testkit::upstream::Reply;
use nh_types::{SharedIds, Timestamp};
use serde_json::{Value, json};

use crate::harness::{Hub, caller, object};

pub(crate) fn ids() -> SharedIds {
    Arc::new(SeededIds::new(3))
}

impl Hub {
    pub(crate) async fn respond(&self, body: Value) -> Result<Value, ModelError> {
        let Request { chat, asked, is_streamed, places } = responses::read(&object(body))?;
        assert!(!is_streamed);
        let completion = self.models.chat(&caller(), Cow::Owned(chat)).await;
        let completion = completion.map_err(|error| places.told(error))?;
        Ok(Value::Object(asked.answer(&ids(), &completion.body)))
    }

    /// The events of a stream, which are checked to be well formed.
    pub(crate) async fn respond_streamed(&self, mut body: Value) -> Result<Vec<Value>, ModelError> {
        body["stream"] = json!(true);
        let Request { chat, asked, .. } = responses::read(&object(body))?;
        let chat = self.models.chat_stream(&caller(), chat).await?;
        let bytes: Vec<u8> =
            asked.stream(&ids(), Timestamp::from_millis(5_000), chat).map(|one| one.to_vec()).concat().await;
        let text = String::from_utf8(bytes).expect("UTF-8");
        let frames = text.split_terminator("\n\n").filter(|frame| !frame.starts_with(':'));
        let events: Vec<Value> = frames.map(event).collect();
        check(&events);
        Ok(events)
    }
}

pub(crate) fn last(events: &[Value]) -> &Value {
    &events[events.len() - 1]["response"]
}

pub(crate) fn ask(input: Value) -> Value {
    json!({"model": "priced", "input": input})
}

pub(crate) fn says(message: Value, finish_reason: &str) -> Reply {
    let choice = json!({"index": 0, "message": message, "finish_reason": finish_reason});
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14,
        "prompt_tokens_details": {"cached_tokens": 6}, "completion_tokens_details": {"reasoning_tokens": 3}});
    Reply::json(
        200,
        &json!({"id": "c", "object": "chat.completion", "created": 9, "model": "priced-1",
        "choices": [choice], "usage": usage}),
    )
}

fn event(frame: &str) -> Value {
    let (kind, data) = frame.split_once('\n').expect("two lines");
    let event: Value = serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
    assert_eq!(kind.strip_prefix("event: "), event["type"].as_str());
    event
}

/// What every stream must be, as an SDK puts it together.
fn check(events: &[Value]) {
    let place = |event: &Value, field: &str| event[field].as_u64().expect(field) as usize;
    let mut items: Vec<Value> = Vec::new();
    let mut is_done: Vec<bool> = Vec::new();
    assert_eq!(
        (&events[0]["type"], &events[1]["type"]),
        (&json!("response.created"), &json!("response.in_progress"))
    );
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
        let kind = event["type"].as_str().expect("a type").trim_start_matches("response.");
        if let Some(response) = event.get("response") {
            let is_begin = matches!(kind, "created" | "in_progress");
            assert_eq!(is_begin, number < 2, "{kind}");
            assert_eq!(response["status"], if is_begin { "in_progress" } else { kind });
            assert_eq!(response["id"], events[0]["response"]["id"]);
            continue;
        }
        assert!(number > 1 && number < events.len() - 1, "{kind} at {number}");
        let at = place(event, "output_index");
        if kind == "output_item.added" {
            assert_eq!(at, items.len());
            items.push(event["item"].clone());
            is_done.push(false);
            continue;
        }
        let item = &mut items[at];
        assert!(!is_done[at], "{kind} after the end");
        if kind == "output_item.done" {
            is_done[at] = true;
            assert_eq!(item["id"], event["item"]["id"]);
            for field in ["content", "arguments", "call_id", "name", "summary"] {
                assert_eq!(item[field], event["item"][field], "{field}");
            }
            *item = event["item"].clone();
            continue;
        }
        assert_eq!(event["item_id"], item["id"]);
        grow(item, kind, event);
    }
    let last = &events[events.len() - 1];
    if last["type"] != "response.failed" {
        assert!(is_done.iter().all(|done| *done));
        assert_eq!(last["response"]["output"], Value::Array(items));
    }
}

fn grow(item: &mut Value, kind: &str, event: &Value) {
    let index = event["content_index"].as_u64().or(event["summary_index"].as_u64()).unwrap_or(0) as usize;
    let list = if item["type"] == "reasoning" { "summary" } else { "content" };
    let (field, told) = match kind {
        "content_part.added" | "reasoning_summary_part.added" => {
            let parts = item[list].as_array_mut().expect("parts");
            assert_eq!(parts.len(), index);
            parts.push(event["part"].clone());
            return;
        }
        "content_part.done" | "reasoning_summary_part.done" => {
            assert_eq!(item[list][index], event["part"]);
            return;
        }
        "function_call_arguments.delta" | "function_call_arguments.done" => {
            (&mut item["arguments"], "arguments")
        }
        "refusal.delta" | "refusal.done" => (&mut item[list][index]["refusal"], "refusal"),
        "output_text.delta" => {
            let logprobs = event["logprobs"].as_array().expect("logprobs").clone();
            item[list][index]["logprobs"].as_array_mut().expect("a list").extend(logprobs);
            (&mut item[list][index]["text"], "text")
        }
        _ => (&mut item[list][index]["text"], "text"),
    };
    match event.get("delta") {
        Some(delta) => {
            let whole = field.as_str().expect("so far").to_owned() + delta.as_str().expect("a text");
            *field = Value::from(whole);
        }
        None => assert_eq!(*field, event[told], "{kind}"),
    }
}
