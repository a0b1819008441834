use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_guest::protocol::{
    Answer, CHUNK, Failure, FailureKind, Frame, Prepare, Request, VERSION, decode, encode,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::GuestError;
use super::queue::Queue;
use super::stream::{Patience, Stream};

/// A guest that can be spoken with. Clones share its channel.
#[derive(Clone)]
pub struct Guest {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    /// Bounded by what streams may have on their way ([`nh_guest::protocol::WINDOW`]).
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    streams: Mutex<Streams>,
    /// The channel is to end.
    closed: CancellationToken,
}

#[derive(Default)]
struct Streams {
    last: u32,
    open: HashMap<u32, Arc<Queue>>,
    ended: Option<GuestError>,
}

impl Guest {
    /// Speaks on these until either ends, or [`Guest::close`].
    pub fn connect(
        read: impl AsyncRead + Send + Unpin + 'static,
        write: impl AsyncWrite + Send + Unpin + 'static,
        tasks: &TaskTracker,
    ) -> Self {
        let (outgoing, to_send) = mpsc::unbounded_channel();
        let shared =
            Arc::new(Shared { outgoing, streams: Mutex::default(), closed: CancellationToken::new() });
        let (reading, closed) = (shared.clone(), shared.closed.clone());
        tasks.spawn(async move {
            let error = tokio::select! {
                error = reading.read(read) => error,
                () = reading.closed.cancelled() => GuestError::Gone,
            };
            reading.end(error);
        });
        tasks.spawn(async move {
            tokio::select! {
                () = send(to_send, write) => closed.cancel(),
                () = closed.cancelled() => {}
            }
        });
        Self { shared }
    }

    /// Says who and what it is for, and waits until it is ready.
    pub async fn prepare(&self, prepare: Prepare) -> Result<(), GuestError> {
        match self.open(Request::Prepare(prepare))?.answer().await? {
            Answer::Ready { version: VERSION } => Ok(()),
            _ => {
                self.close();
                Err(GuestError::Broken("it is of another version"))
            }
        }
    }

    /// Begins something.
    pub fn open(&self, request: Request) -> Result<Stream, GuestError> {
        let max_output = match &request {
            Request::Execute(execute) => execute.max_output,
            Request::Run(run) => run.max_output,
            _ => 0,
        };
        let patience = Patience::of(&request);
        let queue = Arc::new(Queue::new(max_output));
        let number = {
            let mut streams = self.shared.streams();
            if let Some(error) = &streams.ended {
                return Err(error.clone());
            }
            streams.last = streams.last.checked_add(1).ok_or(GuestError::Gone)?;
            let number = streams.last;
            streams.open.insert(number, queue.clone());
            number
        };
        let stream = Stream::new(number, patience, queue, self.shared.clone());
        self.shared.send(number, &Frame::Request(request))?;
        Ok(stream)
    }

    /// Ends the channel: the guest ends with it, and with that its sandbox.
    pub fn close(&self) {
        self.shared.closed.cancel();
    }

    pub fn is_closed(&self) -> bool {
        self.shared.closed.is_cancelled()
    }

    /// Whether it ended because the guest broke its protocol.
    pub fn is_broken(&self) -> bool {
        matches!(self.shared.streams().ended, Some(GuestError::Broken(_)))
    }

    /// Until the channel ended, from whichever side.
    pub async fn closed(&self) {
        self.shared.closed.cancelled().await;
    }
}

impl Shared {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, stream: u32, frame: &Frame) -> Result<(), GuestError> {
        let mut bytes = Vec::new();
        encode(stream, frame, &mut bytes).map_err(|error| {
            GuestError::Failed(Failure { kind: FailureKind::Invalid, message: error.to_string() })
        })?;
        self.outgoing.send(bytes).map_err(|_| GuestError::Gone)
    }

    pub(super) fn forget(&self, stream: u32) {
        self.streams().open.remove(&stream);
    }

    async fn read(&self, mut input: impl AsyncRead + Unpin) -> GuestError {
        let mut bytes = Vec::with_capacity(2 * CHUNK);
        loop {
            match input.read_buf(&mut bytes).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return GuestError::Gone,
            }
            let mut taken = 0;
            loop {
                match decode(&bytes[taken..]) {
                    Ok(Some((stream, frame, length))) => {
                        taken += length;
                        if let Err(error) = self.put(stream, frame) {
                            return error;
                        }
                    }
                    Ok(None) => break,
                    Err(_) => return GuestError::Broken("bytes that are no frame"),
                }
            }
            bytes.drain(..taken);
        }
    }

    fn put(&self, stream: u32, frame: Frame) -> Result<(), GuestError> {
        let queue = {
            let mut streams = self.streams();
            if stream == 0 || stream > streams.last {
                return Err(GuestError::Broken("a stream that was not opened"));
            }
            match frame {
                Frame::Answer(_) => streams.open.remove(&stream),
                _ => streams.open.get(&stream).cloned(),
            }
        };
        // Nobody waits for what was given up.
        queue.map_or(Ok(()), |queue| queue.put(frame))
    }

    pub(super) fn end(&self, error: GuestError) {
        let mut streams = self.streams();
        streams.ended.get_or_insert(error.clone());
        let open = std::mem::take(&mut streams.open);
        drop(streams);
        open.into_values().for_each(|queue| queue.end(error.clone()));
        self.closed.cancel();
    }
}

async fn send(mut to_send: mpsc::UnboundedReceiver<Vec<u8>>, mut output: impl AsyncWrite + Unpin) {
    while let Some(bytes) = to_send.recv().await {
        if output.write_all(&bytes).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}
