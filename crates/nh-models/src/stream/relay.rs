//! Moves a provider's stream to the client.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use nh_http::sse::{Decoder, SseLimits};
use nh_http::{Body, HttpError};
use nh_types::JsonSize;
use tokio::time::Sleep;

use super::shaper::{Fault, Shaper};
use super::{ChatStream, StreamEnd, error_frame};
use crate::ModelError;
use crate::call::Call;
use crate::chat::MAX_VALUES;
use crate::provider::{Asked, Events, Leave, Provider};
use crate::usage::Meter;

/// One line may be a megabyte (a tool's arguments, an image), not more than
/// this.
pub(crate) const SSE_LIMITS: SseLimits = SseLimits { max_line_bytes: 8_000_000, max_event_bytes: 8_000_000 };
/// How long the connection may take to end after `[DONE]`, to be used again.
const LINGER_MS: u64 = 1_000;
/// What the client gets when the provider says nothing but that it is alive.
pub(crate) const KEEP_ALIVE: &[u8] = b": keep-alive\n\n";

pub(super) struct Relay {
    provider: Arc<Provider>,
    body: Body,
    decoder: Decoder,
    /// Of a protocol that is not OpenAI's.
    events: Option<Events>,
    shaper: Shaper,
    /// None once the stream is over for the client.
    meter: Option<Meter>,
    call: Option<Call>,
    has_failed: bool,
    /// What was read before the stream began.
    first: Option<Bytes>,
    /// Until when the end of the body is waited for, once the client has all.
    linger: Option<Pin<Box<Sleep>>>,
    end: StreamEnd,
    /// None once its end said what it says of the provider.
    leave: Option<Leave>,
}

impl Stream for Relay {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        if self.meter.is_none() {
            if !self.has_failed {
                ready!(self.poll_linger(context));
            }
            return Poll::Ready(None);
        }
        let read = ready!(self.poll_read(context));
        Poll::Ready(Some(read.unwrap_or_else(|(before, error)| self.fail(before, error))))
    }
}

impl Relay {
    pub(super) fn new(provider: Arc<Provider>, asked: Asked, shaper: Shaper, meter: Meter) -> Self {
        Self {
            events: provider.events(),
            provider,
            body: asked.response.body,
            leave: Some(asked.leave),
            decoder: Decoder::new(SSE_LIMITS),
            shaper,
            meter: Some(meter),
            call: None,
            has_failed: false,
            first: None,
            linger: None,
            end: StreamEnd::default(),
        }
    }

    /// Waits for the first bytes; an error in them is not yet part of a stream.
    pub(super) async fn start(mut self: Box<Self>, call: Call) -> Result<ChatStream, ModelError> {
        let first = poll_fn(|context| self.poll_read(context)).await;
        if let Err((_, error)) = &first {
            self.judge(Some(error));
        }
        match &first {
            Err((before, error)) if before.is_empty() => call.fail(error),
            _ => {
                call.first_chunk();
                self.call = Some(call);
            }
        }
        self.first = Some(match first {
            Ok(first) => first,
            Err((before, error)) if before.is_empty() => {
                if let Some(meter) = self.meter.take() {
                    if matches!(error, ModelError::TimedOut { .. }) { drop(meter) } else { meter.refused() }
                }
                return Err(error);
            }
            Err((before, error)) => self.fail(before, error),
        });
        let end = self.end.clone();
        Ok(ChatStream::new(self, end))
    }

    /// Reads until there is something for the client. An error comes with what
    /// was to be sent before it.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes, (BytesMut, ModelError)>> {
        loop {
            let mut out = BytesMut::new();
            let piece = match ready!(self.body.poll_next_unpin(context)) {
                Some(Ok(piece)) => piece,
                Some(Err(error)) => return Poll::Ready(Err((out, self.cut(&error)))),
                None => return Poll::Ready(self.take_rest(out)),
            };
            self.decoder.push(&piece);
            match self.take_frames(&mut out) {
                Ok(true) => return Poll::Ready(self.end(true, out)),
                Ok(false) => {}
                Err(error) => return Poll::Ready(Err((out, error))),
            }
            if out.is_empty() && piece.contains(&b'\n') {
                out.extend_from_slice(KEEP_ALIVE);
            }
            if !out.is_empty() {
                return Poll::Ready(Ok(out.freeze()));
            }
        }
    }

    /// The body has ended. A last frame may lack its empty line.
    fn take_rest(&mut self, mut out: BytesMut) -> Result<Bytes, (BytesMut, ModelError)> {
        self.decoder.push(b"\n\n");
        match self.take_frames(&mut out) {
            Ok(done) => self.end(done, out),
            Err(error) => Err((out, error)),
        }
    }

    /// Whether `[DONE]` came.
    fn take_frames(&mut self, out: &mut BytesMut) -> Result<bool, ModelError> {
        loop {
            let frame = self.decoder.next_frame().map_err(|error| self.provider.failed(error.to_string()))?;
            let Some(frame) = frame else { return Ok(false) };
            let most = JsonSize { values: MAX_VALUES, depth: usize::MAX };
            if frame.data.len() > MAX_VALUES && !most.holds(frame.data.as_bytes()) {
                let message = format!("a frame of its stream has more than {MAX_VALUES} values");
                return Err(self.provider.failed(message));
            }
            let Some(events) = &mut self.events else {
                if self.take_frame(&frame.data, out)? {
                    return Ok(true);
                }
                continue;
            };
            for data in events.frames(&frame.data) {
                if self.take_frame(&data, out)? {
                    return Ok(true);
                }
            }
        }
    }

    fn take_frame(&mut self, data: &str, out: &mut BytesMut) -> Result<bool, ModelError> {
        let told = self.shaper.frame(data, out).map_err(|fault| self.explain(fault))?;
        if let Some(meter) = &mut self.meter {
            meter.add_output_bytes(told.output_bytes);
            if let Some(reported) = told.usage.as_ref().and_then(|usage| self.provider.reported(usage)) {
                meter.report(reported);
                // Some tell a count that grows from the beginning on.
                if self.shaper.has_finished() {
                    meter.is_whole();
                }
            }
        }
        Ok(told.done)
    }

    /// The provider has said all.
    fn end(&mut self, was_done: bool, mut out: BytesMut) -> Result<Bytes, (BytesMut, ModelError)> {
        let known = self.meter.as_ref().map(|meter| meter.usage().0).unwrap_or_default();
        match self.shaper.finish(was_done, &known, &mut out) {
            Ok(()) => {
                self.settle();
                Ok(out.freeze())
            }
            Err(fault) => Err((out, self.explain(fault))),
        }
    }

    /// The stream's last bytes: what came before the error, and the error.
    fn fail(&mut self, mut before: BytesMut, error: ModelError) -> Bytes {
        tracing::warn!(provider = self.provider.name(), %error, "a provider's stream failed");
        self.has_failed = true;
        self.judge(Some(&error));
        self.end.tell(Err(error.clone()));
        if let Some(call) = self.call.take() {
            call.fail(&error);
        }
        drop(self.meter.take());
        before.extend_from_slice(&error_frame(error));
        before.freeze()
    }

    fn settle(&mut self) {
        let Some(usage) = self.meter.take().map(Meter::settle) else { return };
        self.judge(None);
        self.end.tell(Ok(usage));
        if let Some(call) = self.call.take() {
            call.succeed(&usage);
        }
    }

    /// Reads the end of the body, which lets the connection be used again.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while let Poll::Ready(more) = self.body.poll_next_unpin(context) {
            let Some(Ok(_)) = more else { return Poll::Ready(()) };
        }
        let too_slow = || Box::pin(tokio::time::sleep(Duration::from_millis(LINGER_MS)));
        self.linger.get_or_insert_with(too_slow).as_mut().poll(context)
    }

    fn judge(&mut self, error: Option<&ModelError>) {
        if let Some(leave) = self.leave.take() {
            self.provider.ended(leave, error);
        }
    }

    fn cut(&self, error: &HttpError) -> ModelError {
        self.provider.broken(error)
    }

    fn explain(&self, fault: Fault) -> ModelError {
        match fault {
            Fault::Told(error) => self.provider.error_in_answer(&error),
            Fault::Broken(message) => self.provider.failed(message),
        }
    }
}
