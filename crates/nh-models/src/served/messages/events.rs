//! OpenAI's stream as Anthropic's
//! (<https://docs.anthropic.com/en/docs/build-with-claude/streaming>).

mod blocks;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use nh_http::sse::Decoder;
use serde_json::{Value, json};

use super::answer::{End, Thought, extra, head, readable, text_of, usage};
use super::errors;
use crate::ChatStream;
use crate::provider::PAUSE;
use crate::stream::SSE_LIMITS;
use blocks::{Blocks, Kind};

/// What [`Models::chat_stream`](crate::Models::chat_stream) answers, as `POST /v1/messages` has
/// it.
pub fn events(frames: ChatStream) -> impl Stream<Item = Bytes> + Send + 'static {
    let events = stream::unfold(Some((frames, Events::default())), |following| async move {
        let (mut frames, mut events) = following?;
        match frames.next().await {
            Some(bytes) => Some((events.push(&bytes), Some((frames, events)))),
            None => Some((events.finish(), None)),
        }
    });
    events.filter(|bytes| std::future::ready(!bytes.is_empty()))
}

/// Follows one stream.
pub struct Events {
    decoder: Decoder,
    has_begun: bool,
    is_over: bool,
    blocks: Blocks,
    finish_reason: String,
    is_pause: bool,
    stop_sequence: Option<String>,
    is_refusal: bool,
    usage: Value,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            decoder: Decoder::new(SSE_LIMITS),
            has_begun: false,
            is_over: false,
            blocks: Blocks::default(),
            finish_reason: String::new(),
            is_pause: false,
            stop_sequence: None,
            is_refusal: false,
            usage: Value::Null,
        }
    }
}

impl Events {
    /// Takes a piece of the hub's own stream.
    pub fn push(&mut self, bytes: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        self.decoder.push(bytes);
        let mut is_alive_only = !bytes.is_empty();
        // What the hub writes itself stays within the bounds that it reads by.
        while let Ok(Some(frame)) = self.decoder.next_frame() {
            is_alive_only = false;
            self.frame(&frame.data, &mut out);
        }
        if is_alive_only && bytes.ends_with(b"\n\n") && !self.is_over {
            match self.has_begun {
                true => write(&mut out, &json!({"type": "ping"})),
                // Nothing comes before the message's start.
                false => out.extend_from_slice(b": keep-alive\n\n"),
            }
        }
        out.freeze()
    }

    /// The end of the bytes. A stream that did not end as it should is told to have failed.
    pub fn finish(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        if !std::mem::replace(&mut self.is_over, true) {
            write(&mut out, &errors::of_stream(&json!({"message": "the answer was cut off"})));
        }
        out.freeze()
    }

    fn frame(&mut self, data: &str, out: &mut BytesMut) {
        if self.is_over {
            return;
        }
        if data == "[DONE]" {
            return self.end(out);
        }
        let Ok(chunk) = serde_json::from_str::<Value>(data) else { return };
        if chunk["error"].is_object() {
            self.is_over = true;
            return write(out, &errors::of_stream(&chunk["error"]));
        }
        self.begin(&chunk, out);
        if chunk["usage"].is_object() {
            self.usage = chunk["usage"].clone();
        }
        let choices = chunk["choices"].as_array().into_iter().flatten();
        for choice in choices.filter(|choice| choice["index"].as_u64().unwrap_or(0) == 0) {
            self.delta(&choice["delta"]);
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.finish_reason = reason.to_owned();
            }
            self.is_pause |= choice["native_finish_reason"] == PAUSE;
            if let Some(words) = choice["stop_reason"].as_str() {
                self.stop_sequence = Some(words.to_owned());
            }
        }
        self.blocks.write(false, out);
    }

    fn begin(&mut self, chunk: &Value, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.has_begun, true) {
            write(out, &json!({"type": "message_start", "message": head(chunk)}));
        }
    }

    fn delta(&mut self, delta: &Value) {
        let mut is_signed = false;
        for detail in delta["reasoning_details"].as_array().into_iter().flatten() {
            match Thought::of(detail) {
                Some(Thought::Signed { text, signature, index }) => {
                    is_signed = true;
                    self.blocks.think(index, text, signature);
                }
                Some(Thought::Hidden(data)) => self.blocks.add(Kind::Redacted { data }),
                Some(Thought::Block { index, block, input }) => self.blocks.take(index, block, input),
                None => {}
            }
        }
        if let Some(text) = readable(delta).filter(|_| !is_signed) {
            self.blocks.think(None, text, "");
        }
        self.blocks.say(&text_of(&delta["content"]));
        if let Some(refusal) = delta["refusal"].as_str().filter(|refusal| !refusal.is_empty()) {
            self.is_refusal = true;
            self.blocks.say(refusal);
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            if let Some(data) = extra(call) {
                self.blocks.add(Kind::Redacted { data });
            }
            self.blocks.call(call);
        }
    }

    fn end(&mut self, out: &mut BytesMut) {
        self.begin(&Value::Null, out);
        self.blocks.write(true, out);
        let end = End {
            finish_reason: &self.finish_reason,
            is_pause: self.is_pause,
            stop_sequence: self.stop_sequence.as_deref(),
            has_calls: self.blocks.has_calls(),
            is_refusal: self.is_refusal,
        };
        let mut delta = json!({});
        end.put(&mut delta);
        write(out, &json!({"type": "message_delta", "delta": delta, "usage": usage(&self.usage)}));
        write(out, &json!({"type": "message_stop"}));
        self.is_over = true;
    }
}

/// An event is named by its type.
fn write(out: &mut BytesMut, event: &Value) {
    let name = event["type"].as_str().unwrap_or_default();
    out.extend_from_slice(format!("event: {name}\ndata: {event}\n\n").as_bytes());
}
