//! Where bytes are outside the database: in files below one directory, or in a
//! bucket that speaks S3. A place is a name of lower-case letters and digits, and
//! is written once.

pub(crate) mod bucket;
pub(crate) mod files;

use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use nh_store::blobs::Piece;
use sha2::{Digest, Sha256};

use crate::blobs::BlobError;
use bucket::Bucket;
use files::Files;

#[derive(Clone, Debug)]
pub(crate) enum Places {
    Files(Files),
    Bucket(Bucket),
}

impl Places {
    /// The bytes of `range` of what the pieces hold together, as they come.
    pub(crate) async fn read(
        &self,
        pieces: &[Piece],
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, BlobError>>, BlobError> {
        let Some(Piece(first, _)) = pieces.first() else { return Ok(stream::empty().boxed()) };
        match self {
            Self::Files(files) => {
                let first = files.open(first).await?;
                Ok(files::read(files, pieces, first, range).map_err(BlobError::from).boxed())
            }
            Self::Bucket(bucket) => {
                let read = bucket::read(bucket.clone(), pieces, range).await?;
                Ok(read.map_err(BlobError::from).boxed())
            }
        }
    }

    /// Empties a place; one that is empty already stays so.
    pub(crate) async fn remove(&self, place: &str) -> Result<(), BlobError> {
        match self {
            Self::Files(files) => Ok(files.remove(place).await?),
            Self::Bucket(bucket) => Ok(bucket.remove(place).await?),
        }
    }
}

/// What was written, and lasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) size: u64,
    pub(crate) sha256: [u8; 32],
}

/// Bytes on their way into places, one after another. What is dropped before
/// [`Writing::finish`] is left to the sweep.
pub(crate) enum Writing {
    /// One file takes all.
    File(Files, Option<files::Writing>),
    Bucket(bucket::Writing),
}

impl Writing {
    pub(crate) fn new(places: &Places) -> Self {
        match places {
            Places::Files(files) => Self::File(files.clone(), None),
            Places::Bucket(bucket) => Self::Bucket(bucket::Writing::new(bucket.clone())),
        }
    }

    /// How many more bytes the present place takes. None is there at first.
    pub(crate) fn room(&self) -> usize {
        match self {
            Self::File(_, None) => 0,
            Self::File(_, Some(_)) => usize::MAX,
            Self::Bucket(writing) => writing.room(),
        }
    }

    /// What comes next goes to this place, which is held off the waste.
    pub(crate) async fn go_to(&mut self, place: &str) -> Result<(), BlobError> {
        match self {
            Self::File(files, file) => *file = Some(files::Writing::begin(files, place)),
            Self::Bucket(writing) => writing.go_to(place).await?,
        }
        Ok(())
    }

    /// At most [`Writing::room`] bytes. Waits while what takes them is behind.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        match self {
            Self::File(_, None) => Ok(()),
            Self::File(_, Some(file)) => Ok(file.write(bytes).await?),
            Self::Bucket(writing) => Ok(writing.write(bytes).await?),
        }
    }

    /// All of it lasts when this answers.
    pub(crate) async fn finish(self) -> Result<Written, BlobError> {
        match self {
            Self::File(_, None) => Ok(Written { size: 0, sha256: Sha256::digest([]).into() }),
            Self::File(_, Some(file)) => Ok(file.finish().await?),
            Self::Bucket(writing) => Ok(writing.finish().await?),
        }
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// The places, the first last, that hold `range` of what the pieces hold together,
/// each with the range of its own bytes.
fn within(pieces: &[Piece], range: Range<u64>) -> Vec<(String, Range<u64>)> {
    let mut found = Vec::new();
    let mut begins = 0;
    for Piece(place, size) in pieces {
        let ends = begins + size;
        let (first, last) = (range.start.max(begins), range.end.min(ends));
        if first < last {
            found.push((place.clone(), first - begins..last - begins));
        }
        begins = ends;
    }
    found.reverse();
    found
}
