//! [`Blobs`]: objects are put, found, read, listed and deleted.

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use nh_store::blobs::{self as rows, BlobRecord, Condition, Copy, Delete, NewBytes, Put, PutDone, Totals};
use nh_store::{Idempotency, Once, Store, StoreError};
use nh_types::blob::{Access, BlobSource, Pathname};
use nh_types::{ApiError, ErrorCode, RunId, SharedClock, SharedIds, Timestamp, WorkspaceId};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use url::Url;

use crate::coming::Coming;
use crate::content_type;
use crate::places::bucket::{Bucket, BucketError};
use crate::places::files::Files;
use crate::places::{Places, Written};
use crate::readers::Readers;
use crate::settings::BlobSettings;

/// Objects of at most so many bytes are in the database.
const MAX_BYTES_HERE: usize = 64 * 1024;
/// How long it counts that an upload said that it is still going on.
pub(crate) const HOLD_MS: i64 = 15 * 60_000;

pub(crate) const LOWER: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
pub(crate) const PLACE_LETTERS: usize = 26;

/// Why something could not be done with objects.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// What was asked for is not acceptable.
    #[error(transparent)]
    Refused(#[from] ApiError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the files of the objects cannot be used: {0}")]
    Files(#[from] io::Error),
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

/// On whose behalf an object is put.
#[derive(Clone, Debug)]
pub struct Author {
    pub workspace_id: WorkspaceId,
    /// `key:42` or `session:user_…`.
    pub created_by: String,
    pub run: Option<(RunId, String)>,
}

/// An object that is to be.
#[derive(Clone, Debug)]
pub struct New {
    pub pathname: Pathname,
    /// Absent: guessed.
    pub content_type: Option<String>,
    pub access: Access,
    pub cache_seconds: Option<u32>,
    pub expires_at: Option<Timestamp>,
    pub condition: Condition,
    /// Of its bytes, where it is known before they come.
    pub size: Option<u64>,
}

/// An object that is to have another name too, or instead.
#[derive(Clone, Debug)]
pub struct Copying {
    pub from: Pathname,
    pub to: Pathname,
    pub condition: Condition,
    pub is_rename: bool,
    /// These three, where they are absent: as it is.
    pub access: Option<Access>,
    pub content_type: Option<String>,
    pub cache_seconds: Option<u32>,
}

/// What [`Blobs`] is made of.
pub struct BlobsSetup {
    pub store: Store,
    /// Of the files.
    pub directory: PathBuf,
    /// Instead of files.
    pub bucket: Option<Bucket>,
    pub settings: BlobSettings,
    pub clock: SharedClock,
    pub ids: SharedIds,
}

/// Every workspace's objects. Clones share all of it.
#[derive(Clone)]
pub struct Blobs {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) places: Places,
    pub(crate) clock: SharedClock,
    pub(crate) began_at: Timestamp,
    pub(crate) settings: BlobSettings,
    pub(crate) ids: SharedIds,
    pub(crate) coming: Coming,
    pub(crate) readers: Readers,
    /// Something may be to be swept.
    pub(crate) freed: Notify,
}

impl Blobs {
    pub fn new(setup: BlobsSetup) -> Self {
        let BlobsSetup { store, directory, bucket, settings, clock, ids } = setup;
        let places = bucket.map_or_else(|| Places::Files(Files::new(directory)), Places::Bucket);
        let began_at = clock.now();
        Self {
            inner: Arc::new(Inner {
                store,
                places,
                clock,
                began_at,
                settings,
                ids,
                coming: Coming::default(),
                readers: Readers::default(),
                freed: Notify::new(),
            }),
        }
    }

    /// The most bytes that the objects of each workspace may have together.
    pub fn quota(&self) -> Option<u64> {
        self.inner.settings.quota_bytes
    }

    /// Where objects are served, such as `https://blobs.example.com`; None: where the
    /// hub is.
    pub fn public_origin(&self) -> Option<&Url> {
        self.inner.settings.public_origin.as_ref()
    }

    pub async fn totals(&self, workspace_id: &WorkspaceId) -> Result<Totals, BlobError> {
        Ok(rows::totals(&self.inner.store, workspace_id).await?)
    }

    /// Puts what comes under a name. It is durable when this answers; what is
    /// broken off leaves nothing. `once` makes the record of an idempotency key, by
    /// the hash of the bytes.
    pub async fn put<E>(
        &self,
        author: Author,
        new: New,
        body: impl Stream<Item = Result<Bytes, E>>,
        once: Option<impl FnOnce(&[u8; 32]) -> Idempotency>,
    ) -> Result<Once<PutDone>, E>
    where
        E: From<BlobError>,
    {
        self.inner.check_size(new.size.unwrap_or_default())?;
        // What was put with this idempotency key before is answered as it was then.
        if once.is_none() {
            let New { pathname, condition, size, .. } = &new;
            let size = size.unwrap_or_default();
            let refused = self.inner.refused_early(&author.workspace_id, pathname, *condition, size);
            if let Some(refused) = refused.await? {
                return Ok(Once::First(refused));
            }
        }
        let mut body = pin!(body);
        let mut first = BytesMut::new();
        while first.len() <= MAX_BYTES_HERE {
            match body.next().await.transpose()? {
                Some(more) => first.extend_from_slice(&more),
                None => {
                    let bytes = first.freeze();
                    self.inner.check_size(bytes.len() as u64)?;
                    let written = Written { size: bytes.len() as u64, sha256: Sha256::digest(&bytes).into() };
                    let put = self.inner.to_put(author, new, &bytes.clone(), written, NewBytes::Here(bytes));
                    let once = once.map(|once| once(&put.blob.sha256));
                    return Ok(self.inner.store.write_once(once, put).await.map_err(BlobError::from)?);
                }
            }
        }
        let begin = first.freeze();
        let replaced = self.find(&author.workspace_id, &new.pathname).await?.map_or(0, |there| there.size);
        let room = self.inner.room(&author.workspace_id, replaced).await?;
        let (written, pieces) = self.inner.fill(room, begin.clone(), body).await?;
        let put = self.inner.to_put(author, new, &begin, written, NewBytes::Pieces(pieces.clone()));
        let once = once.map(|once| once(&put.blob.sha256));
        let done = self.inner.store.write_once(once, put).await;
        if !matches!(done, Ok(Once::First(PutDone::Stored(_)))) {
            self.inner.discard(&pieces).await;
        }
        self.inner.freed.notify_one();
        Ok(done.map_err(late)?)
    }

    /// Puts an object under another name too, or instead. None: there is none such.
    pub async fn copy(
        &self,
        author: Author,
        copying: Copying,
        once: Option<Idempotency>,
    ) -> Result<Once<Option<PutDone>>, BlobError> {
        let copy = Copy {
            workspace_id: author.workspace_id.clone(),
            from: copying.from,
            to: copying.to,
            condition: copying.condition,
            is_rename: copying.is_rename,
            access: copying.access,
            content_type: copying.content_type,
            cache_seconds: copying.cache_seconds,
            source: source(author),
            at: self.inner.clock.now(),
            quota: self.inner.settings.quota_bytes,
        };
        let copied = self.inner.store.write_once(once, copy).await?;
        self.inner.freed.notify_one();
        Ok(copied)
    }

    pub async fn find(
        &self,
        workspace_id: &WorkspaceId,
        pathname: &Pathname,
    ) -> Result<Option<BlobRecord>, BlobError> {
        Ok(rows::find(&self.inner.store, workspace_id, pathname, self.inner.clock.now()).await?)
    }

    /// Deletes those that are there; how many that were. None, and nothing is deleted:
    /// the bytes of one have another SHA-256 than `only_if`.
    pub async fn delete(
        &self,
        workspace_id: &WorkspaceId,
        pathnames: Vec<Pathname>,
        only_if: Option<[u8; 32]>,
    ) -> Result<Option<u64>, BlobError> {
        let delete =
            Delete { workspace_id: workspace_id.clone(), pathnames, only_if, at: self.inner.clock.now() };
        let deleted = self.inner.store.write(delete).await?;
        self.inner.freed.notify_one();
        Ok(deleted)
    }
}

pub(crate) fn source(author: Author) -> BlobSource {
    let (run_id, step) = author.run.unzip();
    BlobSource { created_by: author.created_by, run_id, step }
}

/// Of an upload whose place was given up meanwhile.
pub(crate) fn late(error: StoreError) -> BlobError {
    match error {
        StoreError::Missing(_) => took_too_long().into(),
        other => other.into(),
    }
}

/// Of what does not fit beside what the workspace has.
pub fn over_quota(used: u64, quota: u64) -> ApiError {
    let message = format!(
        "it does not fit: the workspace's objects and unfinished uploads take {used} of the {quota} bytes that \
         they may; delete some, or ask the operator for more ([blobs] quota_bytes)"
    );
    ApiError::new(ErrorCode::QuotaExceeded, message)
}

pub(crate) fn took_too_long() -> ApiError {
    let message = "the upload took too long to be stored; send it again";
    ApiError::new(ErrorCode::ComponentUnavailable, message).retry_after(1)
}

impl Inner {
    pub(crate) fn check_size(&self, size: u64) -> Result<(), BlobError> {
        let most = self.settings.max_size_bytes;
        if size <= most {
            return Ok(());
        }
        let message =
            format!("the object has {size} bytes or more; at most {most} are taken ([blobs] max_size_bytes)");
        Err(ApiError::new(ErrorCode::PayloadTooLarge, message).into())
    }

    /// What keeps an object from being put, as far as it can be told before its bytes
    /// come. The last word is that of the write.
    pub(crate) async fn refused_early(
        &self,
        workspace_id: &WorkspaceId,
        pathname: &Pathname,
        condition: Condition,
        size: u64,
    ) -> Result<Option<PutDone>, BlobError> {
        let there = rows::find(&self.store, workspace_id, pathname, self.clock.now()).await?;
        match condition {
            Condition::Absent if there.is_some() => return Ok(Some(PutDone::Exists)),
            Condition::Present if there.is_none() => return Ok(Some(PutDone::Changed)),
            Condition::Is(wanted) if there.as_ref().is_none_or(|there| there.sha256 != wanted) => {
                return Ok(Some(PutDone::Changed));
            }
            _ => {}
        }
        let replaced = there.map_or(0, |there| there.size);
        self.over_quota(workspace_id, size.saturating_sub(replaced)).await
    }

    /// Whether so many bytes would be too many beside those that are there.
    pub(crate) async fn over_quota(
        &self,
        workspace_id: &WorkspaceId,
        more: u64,
    ) -> Result<Option<PutDone>, BlobError> {
        let Some(quota) = self.settings.quota_bytes.filter(|_| more > 0) else { return Ok(None) };
        let used = rows::totals(&self.store, workspace_id).await?.used();
        Ok((used.saturating_add(more) > quota).then_some(PutDone::OverQuota { used, quota }))
    }

    fn to_put(&self, author: Author, new: New, first: &[u8], written: Written, bytes: NewBytes) -> Put {
        let content_type = new.content_type.unwrap_or_else(|| content_type::guess(&new.pathname, first));
        Put {
            workspace_id: author.workspace_id.clone(),
            blob: BlobRecord {
                content_type,
                pathname: new.pathname,
                size: written.size,
                sha256: written.sha256,
                access: new.access,
                cache_seconds: new.cache_seconds,
                uploaded_at: self.clock.now(),
                expires_at: new.expires_at,
                source: source(author),
            },
            bytes_id: self.ids.text(LOWER, PLACE_LETTERS),
            bytes,
            condition: new.condition,
            quota: self.settings.quota_bytes,
        }
    }
}
