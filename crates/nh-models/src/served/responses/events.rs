//! A streamed answer, as typed events
//! (<https://platform.openai.com/docs/api-reference/responses-streaming>).

use std::future::ready;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use nh_http::sse::Decoder;
use nh_types::{SharedIds, Timestamp};
use serde_json::{Map, Value, json};

use super::Asked;
use super::answer::{finish, learn};
use super::output::Output;
use crate::ChatStream;
use crate::stream::{KEEP_ALIVE, SSE_LIMITS};

impl Asked {
    /// The events that a streamed chat amounts to, as complete server-sent-event frames.
    pub fn stream(
        self,
        ids: &SharedIds,
        now: Timestamp,
        chat: ChatStream,
    ) -> impl Stream<Item = Bytes> + Send + 'static {
        let mut events = Events::new(self, ids, now);
        let begun = events.begin();
        let rest = stream::unfold((chat.fuse(), events), |(mut chat, mut events)| async move {
            let bytes = match chat.next().await {
                Some(bytes) => events.take(&bytes),
                None if events.is_over => return None,
                None => events.cut(),
            };
            Some((bytes, (chat, events)))
        });
        stream::once(ready(begun)).chain(rest.filter(|bytes| ready(!bytes.is_empty())))
    }
}

struct Events {
    response: Map<String, Value>,
    output: Output,
    decoder: Decoder,
    /// Of the next event.
    number: u64,
    usage: Value,
    finish_reason: Option<String>,
    is_over: bool,
}

impl Events {
    fn new(asked: Asked, ids: &SharedIds, now: Timestamp) -> Self {
        Self {
            response: asked.begun(ids, now.as_millis() / 1_000),
            output: Output::new(ids.clone()),
            decoder: Decoder::new(SSE_LIMITS),
            number: 0,
            usage: Value::Null,
            finish_reason: None,
            is_over: false,
        }
    }

    fn begin(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        for kind in ["response.created", "response.in_progress"] {
            self.write_response(kind, &mut out);
        }
        out.freeze()
    }

    /// What the bytes of a chat's stream amount to; nothing once it is over.
    fn take(&mut self, bytes: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        if self.is_over {
            return out.freeze();
        }
        self.decoder.push(bytes);
        // What the hub writes itself stays within the bounds that it reads by.
        while let Ok(Some(frame)) = self.decoder.next_frame() {
            if !self.is_over {
                self.frame(&frame.data, &mut out);
            }
        }
        if out.is_empty() {
            out.put_slice(KEEP_ALIVE);
        }
        out.freeze()
    }

    fn frame(&mut self, data: &str, out: &mut BytesMut) {
        if data == "[DONE]" {
            finish(&mut self.response, &mut self.output, self.finish_reason.as_deref(), &self.usage);
            self.write_events(out);
            let is_whole = self.response.get("status").is_some_and(|status| status == "completed");
            let kind = if is_whole { "response.completed" } else { "response.incomplete" };
            self.write_response(kind, out);
            self.is_over = true;
            return;
        }
        let Ok(Value::Object(mut chunk)) = serde_json::from_str(data) else { return };
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            self.fail(error, out);
            return;
        }
        learn(&mut self.response, &chunk);
        if let Some(usage) = chunk.remove("usage").filter(Value::is_object) {
            self.usage = usage;
        }
        let choices = chunk.get("choices").and_then(Value::as_array).into_iter().flatten();
        for choice in choices.filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0) {
            self.output.add(&choice["delta"], &choice["logprobs"]["content"]);
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.finish_reason = Some(reason.to_owned());
            }
        }
        self.write_events(out);
    }

    fn cut(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        self.fail(&json!({"message": "the stream was cut off"}), &mut out);
        out.freeze()
    }

    /// `code` is one of the two that OpenAI has for it.
    fn fail(&mut self, error: &Value, out: &mut BytesMut) {
        let code = if error["code"] == "rate_limited" { "rate_limit_exceeded" } else { "server_error" };
        self.output.abandon();
        for (field, value) in [
            ("status", Value::from("failed")),
            ("error", json!({"code": code, "message": error["message"]})),
            ("output", self.output.items()),
        ] {
            self.response.insert(field.to_owned(), value);
        }
        self.write_response("response.failed", out);
        self.is_over = true;
    }

    fn write_events(&mut self, out: &mut BytesMut) {
        for event in self.output.take_events() {
            self.write(event, out);
        }
    }

    fn write_response(&mut self, kind: &str, out: &mut BytesMut) {
        self.write(json!({"type": kind, "response": self.response}), out);
    }

    fn write(&mut self, mut event: Value, out: &mut BytesMut) {
        event["sequence_number"] = Value::from(self.number);
        self.number += 1;
        let kind = event["type"].as_str().unwrap_or_default();
        out.put_slice(format!("event: {kind}\ndata: {event}\n\n").as_bytes());
    }
}
