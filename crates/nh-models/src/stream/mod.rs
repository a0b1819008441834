//! Chat answers that come as a stream.
//!
//! [`Shaper`] decides, frame by frame and without I/O, what the client gets: it
//! passes on what needs no change, mends what OpenAI's SDKs would stumble over,
//! and keeps usage and errors apart. [`Relay`] moves the bytes.

mod chunk;
mod form;
mod gather;
mod keeping;
mod relay;
mod shaper;
mod whole;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use nh_types::ApiError;
use nh_types::model::Usage;
use serde_json::{Map, Value};

use crate::call::Call;
use crate::catalogue::Model;
use crate::models::Inner;
use crate::provider::{Operation, Provider, To};
use crate::{Caller, Completion, ModelError, chat};

pub use gather::Listener;
pub(crate) use gather::gather;
pub(crate) use keeping::keeping;
pub(crate) use relay::{KEEP_ALIVE, SSE_LIMITS};
pub(crate) use shaper::{Header, Shaper};
pub(crate) use whole::stream_of;

/// The data of the last frame of a stream that is whole.
const DONE: &str = "[DONE]";

/// A chat answer as complete server-sent-event frames, ready to be written to
/// the client as they are. It ends with `data: [DONE]`; when the provider fails
/// in mid-stream it ends with an error frame and without `[DONE]`. Dropping it
/// stops the provider, and what was used until then is still accounted for.
pub struct ChatStream {
    frames: BoxStream<'static, Bytes>,
    end: StreamEnd,
}

/// How a stream ended, once it did: what it used, or why it failed.
#[derive(Clone, Default)]
pub(crate) struct StreamEnd(Arc<OnceLock<Result<Usage, ModelError>>>);

impl StreamEnd {
    pub(crate) fn known(usage: Usage) -> Self {
        Self(Arc::new(OnceLock::from(Ok(usage))))
    }

    /// The first word counts.
    fn tell(&self, how: Result<Usage, ModelError>) {
        let _is_told_already = self.0.set(how);
    }
}

impl std::fmt::Debug for ChatStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatStream").finish_non_exhaustive()
    }
}

impl Stream for ChatStream {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        self.frames.as_mut().poll_next(context)
    }
}

impl ChatStream {
    pub(crate) fn new(frames: impl Stream<Item = Bytes> + Send + 'static, end: StreamEnd) -> Self {
        Self { frames: Box::pin(frames), end }
    }

    fn ending(&self) -> Option<Result<Usage, ModelError>> {
        self.end.0.get().cloned()
    }
}

/// The last frame of a stream that failed.
pub(crate) fn error_frame(error: ModelError) -> Bytes {
    let body = serde_json::to_string(&ApiError::from(error).body(None)).unwrap_or_default();
    Bytes::from(format!("data: {body}\n\n"))
}

/// Whether the client asked for the usage chunk.
pub(crate) fn wants_usage(body: &Map<String, Value>) -> bool {
    body.get("stream_options").and_then(|options| options.get("include_usage")) == Some(&Value::Bool(true))
}

/// Asks a provider. Its first bytes are awaited, so that what fails before them
/// is a plain error with a status of its own.
pub(crate) async fn ask(
    hub: &Inner,
    provider: Arc<Provider>,
    model: &Model,
    retries: u32,
    caller: &Caller,
    call: Call,
    body: Map<String, Value>,
) -> Result<ChatStream, ModelError> {
    match open(hub, provider, model, retries, caller, &call, body).await {
        Ok(Opened::Stream(relay)) => relay.start(call).await,
        Ok(Opened::Whole { completion, wants_usage }) => {
            let answer = Ok(completion);
            call.end(&answer);
            answer.map(|completion| whole::stream_of(completion, wants_usage))
        }
        Err(error) => {
            call.fail(&error);
            Err(error)
        }
    }
}

/// What a provider answers with.
enum Opened {
    Stream(Box<relay::Relay>),
    Whole { completion: Completion, wants_usage: bool },
}

async fn open(
    hub: &Inner,
    provider: Arc<Provider>,
    model: &Model,
    retries: u32,
    caller: &Caller,
    call: &Call,
    mut body: Map<String, Value>,
) -> Result<Opened, ModelError> {
    let meter = chat::begin(hub, &provider, model, caller, call, &mut body).await?;
    let header = Header {
        id: chat::completion_id(&hub.ids),
        created: hub.clock.now().as_millis() / 1_000,
        model: model.view.id.clone(),
        wants_usage: wants_usage(&body),
        mends_tool_turns: provider.mends_tool_turns(),
    };
    body.insert("model".to_owned(), Value::from(model.upstream_id.clone()));
    let to = To { provider: &provider, model, retries };
    let (meter, asked) = chat::open(to, Operation::ChatStream, body, meter).await?;
    if whole::is_whole(&asked.response.headers) {
        let wants_usage = header.wants_usage;
        let completion = chat::take_whole(hub, &provider, model, asked, meter).await?;
        return Ok(Opened::Whole { completion, wants_usage });
    }
    let shaper = Shaper::new(header, hub.ids.clone());
    Ok(Opened::Stream(Box::new(relay::Relay::new(provider, asked, shaper, meter))))
}
