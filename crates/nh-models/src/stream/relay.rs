//! Moves a provider's stream to the client.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use nh_http::sse::{Decoder, SseLimits};
use nh_http::{Body, HttpError};
use nh_types::JsonSize;

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
    end: StreamEnd,
    /// None once its end said what it says of the provider.
    leave: Option<Leave>,
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
            end: StreamEnd::default(),
        }
    }

    /// Waits for the first bytes; an error in them is not yet part of a stream.
    pub(super) async fn start(mut self, call: Call) -> Result<ChatStream, ModelError> {
        let first = self.read().await;
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
        let first = match first {
            Ok(first) => first,
            Err((before, error)) if before.is_empty() => {
                if let Some(meter) = self.meter.take() {
                    if matches!(error, ModelError::TimedOut { .. }) { drop(meter) } else { meter.refused() }
                }
                return Err(error);
            }
            Err((before, error)) => self.fail(before, error),
        };
        let end = self.end.clone();
        let rest = stream::unfold(self, |mut relay| async move {
            let bytes = relay.step().await?;
            Some((bytes, relay))
        });
        Ok(ChatStream::new(stream::once(async move { first }).chain(rest), end))
    }

    /// The next bytes for the client; None at the end.
    async fn step(&mut self) -> Option<Bytes> {
        if self.meter.is_none() {
            if !self.has_failed {
                self.linger().await;
            }
            return None;
        }
        match self.read().await {
            Ok(bytes) => Some(bytes),
            Err((before, error)) => Some(self.fail(before, error)),
        }
    }

    /// Reads until there is something for the client. An error comes with what
    /// was to be sent before it.
    async fn read(&mut self) -> Result<Bytes, (BytesMut, ModelError)> {
        let mut out = BytesMut::new();
        loop {
            match self.body.next().await {
                Some(Ok(bytes)) => {
                    self.decoder.push(&bytes);
                    if self.take_frames(&mut out).map_err(|error| (std::mem::take(&mut out), error))? {
                        return self.end(true, out);
                    }
                    if out.is_empty() && bytes.contains(&b'\n') {
                        out.extend_from_slice(KEEP_ALIVE);
                    }
                    if !out.is_empty() {
                        return Ok(out.freeze());
                    }
                }
                Some(Err(error)) => return Err((out, self.cut(&error))),
                None => {
                    // A last frame may lack its empty line.
                    self.decoder.push(b"\n\n");
                    let done =
                        self.take_frames(&mut out).map_err(|error| (std::mem::take(&mut out), error))?;
                    return self.end(done, out);
                }
            }
        }
    }

    /// Whether `[DONE]` came.
    fn take_frames(&mut self, out: &mut BytesMut) -> Result<bool, ModelError> {
        loop {
            let frame = self.decoder.next_frame().map_err(|error| self.provider.failed(error.to_string()))?;
            let Some(frame) = frame else { return Ok(false) };
            if frame.data.len() > MAX_VALUES && JsonSize::of(frame.data.as_bytes()).values > MAX_VALUES {
                let message = format!("a frame of its stream has more than {MAX_VALUES} values");
                return Err(self.provider.failed(message));
            }
            let frames = match &mut self.events {
                None => vec![frame.data],
                Some(events) => events.frames(&frame.data),
            };
            for data in frames {
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
    async fn linger(&mut self) {
        let rest = async { while let Some(Ok(_)) = self.body.next().await {} };
        let _too_slow = tokio::time::timeout(Duration::from_millis(LINGER_MS), rest).await;
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
