//! Following things as they happen: a run's journal, a model's words.

use std::pin::Pin;

use anyhow::anyhow;
use futures_util::{Stream, StreamExt};
use http::{Method, header};
use nh_http::HttpError;
use nh_http::sse::{Frame, SseLimits, frames};
use nh_types::RunId;
use nh_types::run::JournalEvent;
use serde_json::Value;

use super::{Client, segment};
use crate::exit::Failure;

/// The kinds of a run's last event.
const LAST_KINDS: [&str; 3] = ["run.succeeded", "run.failed", "run.cancelled"];

/// How often a stream that was cut is taken up again without a new event.
const MAX_RETRIES: u32 = 5;

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, HttpError>> + Send>>;

/// A run's journal, event by event, across cut connections.
pub struct Follow<'a> {
    client: &'a Client,
    run_id: RunId,
    last_seq: i64,
    frames: Option<Frames>,
    retries: u32,
    is_over: bool,
}

impl<'a> Follow<'a> {
    pub fn new(client: &'a Client, run_id: RunId) -> Self {
        Self { client, run_id, last_seq: 0, frames: None, retries: 0, is_over: false }
    }

    /// The next event; none once the run is done.
    pub async fn next(&mut self) -> Result<Option<JournalEvent>, Failure> {
        while !self.is_over {
            let mut frames = match self.frames.take() {
                Some(frames) => frames,
                None => self.connect().await?,
            };
            match frames.next().await {
                Some(Ok(frame)) => {
                    self.frames = Some(frames);
                    if let Ok(event) = serde_json::from_str::<JournalEvent>(&frame.data) {
                        self.last_seq = self.last_seq.max(event.seq);
                        self.retries = 0;
                        self.is_over = LAST_KINDS.contains(&event.kind.as_str());
                        return Ok(Some(event));
                    }
                }
                Some(Err(error)) if self.retries >= MAX_RETRIES => {
                    return Err(anyhow::Error::new(error).into());
                }
                None if self.retries >= MAX_RETRIES => {
                    return Err(anyhow!("the hub keeps ending the stream").into());
                }
                // Cut, or ended by a hub that stops.
                Some(Err(_)) | None => self.retries += 1,
            }
        }
        Ok(None)
    }

    async fn connect(&self) -> Result<Frames, Failure> {
        let path = format!("/v1/run/{}/events", segment(&self.run_id.to_string()));
        let last = self.last_seq.to_string();
        let mut headers = vec![(header::ACCEPT, "text/event-stream")];
        if self.last_seq > 0 {
            headers.push((header::HeaderName::from_static("last-event-id"), last.as_str()));
        }
        let response = self.client.send(Method::GET, &path, None, &headers).await?;
        Ok(Box::pin(frames(response.body, SseLimits::default())))
    }
}

impl Client {
    /// The frames of a streamed answer to a POST.
    pub async fn stream(&self, path: &str, body: &Value) -> Result<Frames, Failure> {
        let response = self.send(Method::POST, path, Some(body.into()), &[]).await?;
        Ok(Box::pin(frames(response.body, SseLimits::default())))
    }
}
