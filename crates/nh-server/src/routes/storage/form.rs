//! An upload as a browser's form sends it: `multipart/form-data` (RFC 7578) with
//! one file, which is read as it comes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, ready, stream};
use http::{HeaderMap, header};
use multer::{Field, Multipart};
use nh_types::{ApiError, ErrorCode};

use super::asked::chunks;
use crate::app::App;
use crate::failure::{Answer, Failure};

/// Of a form beside its file: boundaries, and the heads of its parts.
const MAX_UNREAD_BYTES: usize = 256 * 1024;
const PIECE_BYTES: usize = 64 * 1024;

/// The file of a form.
pub(super) struct FormFile<S> {
    /// Without the folders that a browser may tell.
    pub(super) name: Option<String>,
    pub(super) content_type: Option<String>,
    /// Its bytes; the last is followed by an error where the form goes on.
    pub(super) chunks: S,
}

pub(super) async fn file_in(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Answer<FormFile<impl Stream<Item = Answer<Bytes>> + Send + use<>>> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let boundary = multer::parse_boundary(content_type.unwrap_or_default()).map_err(|_| {
        let message =
            "a form's Content-Type must name its boundary, which clients do when it is left to them";
        ApiError::new(ErrorCode::InvalidRequest, message).param("Content-Type")
    })?;
    let unread = Arc::new(AtomicUsize::new(0));
    let body = bounded(chunks(app, headers, body)?, unread.clone());
    let mut form = Multipart::new(body, boundary);
    let file =
        form.next_field().await.map_err(failed)?.ok_or_else(|| {
            Failure::new(ErrorCode::InvalidRequest, "the form is empty; it must have one file")
        })?;
    check(&file)?;
    let last_of = |name: &str| name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let name = file.file_name().map(last_of).filter(|name| !name.is_empty());
    let content_type = file.content_type().map(ToString::to_string);
    let chunks = stream::try_unfold((form, Some(file), unread), |(mut form, file, unread)| async move {
        let Some(mut file) = file else { return Ok(None) };
        if let Some(bytes) = file.chunk().await.map_err(failed)? {
            unread.store(0, Ordering::Relaxed);
            return Ok(Some((bytes, (form, Some(file), unread))));
        }
        drop(file);
        match form.next_field().await.map_err(failed)? {
            None => Ok(None),
            Some(more) => {
                check(&more)?;
                Err(Failure::new(ErrorCode::InvalidRequest, "the form has several files; send one at a time"))
            }
        }
    });
    Ok(FormFile { name, content_type, chunks })
}

/// Ends a form that brings much without a byte of its file: its reader would keep it
/// all, and look through it again with each piece. It is given small pieces, and one
/// at a time.
fn bounded(
    chunks: impl Stream<Item = Answer<Bytes>> + Send,
    unread: Arc<AtomicUsize>,
) -> impl Stream<Item = Result<Bytes, Broken>> + Send {
    let pieces = chunks.map_ok(|chunk| stream::iter(pieces(chunk).map(Ok))).try_flatten();
    let mut is_turn = false;
    let mut pieces = Box::pin(pieces);
    stream::poll_fn(move |context| {
        // The reader takes all that is ready before it looks at any of it.
        is_turn = !is_turn;
        if !is_turn {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = ready!(pieces.poll_next_unpin(context));
        Poll::Ready(piece.map(|piece| {
            let piece = piece.map_err(|failure| Broken(Box::new(failure)))?;
            let unread = unread.fetch_add(piece.len(), Ordering::Relaxed) + piece.len();
            match unread > MAX_UNREAD_BYTES {
                true => Err(Broken(Box::new(no_file()))),
                false => Ok(piece),
            }
        }))
    })
}

fn pieces(mut chunk: Bytes) -> impl Iterator<Item = Bytes> + Send {
    std::iter::from_fn(move || (!chunk.is_empty()).then(|| chunk.split_to(chunk.len().min(PIECE_BYTES))))
}

fn no_file() -> Failure {
    let message = format!(
        "{MAX_UNREAD_BYTES} bytes of the form came without a byte of a file; send one file, and little beside it"
    );
    Failure::new(ErrorCode::InvalidRequest, message)
}

fn check(field: &Field<'_>) -> Answer<()> {
    if field.file_name().is_some() {
        return Ok(());
    }
    let name: String = field.name().unwrap_or_default().chars().take(80).collect();
    let message = format!(
        "the form's field `{name}` is no file; give pathname, overwrite and access in the query, and the file alone in \
         the form"
    );
    Err(ApiError::new(ErrorCode::InvalidRequest, message).param(name).into())
}

/// Carries a failure through the form's reader.
#[derive(Debug, thiserror::Error)]
#[error("the body could not be read")]
struct Broken(Box<Failure>);

fn failed(error: multer::Error) -> Failure {
    match error {
        multer::Error::StreamReadFailed(error) => match error.downcast::<Broken>() {
            Ok(broken) => *broken.0,
            Err(error) => Failure::new(
                ErrorCode::InvalidRequest,
                format!("the body could not be read to its end: {error}"),
            ),
        },
        other => {
            Failure::new(ErrorCode::InvalidRequest, format!("the body is no form that can be read: {other}"))
        }
    }
}
