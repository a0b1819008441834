//! A streamed answer that is kept when it is whole.

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use nh_http::sse::Decoder;
use nh_types::model::Usage;
use serde_json::{Value, json};

use super::gather::{Answer, Listener};
use super::relay::SSE_LIMITS;
use super::{ChatStream, DONE};
use crate::Completion;
use crate::cache::{MAX_ANSWER_BYTES, Question};

/// A stream of more than this is not gathered: its frames wrap few letters each, and an answer
/// that long is not kept.
const MAX_STREAM_BYTES: usize = 64 * MAX_ANSWER_BYTES;

struct Keeping {
    frames: ChatStream,
    decoder: Decoder,
    /// Of the stream, so far.
    bytes: usize,
    /// None once it is kept, or is too long for that.
    answer: Option<Answer>,
    question: Question,
}

/// The same frames. Who has the last one can ask again for what is kept.
pub(crate) fn keeping(frames: ChatStream, question: Question) -> ChatStream {
    let end = frames.end.clone();
    let (decoder, answer) = (Decoder::new(SSE_LIMITS), Some(Answer::default()));
    let keeping = Keeping { frames, decoder, bytes: 0, answer, question };
    let frames = stream::unfold(keeping, |mut keeping| async move {
        let bytes = keeping.frames.next().await?;
        keeping.read(&bytes).await;
        Some((bytes, keeping))
    });
    ChatStream::new(frames, end)
}

impl Keeping {
    async fn read(&mut self, bytes: &Bytes) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.bytes > MAX_STREAM_BYTES {
            self.answer = None;
        }
        if self.answer.is_none() {
            return;
        }
        self.decoder.push(bytes);
        while let Ok(Some(frame)) = self.decoder.next_frame() {
            if frame.data == DONE {
                return self.keep().await;
            }
            if let (Some(answer), Ok(chunk)) = (&mut self.answer, serde_json::from_str(&frame.data)) {
                answer.add(chunk, &Listener { is_heard: false, tell: &|_| {} });
            }
        }
    }

    async fn keep(&mut self) {
        let (Some(answer), Some(Ok(usage))) = (self.answer.take(), self.frames.ending()) else { return };
        let mut body = answer.into_body();
        body.entry("usage").or_insert_with(|| told(&usage));
        self.question.keep(&Completion { body, usage }).await;
    }
}

/// OpenAI's, where the client did not ask for it.
fn told(usage: &Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    })
}
