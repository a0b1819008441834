//! Objects on each engine and in a bucket: run them through `scripts/with-postgres` and
//! `scripts/with-s3`.

// Clippy knows only functions marked as tests; all of this is test code.
#![allow(clippy::expect_used, clippy::panic)]

mod bucket;
mod settings;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt, stream};
use nh_blobs::{Author, BlobError, BlobSettings, Blobs, BlobsSetup, Bucket, New, Opened, keep};
use nh_store::blobs::{Condition, PutDone, Totals};
use nh_store::{Idempotency, Once, Store, workspaces};
use nh_testkit::{FixedClock, SeededIds, TestStore, each_engine};
use nh_types::agent::AgentDefinition;
use nh_types::blob::Access;
use nh_types::{ApiError, Clock, ErrorCode, WorkspaceId};
use tokio_util::sync::CancellationToken;

struct Fixture {
    blobs: Blobs,
    clock: FixedClock,
    workspace_id: WorkspaceId,
    files: tempfile::TempDir,
}

impl Fixture {
    async fn new(store: &Store) -> Self {
        Self::with(store, None).await
    }

    async fn with(store: &Store, bucket: Option<Bucket>) -> Self {
        let (clock, ids) = (FixedClock::default(), SeededIds::new(5));
        let workspace_id = WorkspaceId::generate(&ids);
        let workspace =
            workspaces::Workspace { id: workspace_id.clone(), name: "w".to_owned(), created_at: clock.now() };
        let create = workspaces::Create { workspace, default_agent: AgentDefinition::default_agent() };
        store.write(create).await.expect("a workspace");
        let files = tempfile::tempdir().expect("a directory");
        let blobs = Blobs::new(BlobsSetup {
            store: store.clone(),
            directory: files.path().join("blobs"),
            bucket,
            settings: BlobSettings::default(),
            clock: Arc::new(clock.clone()),
            ids: Arc::new(ids),
        });
        Self { blobs, clock, workspace_id, files }
    }

    async fn put(
        &self,
        name: &str,
        body: impl Stream<Item = Result<Bytes, BlobError>>,
    ) -> Result<Once<PutDone>, BlobError> {
        let author =
            Author { workspace_id: self.workspace_id.clone(), created_by: "key:1".to_owned(), run: None };
        let new = New {
            pathname: name.parse().expect("a name"),
            content_type: None,
            access: Access::Private,
            cache_seconds: None,
            expires_at: None,
            condition: Condition::Any,
            size: None,
        };
        self.blobs.put(author, new, body, None::<fn(&[u8; 32]) -> Idempotency>).await
    }

    async fn read(&self, name: &str) -> Option<Vec<u8>> {
        let opened =
            self.blobs.open(&self.workspace_id, &name.parse().expect("a name")).await.expect("opened")?;
        let size = opened.blob.size;
        let pieces: Vec<Bytes> =
            opened.read(0..size).await.expect("opened").try_collect().await.expect("read");
        Some(pieces.concat())
    }

    async fn open(&self, name: &str) -> Opened {
        let name = name.parse().expect("a name");
        self.blobs.open(&self.workspace_id, &name).await.expect("opened").expect("there")
    }

    async fn totals(&self) -> Totals {
        self.blobs.totals(&self.workspace_id).await.expect("totals")
    }

    /// What a hub does in the background, until that is so.
    async fn keep_until(&self, is_so: impl Fn() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            () = keep(self.blobs.clone(), CancellationToken::new()) => {}
            () = waiting => {}
        }
    }

    fn files(&self) -> usize {
        files(self.files.path())
    }
}

fn files(directory: &Path) -> usize {
    let Ok(directories) = std::fs::read_dir(directory.join("blobs")) else { return 0 };
    directories
        .map(|one| std::fs::read_dir(one.expect("an entry").path()).expect("a directory").count())
        .sum()
}

fn pieces(count: usize) -> impl Stream<Item = Result<Bytes, BlobError>> {
    stream::iter((0..count).map(|number| Ok(Bytes::from(vec![number as u8; 10_000]))))
}

each_engine! {
    async fn what_is_broken_off_leaves_nothing(store: TestStore) {
        let fixture = Fixture::new(store.store()).await;
        let broken = || Err(ApiError::new(ErrorCode::RequestTimeout, "no more came").into());
        let body = stream::iter((0..30).map(|_| Ok(Bytes::from(vec![1; 10_000]))).chain([broken()]));
        assert!(fixture.put("a", body).await.is_err());
        fixture.keep_until(|| fixture.files() == 0).await;
        assert_eq!(fixture.read("a").await, None);
        assert_eq!(fixture.totals().await, Totals::default());
    }

    async fn an_upload_that_took_too_long_is_refused_and_not_half_there(store: TestStore) {
        let fixture = Fixture::new(store.store()).await;
        let (clock, other) = (fixture.clock.clone(), fixture.blobs.clone());
        let directory = fixture.files.path().to_owned();
        // Before the last piece comes, another process finds the place to be nobody's.
        let body = stream::unfold(0, |number| {
            let (clock, other, directory) = (clock.clone(), other.clone(), directory.clone());
            async move {
                if number == 20 {
                    clock.advance_ms(60 * 60_000);
                    let swept = async {
                        while files(&directory) > 0 {
                            tokio::task::yield_now().await;
                        }
                    };
                    tokio::select! { () = keep(other, CancellationToken::new()) => {}, () = swept => {} }
                }
                (number <= 20).then(|| (Ok(Bytes::from(vec![2; 100_000])), number + 1))
            }
        });
        let Err(BlobError::Refused(error)) = fixture.put("a", body).await else { panic!("it was put") };
        assert_eq!(error.code, ErrorCode::ComponentUnavailable);
        assert_eq!(fixture.read("a").await, None);
        assert!(fixture.put("a", pieces(20)).await.is_ok());
        assert_eq!(fixture.read("a").await.map(|bytes| bytes.len()), Some(200_000));
    }

    async fn what_is_replaced_is_read_to_its_end_and_then_gone(store: TestStore) {
        let fixture = Fixture::new(store.store()).await;
        fixture.put("a", pieces(50)).await.expect("put");
        let opened = fixture.open("a").await;
        fixture.put("a", pieces(20)).await.expect("put");
        fixture.keep_until(|| fixture.files() == 1).await;
        let old: Vec<Bytes> = opened.read(0..500_000).await.expect("opened").try_collect().await.expect("read");
        assert_eq!(old.concat().len(), 500_000);
        assert_eq!(fixture.read("a").await.map(|bytes| bytes.len()), Some(200_000));
    }
}
