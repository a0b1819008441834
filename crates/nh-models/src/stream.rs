//! The streamed answer of a model.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;

/// A chat answer as complete server-sent-event frames, ready to be written to
/// the client as they are. It ends with `data: [DONE]`; when the provider fails
/// in mid-stream it ends with an error frame and without `[DONE]`. Dropping it
/// stops the provider, and what was used until then is still accounted for.
pub struct ChatStream(BoxStream<'static, Bytes>);

impl Stream for ChatStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.0.as_mut().poll_next(context)
    }
}

impl ChatStream {
    pub(crate) fn new(frames: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Box::pin(frames))
    }
}
