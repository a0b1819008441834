//! Decoding of `text/event-stream` as the HTML standard says ("Server-sent
//! events", "Interpreting an event stream"), with bounds.

use std::collections::VecDeque;

use futures_util::{Stream, StreamExt, stream};
use memchr::{memchr, memchr2};

use crate::body::Body;
use crate::error::HttpError;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// None is the standard's default, `message`.
    pub event: Option<String>,
    /// The `data` lines, joined by `\n`.
    pub data: String,
    /// The last event id that the stream told, in this frame or before it.
    pub id: Option<String>,
}

/// What a stream may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseLimits {
    pub max_line_bytes: usize,
    /// Of the data of one event.
    pub max_event_bytes: usize,
}

impl Default for SseLimits {
    fn default() -> Self {
        Self { max_line_bytes: 4_000_000, max_event_bytes: 8_000_000 }
    }
}

/// The stream went over a bound.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SseError {
    #[error("a line of the event stream is longer than {max_line_bytes} bytes")]
    LineTooLong { max_line_bytes: usize },
    #[error("an event of the stream is larger than {max_event_bytes} bytes")]
    EventTooLarge { max_event_bytes: usize },
}

/// Takes bytes in pieces of any size; gives whole events.
///
/// ```
/// let mut decoder = nh_http::sse::Decoder::default();
/// decoder.push(b"data: one\n\nda");
/// decoder.push(b"ta: two\n\n");
/// while let Some(frame) = decoder.next_frame()? {
///     println!("{}", frame.data);
/// }
/// # Ok::<(), nh_http::sse::SseError>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    limits: SseLimits,
    /// A line whose end has not come yet.
    line: Vec<u8>,
    /// The last byte was CR: a LF that follows belongs to it.
    after_cr: bool,
    /// The first line may begin with a byte order mark.
    past_first_line: bool,
    event: Option<String>,
    data: String,
    has_data: bool,
    id: Option<String>,
    ready: VecDeque<Frame>,
    failed: Option<SseError>,
}

impl Decoder {
    pub fn new(limits: SseLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// After an error the rest of the stream is ignored.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while self.failed.is_none() && !bytes.is_empty() {
            if std::mem::take(&mut self.after_cr) && bytes[0] == b'\n' {
                bytes = &bytes[1..];
                continue;
            }
            match memchr2(b'\n', b'\r', bytes) {
                Some(end) => {
                    self.after_cr = bytes[end] == b'\r';
                    self.take_line(&bytes[..end]);
                    bytes = &bytes[end + 1..];
                }
                None => {
                    self.extend_line(bytes);
                    bytes = &[];
                }
            }
        }
    }

    /// The next whole event; None when more bytes are needed. Events before
    /// an error come before it; the error then stays.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, SseError> {
        match (self.ready.pop_front(), self.failed) {
            (Some(frame), _) => Ok(Some(frame)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    fn extend_line(&mut self, bytes: &[u8]) {
        let max_line_bytes = self.limits.max_line_bytes;
        if self.line.len() + bytes.len() > max_line_bytes {
            self.failed = Some(SseError::LineTooLong { max_line_bytes });
        } else {
            self.line.extend_from_slice(bytes);
        }
    }

    /// A line of which `rest` has come last.
    fn take_line(&mut self, rest: &[u8]) {
        if self.line.is_empty() && rest.len() <= self.limits.max_line_bytes {
            return self.read_line(rest);
        }
        self.extend_line(rest);
        if self.failed.is_some() {
            return;
        }
        let mut line = std::mem::take(&mut self.line);
        self.read_line(&line);
        line.clear();
        self.line = line; // keeps its memory for the next line
    }

    fn read_line(&mut self, line: &[u8]) {
        let mut text = line;
        if !std::mem::replace(&mut self.past_first_line, true) {
            text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        }
        match memchr(b':', text) {
            _ if text.is_empty() => self.dispatch(),
            Some(0) => {} // a comment
            Some(colon) => {
                let value = &text[colon + 1..];
                self.field(&text[..colon], value.strip_prefix(b" ").unwrap_or(value));
            }
            None => self.field(text, b""),
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        match name {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                match std::str::from_utf8(value) {
                    Ok(text) => self.data.push_str(text),
                    Err(_) => self.data.push_str(&String::from_utf8_lossy(value)),
                }
                let max_event_bytes = self.limits.max_event_bytes;
                if self.data.len() > max_event_bytes {
                    self.failed = Some(SseError::EventTooLarge { max_event_bytes });
                }
            }
            b"event" => self.event = Some(String::from_utf8_lossy(value).into_owned()),
            b"id" if !value.contains(&0) => self.id = Some(String::from_utf8_lossy(value).into_owned()),
            _unknown_or_retry => {}
        }
    }

    fn dispatch(&mut self) {
        let event = self.event.take().filter(|event| !event.is_empty());
        let data = std::mem::take(&mut self.data);
        if std::mem::take(&mut self.has_data) {
            self.ready.push_back(Frame { event, data, id: self.id.clone() });
        }
    }
}

/// The events of a body, until it ends or the first error.
pub fn frames(body: Body, limits: SseLimits) -> impl Stream<Item = Result<Frame, HttpError>> + Send {
    stream::unfold(Some((body, Decoder::new(limits))), |state| async move {
        let (mut body, mut decoder) = state?;
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => return Some((Ok(frame), Some((body, decoder)))),
                Ok(None) => {}
                Err(error) => return Some((Err(error.into()), None)),
            }
            match body.next().await? {
                Ok(bytes) => decoder.push(&bytes),
                Err(error) => return Some((Err(error), None)),
            }
        }
    })
}
