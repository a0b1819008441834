use bytes::{Bytes, BytesMut};
use nh_types::ApiError;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::{Bucket, BucketError};
use crate::places::Written;

/// Of one object in the bucket.
const PIECE_BYTES: usize = 8 * 1024 * 1024;

/// While one piece is sent the next is filled: two are in memory at most.
pub(crate) struct Writing {
    bucket: Bucket,
    place: String,
    filling: BytesMut,
    room: usize,
    /// Of the piece that is being filled.
    permit: Option<OwnedSemaphorePermit>,
    size: u64,
    /// The last piece, which answers with the hash up to its end. It ends when
    /// this is dropped.
    sending: JoinSet<Result<Sha256, BucketError>>,
}

impl Writing {
    pub(crate) fn new(bucket: Bucket) -> Self {
        let (place, filling) = (String::new(), BytesMut::new());
        Self { bucket, place, filling, room: 0, permit: None, size: 0, sending: JoinSet::new() }
    }

    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// Waits a while where many uploads are under way.
    pub(crate) async fn go_to(&mut self, place: &str) -> Result<(), ApiError> {
        self.permit = Some(self.bucket.room().await?);
        place.clone_into(&mut self.place);
        self.filling = BytesMut::with_capacity(PIECE_BYTES);
        self.room = PIECE_BYTES;
        Ok(())
    }

    /// Waits while the bucket is behind.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), BucketError> {
        self.filling.extend_from_slice(&bytes);
        self.room = self.room.saturating_sub(bytes.len());
        self.size += bytes.len() as u64;
        if self.room == 0 { self.send().await } else { Ok(()) }
    }

    async fn send(&mut self) -> Result<(), BucketError> {
        let digest = self.sent().await?;
        let (bucket, place) = (self.bucket.clone(), std::mem::take(&mut self.place));
        let (bytes, permit) = (std::mem::take(&mut self.filling).freeze(), self.permit.take());
        self.sending.spawn(async move {
            let (digest, ()) = tokio::try_join!(hash(digest, bytes.clone()), bucket.put(&place, bytes))?;
            drop(permit);
            Ok(digest)
        });
        Ok(())
    }

    /// The hash of all that was sent, when it is in the bucket.
    async fn sent(&mut self) -> Result<Sha256, BucketError> {
        match self.sending.join_next().await {
            None => Ok(Sha256::new()),
            Some(done) => done.unwrap_or_else(|error| Err(stopped(&error))),
        }
    }

    /// It lasts when this answers.
    pub(crate) async fn finish(mut self) -> Result<Written, BucketError> {
        if !self.filling.is_empty() {
            self.send().await?;
        }
        let digest = self.sent().await?;
        Ok(Written { size: self.size, sha256: digest.finalize().into() })
    }
}

async fn hash(mut digest: Sha256, bytes: Bytes) -> Result<Sha256, BucketError> {
    let hashing = tokio::task::spawn_blocking(move || {
        digest.update(&bytes);
        digest
    });
    hashing.await.map_err(|error| stopped(&error))
}

/// Of a task, as happens when the hub stops.
fn stopped(error: &tokio::task::JoinError) -> BucketError {
    BucketError::Unreachable(error.to_string())
}
