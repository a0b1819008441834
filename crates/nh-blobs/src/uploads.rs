//! Uploads in parts: begun, filled part by part in any order, by whom and when
//! one likes, and completed into an object. What came is kept when a connection
//! breaks, so that only the rest is sent again.

use std::io;
use std::pin::pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use nh_store::blobs::{
    self as rows, Abort, BeginUpload, BlobRecord, Complete, CompleteDone, PartDone, PartRecord, Piece,
    PutDone, PutPart, UploadRecord, Wanted,
};
use nh_store::{Idempotency, Once, StoreError};
use nh_types::{UploadId, WorkspaceId};
use sha2::{Digest, Sha256};

use crate::blobs::{Author, BlobError, Blobs, Inner, LOWER, New, PLACE_LETTERS, late, source};
use crate::content_type;
use crate::places::blocking;
use crate::places::bucket::BucketError;

/// Part numbers begin with 1.
pub const MAX_PART_NUMBER: u32 = 10_000;
/// The most uploads of one workspace that go on at once.
pub const MAX_UPLOADS: u32 = 1000;
/// An upload that nothing came for is given up after so long.
const LIFE_MS: i64 = 24 * 60 * 60_000;

/// Bytes from which a type is guessed.
const HEAD_BYTES: usize = 8192;

/// A part that a client names when it completes an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPart {
    pub number: u32,
    pub sha256: [u8; 32],
}

/// How the completion of an upload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completion {
    Put(PutDone),
    NoUpload,
    /// A part that was named is not there, or is another one.
    OtherPart(u32),
    PartsChanged,
}

impl Blobs {
    /// Begins an upload in parts. Whether the object may be put is looked at now, so
    /// that nobody sends what will be refused, and once more when it is completed.
    /// None: [`MAX_UPLOADS`] go on already.
    pub async fn begin_upload(
        &self,
        author: Author,
        new: New,
        once: Option<Idempotency>,
    ) -> Result<Once<Result<Option<UploadRecord>, PutDone>>, BlobError> {
        let inner = &self.inner;
        // What was begun with this idempotency key before is answered as it was then.
        if once.is_none() {
            let New { pathname, condition, .. } = &new;
            if let Some(refused) = inner.refused_early(&author.workspace_id, pathname, *condition, 0).await? {
                return Ok(Once::First(Err(refused)));
            }
        }
        let at = inner.clock.now();
        let workspace_id = author.workspace_id.clone();
        let upload = UploadRecord {
            id: UploadId::generate(&*inner.ids),
            pathname: new.pathname,
            wanted: Wanted {
                content_type: new.content_type,
                access: new.access,
                cache_seconds: new.cache_seconds,
                expires_at: new.expires_at,
                condition: new.condition,
                source: source(author),
            },
            created_at: at,
            expires_at: at.plus_millis(LIFE_MS),
            size: 0,
            completed: None,
        };
        let begun =
            inner.store.write_once(once, BeginUpload { workspace_id, upload, most: MAX_UPLOADS }).await?;
        Ok(match begun {
            Once::First(begun) => Once::First(Ok(begun)),
            Once::Replay(begun) => Once::Replay(Ok(begun)),
            Once::Mismatch => Once::Mismatch,
        })
    }

    /// Takes a part; it is durable when this answers. `size` is that of its bytes,
    /// where it is known before they come.
    pub async fn put_part<E: From<BlobError>>(
        &self,
        workspace_id: &WorkspaceId,
        upload_id: &UploadId,
        number: u32,
        size: Option<u64>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<(PartRecord, PartDone), E> {
        let inner = &self.inner;
        inner.check_size(size.unwrap_or_default())?;
        let nothing = |done| {
            let part = PartRecord { number, size: 0, sha256: [0; 32], pieces: Vec::new() };
            Ok((part, done))
        };
        let begun_at = inner.clock.now();
        let there = rows::find_upload(&inner.store, workspace_id, upload_id, begun_at).await;
        if there.map_err(BlobError::from)?.is_none_or(|upload| upload.completed.is_some()) {
            return nothing(PartDone::NoUpload);
        }
        let replaced = rows::part_size(&inner.store, upload_id, number).await.map_err(BlobError::from)?;
        let more = size.unwrap_or_default().saturating_sub(replaced);
        if let Some(PutDone::OverQuota { used, quota }) = inner.over_quota(workspace_id, more).await? {
            return nothing(PartDone::OverQuota { used, quota });
        }
        let room = inner.room(workspace_id, replaced).await?;
        let (written, pieces) = inner.fill(room, Bytes::new(), pin!(body)).await?;
        let at = inner.clock.now();
        let part = PartRecord { number, size: written.size, sha256: written.sha256, pieces };
        let put = PutPart {
            workspace_id: workspace_id.clone(),
            upload_id: upload_id.clone(),
            part: part.clone(),
            begun_at,
            at,
            expires_at: at.plus_millis(LIFE_MS),
            max_size: inner.settings.max_size_bytes,
            quota: inner.settings.quota_bytes,
        };
        let done = inner.store.write(put).await;
        if !matches!(done, Ok(PartDone::Stored)) {
            inner.discard(&part.pieces).await;
        }
        Ok((part, done.map_err(late)?))
    }

    /// An upload that goes on, or was completed within a day, and its parts.
    pub async fn upload(
        &self,
        workspace_id: &WorkspaceId,
        upload_id: &UploadId,
    ) -> Result<Option<(UploadRecord, Vec<PartRecord>)>, BlobError> {
        let Inner { store, clock, .. } = &*self.inner;
        // In this order: parts of one that goes on afterwards were all of its parts.
        let parts = rows::parts(store, upload_id).await?;
        let upload = rows::find_upload(store, workspace_id, upload_id, clock.now()).await?;
        Ok(upload.map(|upload| (upload, parts)))
    }

    /// Those that go on, by pathname and id; one more than `limit` where there are more.
    pub async fn uploads(
        &self,
        workspace_id: &WorkspaceId,
        prefix: &str,
        after: Option<&(String, String)>,
        limit: u32,
    ) -> Result<Vec<UploadRecord>, BlobError> {
        let Inner { store, clock, .. } = &*self.inner;
        Ok(rows::list_uploads(store, workspace_id, prefix, after, limit + 1, clock.now()).await?)
    }

    /// Makes an object of the parts, of those `named` or of all. Asked again it gives
    /// the same answer. The bytes are read once, for their hash.
    pub async fn complete_upload(
        &self,
        workspace_id: &WorkspaceId,
        upload_id: &UploadId,
        named: Option<Vec<NamedPart>>,
        once: Option<Idempotency>,
    ) -> Result<Once<Completion>, BlobError> {
        let inner = &self.inner;
        let Some((upload, there)) = self.upload(workspace_id, upload_id).await? else {
            return Ok(Once::First(Completion::NoUpload));
        };
        let (at, is_all) = (inner.clock.now(), named.is_none());
        let parts = if upload.completed.is_some() { Vec::new() } else { there };
        let parts =
            match named.filter(|_| upload.completed.is_none()).map(|named| select(parts.clone(), named)) {
                None => parts,
                Some(Ok(parts)) => parts,
                Some(Err(number)) => return Ok(Once::First(Completion::OtherPart(number))),
            };
        if once.is_none() && upload.completed.is_none() {
            let (pathname, condition) = (&upload.pathname, upload.wanted.condition);
            if let Some(refused) = inner.refused_early(workspace_id, pathname, condition, 0).await? {
                return Ok(Once::First(Completion::Put(refused)));
            }
        }
        let blob = match inner.put_together(&upload, &parts).await {
            // A part was replaced since its row was read.
            Err(BlobError::Files(error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Once::First(Completion::PartsChanged));
            }
            Err(BlobError::Bucket(BucketError::Missing)) => return Ok(Once::First(Completion::PartsChanged)),
            other => other?,
        };
        let complete = Complete {
            workspace_id: workspace_id.clone(),
            upload_id: upload_id.clone(),
            blob,
            parts,
            is_all,
            bytes_id: inner.ids.text(LOWER, PLACE_LETTERS),
            at,
            expires_at: at.plus_millis(LIFE_MS),
            quota: inner.settings.quota_bytes,
        };
        let done = inner.store.write_once(once, complete).await;
        inner.freed.notify_one();
        match done {
            Ok(Once::First(done)) => Ok(Once::First(done.into())),
            Ok(Once::Replay(done)) => Ok(Once::Replay(done.into())),
            Ok(Once::Mismatch) => Ok(Once::Mismatch),
            Err(StoreError::Missing(_)) => Ok(Once::First(Completion::PartsChanged)),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives an upload up, with what came; whether there was one.
    pub async fn abort_upload(
        &self,
        workspace_id: &WorkspaceId,
        upload_id: &UploadId,
    ) -> Result<bool, BlobError> {
        let abort = Abort { workspace_id: workspace_id.clone(), upload_id: upload_id.clone() };
        let was_there = self.inner.store.write(abort).await?;
        self.inner.freed.notify_one();
        Ok(was_there)
    }
}

impl From<CompleteDone> for Completion {
    fn from(done: CompleteDone) -> Self {
        match done {
            CompleteDone::Put(done) => Self::Put(done),
            CompleteDone::NoUpload => Self::NoUpload,
        }
    }
}

/// Those that are named, by number; else the number of one that is not there.
fn select(there: Vec<PartRecord>, mut named: Vec<NamedPart>) -> Result<Vec<PartRecord>, u32> {
    named.sort_by_key(|part| part.number);
    named.dedup();
    let mut there = there.into_iter();
    named
        .into_iter()
        .map(|named| {
            let found = there.by_ref().find(|part| part.number >= named.number);
            found
                .filter(|part| part.number == named.number && part.sha256 == named.sha256)
                .ok_or(named.number)
        })
        .collect()
}

impl Inner {
    async fn put_together(
        &self,
        upload: &UploadRecord,
        parts: &[PartRecord],
    ) -> Result<BlobRecord, BlobError> {
        let pieces: Vec<Piece> = parts.iter().flat_map(|part| part.pieces.clone()).collect();
        let size = pieces.iter().map(|Piece(_, size)| size).sum();
        let (mut digest, mut head) = (Sha256::new(), Vec::new());
        let mut bytes = self.places.read(&pieces, 0..size).await?;
        while let Some(more) = bytes.next().await.transpose()? {
            if head.len() < HEAD_BYTES {
                head.extend_from_slice(&more[..more.len().min(HEAD_BYTES)]);
            }
            digest = blocking(move || {
                digest.update(&more);
                Ok(digest)
            })
            .await?;
        }
        let UploadRecord { pathname, wanted, .. } = upload.clone();
        Ok(BlobRecord {
            content_type: wanted.content_type.unwrap_or_else(|| content_type::guess(&pathname, &head)),
            pathname,
            size,
            sha256: digest.finalize().into(),
            access: wanted.access,
            cache_seconds: wanted.cache_seconds,
            uploaded_at: self.clock.now(),
            expires_at: wanted.expires_at,
            source: wanted.source,
        })
    }
}
