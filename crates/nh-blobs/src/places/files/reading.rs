use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use nh_store::blobs::Piece;

use super::Files;
use crate::places::{blocking, within};

/// Read at once: large enough that asking costs little.
const CHUNK_BYTES: usize = 256 * 1024;

/// What is read next.
struct Next {
    files: Files,
    /// What is left, the next last: a place and which of its bytes.
    left: Vec<(String, Range<u64>)>,
    open: Option<Arc<File>>,
}

/// The bytes of `range` of what the pieces hold together, as they are read. One
/// that ends too soon is an error. `first` is the file of the first piece.
pub(crate) fn read(
    files: &Files,
    pieces: &[Piece],
    first: File,
    range: Range<u64>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let starts_in_first = pieces.first().is_some_and(|Piece(_, size)| range.start < *size);
    let open = starts_in_first.then(|| Arc::new(first));
    let next = Next { files: files.clone(), left: within(pieces, range), open };
    stream::try_unfold(next, |mut next| async move {
        let Some((place, range)) = next.left.last_mut() else { return Ok(None) };
        let file = match &next.open {
            Some(file) => file.clone(),
            None => Arc::new(next.files.open(place).await?),
        };
        let (at, size) = (range.start, (range.end - range.start).min(CHUNK_BYTES as u64) as usize);
        range.start += size as u64;
        let is_over = range.start == range.end;
        let reading = file.clone();
        let bytes = blocking(move || {
            let mut bytes = vec![0; size];
            reading.read_exact_at(&mut bytes, at)?;
            Ok(Bytes::from(bytes))
        })
        .await?;
        next.open = Some(file).filter(|_| !is_over);
        if is_over {
            next.left.pop();
        }
        Ok(Some((bytes, next)))
    })
    .boxed()
}
