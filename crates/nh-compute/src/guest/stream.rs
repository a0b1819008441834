use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nh_guest::protocol::{Answer, Artifact, CHUNK, Execute, Frame, Request, Run};
use tokio::time::{Instant, timeout_at};

use super::GuestError;
use super::channel::Shared;
use super::queue::Queue;

/// Something that was begun in a sandbox. Dropped before its answer it is given up:
/// what runs for it is killed.
pub struct Stream {
    sender: Sender,
    patience: Patience,
    has_ended: bool,
}

/// How long a guest may say nothing. One that takes longer loses its channel.
#[derive(Clone, Copy, Debug)]
pub(super) enum Patience {
    /// Until it has to have answered, time-outs being the guest's to keep.
    Until(Instant),
    /// For each thing that it says.
    Idle,
    /// As long as it likes.
    Endless,
}

/// After a time-out, for the guest to kill what took too long, and to say so.
const GRACE: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);

impl Patience {
    pub(super) fn of(request: &Request) -> Self {
        let until = |timeout_ms| {
            let end = Instant::now().checked_add(Duration::from_millis(timeout_ms))?.checked_add(GRACE)?;
            Some(Self::Until(end))
        };
        match request {
            Request::Execute(Execute { timeout_ms, .. }) | Request::Run(Run { timeout_ms, .. }) => {
                until(*timeout_ms).unwrap_or(Self::Endless)
            }
            // Whoever starts a guest knows how long that may take.
            Request::Connect { .. } | Request::Prepare(_) => Self::Endless,
            _ => Self::Idle,
        }
    }

    fn end(self) -> Option<Instant> {
        match self {
            Self::Until(end) => Some(end),
            Self::Idle => Some(Instant::now() + IDLE),
            Self::Endless => None,
        }
    }
}

/// Sends to what was begun, beside whoever waits for what comes of it.
#[derive(Clone)]
pub struct Sender {
    number: u32,
    queue: Arc<Queue>,
    shared: Arc<Shared>,
}

/// What comes of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Of standard output.
    Out(Bytes),
    /// Of standard error.
    Error(Bytes),
    Artifact(Artifact),
    /// Of a file or a port.
    Data(Bytes),
    /// No more `Data` comes.
    End,
    /// The last.
    Answer(Answer),
}

impl Stream {
    pub(super) fn new(number: u32, patience: Patience, queue: Arc<Queue>, shared: Arc<Shared>) -> Self {
        Self { sender: Sender { number, queue, shared }, patience, has_ended: false }
    }

    /// Waits for what comes next. A failure that the guest tells is an error.
    pub async fn next(&mut self) -> Result<Event, GuestError> {
        if self.has_ended {
            return Err(GuestError::Gone);
        }
        let next = self.sender.queue.next();
        let frame = match self.patience.end() {
            Some(end) => timeout_at(end, next).await.unwrap_or_else(|_| {
                let error = GuestError::Broken("it does not answer");
                self.sender.shared.end(error.clone());
                Err(error)
            }),
            None => next.await,
        };
        self.has_ended = matches!(frame, Err(_) | Ok(Frame::Answer(_)));
        Ok(match frame? {
            Frame::Out(bytes) => Event::Out(bytes.into()),
            Frame::Error(bytes) => Event::Error(bytes.into()),
            Frame::Artifact(json) => {
                let Ok(artifact) = serde_json::from_slice(&json) else {
                    let error = GuestError::Broken("an artifact that is none");
                    self.sender.shared.end(error.clone());
                    return Err(error);
                };
                Event::Artifact(artifact)
            }
            Frame::Data(bytes) => {
                if let Some(granted) = self.sender.queue.taken(&bytes) {
                    // Where the channel ended, the next says why.
                    let _ = self.sender.shared.send(self.sender.number, &Frame::Credit(granted));
                }
                Event::Data(bytes.into())
            }
            Frame::Answer(Answer::Failed(failure)) => return Err(GuestError::Failed(failure)),
            Frame::Answer(answer) => Event::Answer(answer),
            Frame::End | Frame::Credit(_) | Frame::Request(_) | Frame::Cancel => Event::End,
        })
    }

    /// Waits for the answer; what comes before it is passed over.
    pub async fn answer(mut self) -> Result<Answer, GuestError> {
        loop {
            if let Event::Answer(answer) = self.next().await? {
                return Ok(answer);
            }
        }
    }

    pub fn sender(&self) -> &Sender {
        &self.sender
    }
}

impl Sender {
    /// Sends bytes as fast as they are taken; false: no more are wanted.
    pub async fn send(&self, bytes: &[u8]) -> Result<bool, GuestError> {
        let mut left = bytes;
        while !left.is_empty() {
            let wanted = left.len().min(CHUNK) as u32;
            let Some(granted) = self.queue.credit(wanted).await? else { return Ok(false) };
            let (now, rest) = left.split_at(granted as usize);
            self.shared.send(self.number, &Frame::Data(now.to_vec()))?;
            left = rest;
        }
        Ok(true)
    }

    /// No more bytes come.
    pub fn end(&self) -> Result<(), GuestError> {
        self.shared.send(self.number, &Frame::End)
    }

    /// Has it killed; its answer still comes.
    pub fn cancel(&self) -> Result<(), GuestError> {
        self.shared.send(self.number, &Frame::Cancel)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.has_ended {
            self.sender.shared.forget(self.sender.number);
            self.sender.queue.end(GuestError::Gone);
            // Where the channel ended there is nothing left to kill.
            let _ = self.sender.cancel();
        }
    }
}
