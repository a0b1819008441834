use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, StatusCode, Uri};
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, Sleep};

use crate::error::{HttpError, Phase};
use crate::limits::Limits;
use crate::pool::Lease;
use crate::unpack::Unpacker;

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// Where the answer came from, after redirects.
    pub final_url: Uri,
    pub body: Body,
}

impl Response {
    /// The whole body, at most `max_body_bytes`.
    pub fn bytes(self) -> impl Future<Output = Result<Bytes, HttpError>> + Send {
        self.body.bytes()
    }

    /// The whole body as UTF-8; what is not UTF-8 becomes U+FFFD.
    pub async fn text(self) -> Result<String, HttpError> {
        let bytes = self.bytes().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The same, with what the server packed with gzip unpacked. `max_body_bytes` then
    /// holds for both.
    pub fn unpacked(mut self) -> Self {
        let max_body_bytes = self.body.limits.max_body_bytes;
        self.body.unpacker = Unpacker::of(&mut self.headers, max_body_bytes).map(Box::new);
        self
    }

    /// A header as text, when it is there and visible ASCII.
    pub fn header(&self, name: impl http::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A body as a stream of pieces, under the caps of [`Limits`]. Dropping it
/// closes the connection, which tells the server to stop.
#[derive(Debug)]
pub struct Body {
    /// None once the body ended, well or badly.
    incoming: Option<(Incoming, Lease)>,
    host: String,
    read_bytes: u64,
    limits: Limits,
    deadline: Instant,
    next_piece_by: Instant,
    unpacker: Option<Box<Unpacker>>,
    /// Made only when the body is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Body {
    pub(crate) fn new(
        incoming: Incoming,
        lease: Lease,
        host: String,
        limits: Limits,
        deadline: Instant,
    ) -> Self {
        let next_piece_by = deadline.min(Instant::now() + Duration::from_millis(limits.between_bytes_ms));
        // A caller need not read what is empty for the connection to be used again.
        let incoming = if incoming.is_end_stream() {
            lease.end();
            None
        } else {
            Some((incoming, lease))
        };
        Self { incoming, host, read_bytes: 0, limits, deadline, next_piece_by, unpacker: None, timer: None }
    }

    /// All that is left of it.
    pub async fn bytes(mut self) -> Result<Bytes, HttpError> {
        let Some(first) = self.next().await.transpose()? else {
            return Ok(Bytes::new());
        };
        let Some(second) = self.next().await.transpose()? else {
            return Ok(first);
        };
        let mut whole = BytesMut::from(first);
        whole.extend_from_slice(&second);
        while let Some(piece) = self.next().await.transpose()? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }

    fn fail(&mut self, error: HttpError) -> Poll<Option<Result<Bytes, HttpError>>> {
        self.incoming = None;
        Poll::Ready(Some(Err(error)))
    }

    fn take_piece(&mut self, piece: Bytes) -> Poll<Option<Result<Bytes, HttpError>>> {
        self.read_bytes = self.read_bytes.saturating_add(piece.len() as u64);
        if self.read_bytes > self.limits.max_body_bytes {
            let max_body_bytes = self.limits.max_body_bytes;
            return self.fail(HttpError::TooLarge { host: self.host.clone(), max_body_bytes });
        }
        let now = Instant::now();
        if now >= self.deadline {
            return self.time_out();
        }
        self.next_piece_by = self.deadline.min(now + Duration::from_millis(self.limits.between_bytes_ms));
        let Some(unpacker) = &mut self.unpacker else { return Poll::Ready(Some(Ok(piece))) };
        match unpacker.piece(&piece) {
            Ok(piece) => Poll::Ready(Some(Ok(piece))),
            Err(error) => self.fail_unpacking(&error),
        }
    }

    fn fail_unpacking(&mut self, error: &std::io::Error) -> Poll<Option<Result<Bytes, HttpError>>> {
        let host = self.host.clone();
        self.fail(if error.kind() == std::io::ErrorKind::FileTooLarge {
            HttpError::TooLarge { host, max_body_bytes: self.limits.max_body_bytes }
        } else {
            HttpError::Broken {
                host,
                message: format!("what it packed with gzip cannot be unpacked: {error}"),
            }
        })
    }

    /// Of a body that has ended: what the unpacker still has.
    fn take_rest(&mut self) -> Poll<Option<Result<Bytes, HttpError>>> {
        let Some(mut unpacker) = self.unpacker.take() else { return Poll::Ready(None) };
        match unpacker.end() {
            Ok(rest) if rest.is_empty() => Poll::Ready(None),
            Ok(rest) => Poll::Ready(Some(Ok(rest))),
            Err(error) => self.fail_unpacking(&error),
        }
    }

    fn time_out(&mut self) -> Poll<Option<Result<Bytes, HttpError>>> {
        let (phase, after_ms) = if Instant::now() >= self.deadline {
            (Phase::Total, self.limits.total_ms)
        } else {
            (Phase::BetweenBytes, self.limits.between_bytes_ms)
        };
        self.fail(HttpError::TimedOut { host: self.host.clone(), phase, after_ms })
    }

    /// Ready when the next piece is overdue. The timer is set anew when it fires, not with each
    /// piece.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let by = self.next_piece_by;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(by)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= by {
                return Poll::Ready(());
            }
            timer.as_mut().reset(by);
        }
    }
}

impl Stream for Body {
    type Item = Result<Bytes, HttpError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let Some((incoming, lease)) = &mut this.incoming else {
                return Poll::Ready(None);
            };
            match lease.connection().poll_body(cx, |cx| Pin::new(&mut *incoming).poll_frame(cx)) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(piece) if !piece.is_empty() => match this.take_piece(piece) {
                        Poll::Ready(Some(Ok(nothing_yet))) if nothing_yet.is_empty() => {}
                        taken => return taken,
                    },
                    _nothing_or_trailers => {}
                },
                Poll::Ready(Some(Err(error))) => {
                    let host = this.host.clone();
                    return this.fail(HttpError::Broken { host, message: crate::error::chain(&error) });
                }
                Poll::Ready(None) => {
                    if let Some((_, lease)) = this.incoming.take() {
                        lease.end();
                    }
                    return this.take_rest();
                }
                Poll::Pending => {
                    ready!(this.poll_overdue(cx));
                    return this.time_out();
                }
            }
        }
    }
}
