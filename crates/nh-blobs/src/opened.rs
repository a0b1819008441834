//! Objects are opened, and their bytes read.

use std::fs::File;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use nh_store::blobs::{self as rows, BlobRecord, Content, Piece};
use nh_types::WorkspaceId;
use nh_types::blob::Pathname;

use crate::blobs::{BlobError, Blobs, Inner};
use crate::places::Places;
use crate::places::bucket::{self, Bucket};
use crate::places::files::{self, Files};
use crate::readers::Reader;

/// An object that can be read.
pub struct Opened {
    pub blob: BlobRecord,
    bytes: Reading,
    reader: Option<Reader>,
}

enum Reading {
    Here(Bytes),
    Files(Files, Vec<Piece>, File),
    Bucket(Bucket, Vec<Piece>),
}

impl Opened {
    /// Its bytes from the first to before the last of `range`, which is within its
    /// size. When this answers it is known that the first of them are there.
    pub async fn read(self, range: Range<u64>) -> Result<BoxStream<'static, io::Result<Bytes>>, BlobError> {
        let bytes = match self.bytes {
            Reading::Here(bytes) => {
                let bytes = bytes.slice(range.start as usize..range.end as usize);
                stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed()
            }
            Reading::Files(files, pieces, first) => files::read(&files, &pieces, first, range),
            Reading::Bucket(bucket, pieces) => {
                bucket::read(bucket, &pieces, range).await?.map_err(io::Error::other).boxed()
            }
        };
        let Some(reader) = self.reader else { return Ok(bytes) };
        Ok(bytes.inspect(move |_| _ = &reader).boxed())
    }
}

impl Blobs {
    pub async fn open(
        &self,
        workspace_id: &WorkspaceId,
        pathname: &Pathname,
    ) -> Result<Option<Opened>, BlobError> {
        let Inner { store, places, clock, readers, .. } = &*self.inner;
        let mut is_again = false;
        let mut reader: Option<(Vec<Piece>, Reader)> = None;
        loop {
            let Some((blob, content)) = rows::open(store, workspace_id, pathname, clock.now()).await? else {
                return Ok(None);
            };
            let here = |bytes| Opened { blob: blob.clone(), bytes: Reading::Here(bytes), reader: None };
            let pieces = match content {
                Content::Here(bytes) => return Ok(Some(here(bytes.into()))),
                Content::Pieces(pieces) => pieces,
            };
            let Some(Piece(place, _)) = pieces.first() else { return Ok(Some(here(Bytes::new()))) };
            let is_open_at_once = pieces.len() == 1 && matches!(places, Places::Files(_));
            let entered = reader.take().filter(|(entered, _)| *entered == pieces);
            if !is_open_at_once && entered.is_none() {
                // It counts only if the object is still there, read again.
                reader = Some((pieces.clone(), readers.enter(&pieces)));
                continue;
            }
            let reader = entered.map(|(_, reader)| reader);
            let files = match places {
                Places::Files(files) => files,
                Places::Bucket(bucket) => {
                    let bytes = Reading::Bucket(bucket.clone(), pieces);
                    return Ok(Some(Opened { blob, bytes, reader }));
                }
            };
            match files.open(place).await {
                Ok(file) => {
                    let bytes = Reading::Files(files.clone(), pieces, file);
                    return Ok(Some(Opened { blob, bytes, reader }));
                }
                // It was replaced or deleted since its row was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound && !is_again => is_again = true,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
