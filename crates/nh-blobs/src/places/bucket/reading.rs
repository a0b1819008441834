use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use nh_store::blobs::Piece;

use super::{Bucket, BucketError};
use crate::places::within;

/// What is read next.
struct Next {
    bucket: Bucket,
    /// What is left, the next last: a place and which of its bytes.
    left: Vec<(String, Range<u64>)>,
    answer: Option<Answer>,
}

struct Answer {
    bytes: BoxStream<'static, Result<Bytes, BucketError>>,
    has_brought: bool,
}

/// The bytes of `range` of what the pieces hold together, as they come; the first
/// of them are there when this answers. What ends too soon is an error.
pub(crate) async fn read(
    bucket: Bucket,
    pieces: &[Piece],
    range: Range<u64>,
) -> Result<BoxStream<'static, Result<Bytes, BucketError>>, BucketError> {
    let mut next = Next { bucket, left: within(pieces, range), answer: None };
    if !next.left.is_empty() {
        next.ask().await?;
    }
    let reading = stream::try_unfold(next, |mut next| async move {
        let bytes = next.bytes().await?;
        Ok(bytes.map(|bytes| (bytes, next)))
    });
    Ok(reading.boxed())
}

impl Next {
    async fn ask(&mut self) -> Result<(), BucketError> {
        if let Some((place, range)) = self.left.last() {
            let bytes = self.bucket.get(place, range.clone()).await?;
            self.answer = Some(Answer { bytes, has_brought: false });
        }
        Ok(())
    }

    async fn bytes(&mut self) -> Result<Option<Bytes>, BucketError> {
        loop {
            let Some((_, range)) = self.left.last_mut() else { return Ok(None) };
            let Some(answer) = &mut self.answer else {
                self.ask().await?;
                continue;
            };
            match answer.bytes.next().await {
                Some(Ok(bytes)) => {
                    answer.has_brought = true;
                    range.start = range.end.min(range.start + bytes.len() as u64);
                    if range.start == range.end {
                        self.left.pop();
                        self.answer = None;
                    }
                    return Ok(Some(bytes));
                }
                // As long as some comes, the rest is asked for: a server may end
                // what a slow client does not take.
                Some(Err(_)) | None if answer.has_brought => self.answer = None,
                Some(Err(error)) => return Err(error),
                None => return Err(BucketError::Answer("fewer bytes than were written".to_owned())),
            }
        }
    }
}
