//! A bucket that speaks S3. Each piece is one object of it, under the configured
//! prefix and a name that is never used again, and is there whole or not at all.
//! So none of S3's own multipart uploads is needed, and nothing that a crash leaves
//! is beyond the sweep.

mod connector;
mod error;
mod reading;
mod writing;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use nh_types::{ApiError, ErrorCode, Ids};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutOptions, RetryConfig,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use crate::blobs::{LOWER, PLACE_LETTERS};
use connector::OverOutbound;
pub use error::BucketError;
pub(crate) use reading::read;
pub(crate) use writing::Writing;

/// In memory at once, of all uploads: half a gigabyte.
const MAX_PIECES: usize = 64;
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);

/// What cannot be had by then is an error.
const MAX_RETRIES: usize = 3;
const RETRY_TIMEOUT: Duration = Duration::from_secs(20);

/// How a bucket is reached.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) name: String,
    /// Before each key; empty, or with a slash at its end.
    pub(crate) prefix: String,
    /// Absent: Amazon's.
    pub(crate) endpoint: Option<Url>,
    pub(crate) region: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: SecretString,
}

/// A bucket, for objects. Clones share its connections.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    /// For pieces that are in memory, of all uploads.
    room: Arc<Semaphore>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").finish_non_exhaustive()
    }
}

impl Bucket {
    /// Nothing is asked of the bucket yet.
    pub(crate) fn new(access: Access) -> Result<Self, BucketError> {
        let is_plain = access.endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() == "http");
        // Amazon wants the bucket in the host's name, where its certificate covers
        // no further dots; other servers know it in the path.
        let is_in_host = access.endpoint.is_none() && !access.name.contains('.');
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(access.name)
            .with_region(access.region)
            .with_access_key_id(access.access_key_id)
            .with_secret_access_key(access.secret_access_key.expose_secret())
            .with_virtual_hosted_style_request(is_in_host)
            .with_allow_http(is_plain)
            // Over TLS nothing changes on the way, and Amazon's own clients do not
            // hash what they send either.
            .with_unsigned_payload(!is_plain)
            // Some servers do not know it.
            .with_disable_bulk_delete(true)
            .with_retry(RetryConfig {
                max_retries: MAX_RETRIES,
                retry_timeout: RETRY_TIMEOUT,
                backoff: BackoffConfig::default(),
            })
            .with_http_connector(OverOutbound);
        if let Some(endpoint) = access.endpoint {
            builder = builder.with_endpoint(endpoint.as_str().trim_end_matches('/'));
        }
        let store = builder.build().map_err(|error| BucketError::of(&error))?;
        Ok(Self { store: Arc::new(store), prefix: access.prefix, room: Arc::new(Semaphore::new(MAX_PIECES)) })
    }

    async fn room(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let room = tokio::time::timeout(ROOM_TIMEOUT, self.room.clone().acquire_owned()).await;
        room.ok().and_then(Result::ok).ok_or_else(|| {
            let message = "too many uploads to the bucket are under way; send it again in a while";
            ApiError::new(ErrorCode::Overloaded, message).retry_after(5)
        })
    }

    fn key(&self, place: &str) -> Path {
        Path::from(format!("{}{place}", self.prefix))
    }

    async fn put(&self, place: &str, bytes: Bytes) -> Result<(), BucketError> {
        let key = self.key(place);
        let put = self.store.put_opts(&key, bytes.into(), PutOptions::default()).await;
        put.map(drop).map_err(|error| BucketError::of(&error))
    }

    /// Bytes that are there, as they come.
    async fn get(
        &self,
        place: &str,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, BucketError>>, BucketError> {
        let options = GetOptions { range: Some(GetRange::Bounded(range)), ..GetOptions::default() };
        let got = self.store.get_opts(&self.key(place), options).await;
        let got = got.map_err(|error| BucketError::of(&error))?;
        Ok(got.into_stream().map_err(|error| BucketError::of(&error)).boxed())
    }

    pub(super) async fn remove(&self, place: &str) -> Result<(), BucketError> {
        match self.store.delete(&self.key(place)).await.map_err(|error| BucketError::of(&error)) {
            // Amazon says nothing of what is missing, others do.
            Err(BucketError::Missing) => Ok(()),
            done => done,
        }
    }

    /// Whether it can be written, read and emptied: an object of a few bytes comes
    /// and goes.
    pub async fn probe(&self, ids: &dyn Ids) -> Result<(), BucketError> {
        const SAYS: &[u8] = b"neuralhub was here";
        let place = format!("probe-{}", ids.text(LOWER, PLACE_LETTERS));
        self.put(&place, Bytes::from_static(SAYS)).await?;
        let read: Result<Vec<Bytes>, _> =
            async { self.get(&place, 0..SAYS.len() as u64).await?.try_collect().await }.await;
        let removed = self.remove(&place).await;
        if read?.concat() != SAYS {
            return Err(BucketError::Answer("other bytes than were written".to_owned()));
        }
        removed
    }
}
