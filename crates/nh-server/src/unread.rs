//! Bodies that are answered before they were read. A connection that is closed
//! while its client still sends is reset, and the answer lost with it (RFC 9112,
//! section 9.6), so what comes is read on for a while, and forgotten.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use bytes::Bytes;
use http::header::EXPECT;
use http_body_util::BodyExt;

use crate::app::App;
use hyper::body::{Frame, SizeHint};

const MAX_BYTES: usize = 64 << 20;
const MAX_TIME: Duration = Duration::from_secs(5);

/// What a handler did not read of the request's body, once it has answered.
#[derive(Default)]
pub(crate) struct Unread(Arc<Mutex<Option<Body>>>);

/// A body that comes back when it is dropped before its end.
struct Lent {
    body: Body,
    /// A client that waits for leave to send it sends nothing unless somebody reads.
    is_coming: bool,
    back: Arc<Mutex<Option<Body>>>,
}

impl Unread {
    /// The request with a body that comes back.
    pub(crate) fn lend(request: Request) -> (Request, Self) {
        let unread = Self::default();
        if request.body().is_end_stream() {
            return (request, unread);
        }
        let (back, is_coming) = (unread.0.clone(), !request.headers().contains_key(EXPECT));
        (request.map(|body| Body::new(Lent { body, is_coming, back })), unread)
    }

    /// Reads it on in the background.
    pub(crate) fn discard(self, app: &App) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left else { return };
        let reading = async move {
            let mut read = 0;
            while let Some(Ok(frame)) = body.frame().await {
                read += frame.data_ref().map_or(0, Bytes::len);
                if read > MAX_BYTES {
                    return;
                }
            }
        };
        let stopping = app.stopping.clone();
        app.tasks.spawn(async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                _ = tokio::time::timeout(MAX_TIME, reading) => {}
            }
        });
    }
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.is_coming = true;
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if self.is_coming && !self.body.is_end_stream() {
            let body = std::mem::take(&mut self.body);
            *self.back.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}
