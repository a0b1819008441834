//! Objects in a bucket: run them through `scripts/with-s3`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use nh_blobs::{BlobError, BlobSettings, Bucket, BucketError, keep};
use nh_store::blobs::Totals;
use nh_testkit::{SeededIds, TestBucket, TestStore};
use nh_types::{ApiError, ErrorCode};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Fixture;

const MIB: usize = 1024 * 1024;
/// Of one object in the bucket.
const PIECE_BYTES: usize = 8 * MIB;

fn settings(bucket: &TestBucket) -> BlobSettings {
    BlobSettings {
        url: Some(bucket.url.clone()),
        endpoint: Some(bucket.endpoint.parse().expect("an address")),
        access_key_id: Some(TestBucket::ACCESS_KEY_ID.to_owned()),
        secret_access_key: Some(TestBucket::SECRET_ACCESS_KEY.into()),
        ..BlobSettings::default()
    }
}

fn resolved(settings: &BlobSettings) -> Bucket {
    Bucket::resolve(settings, |_| None).expect("right").expect("a bucket")
}

async fn fixture(store: &TestStore, settings: &BlobSettings) -> Fixture {
    Fixture::with(store.store(), Some(resolved(settings))).await
}

/// Such that each MiB differs from the others.
fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8 ^ (at / MIB) as u8).collect()
}

fn chunks(bytes: &[u8]) -> Vec<Result<Bytes, BlobError>> {
    bytes.chunks(100_000).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect()
}

fn body(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, BlobError>> + use<> {
    stream::iter(chunks(bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_read_whole_and_in_part_across_the_borders_of_pieces() {
    let (store, bucket) = (TestStore::memory().await, TestBucket::start());
    let fixture = fixture(&store, &settings(&bucket)).await;
    let mut objects = 0;
    for (size, pieces) in [(1000, 0), (65_537, 1), (PIECE_BYTES, 1), (PIECE_BYTES + 1, 2), (20 * MIB, 3)] {
        let bytes = content(size);
        let name = format!("{size}");
        fixture.put(&name, body(&bytes)).await.expect("put");
        objects += pieces;
        assert_eq!(bucket.objects(), objects, "{size}");
        let opened = fixture.open(&name).await;
        assert_eq!(opened.blob.size, size as u64);
        assert_eq!(opened.blob.sha256[..], Sha256::digest(&bytes)[..]);
        assert!(fixture.read(&name).await.expect("there") == bytes, "{size}");
    }
    let (name, bytes) = ((20 * MIB).to_string(), content(20 * MIB));
    for (first, last) in [
        (0, 1),
        (PIECE_BYTES - 1, PIECE_BYTES + 1),
        (PIECE_BYTES, PIECE_BYTES + 10),
        (100, 20 * MIB - 100),
        (20 * MIB - 1, 20 * MIB),
        (5, 5),
    ] {
        let read = fixture.open(&name).await.read(first as u64..last as u64).await.expect("opened");
        let read: Vec<Bytes> = read.try_collect().await.expect("read");
        assert!(read.concat() == bytes[first..last], "{first}..{last}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_replaced_or_deleted_leaves_the_bucket() {
    let (store, bucket) = (TestStore::memory().await, TestBucket::start());
    let fixture = fixture(&store, &settings(&bucket)).await;
    let large = content(17 * MIB);
    fixture.put("a", body(&large)).await.expect("put");
    let reading = fixture.open("a").await.read(0..large.len() as u64).await.expect("opened");
    fixture.put("a", body(&content(MIB))).await.expect("put");
    fixture.put("b", body(&content(MIB))).await.expect("put");
    fixture.clock.advance_ms(45 * 60_000);
    let deleted =
        |name: &str| fixture.blobs.delete(&fixture.workspace_id, vec![name.parse().expect("a name")], None);
    assert_eq!(deleted("b").await.expect("deleted"), Some(1));
    // The sweep comes by.
    fixture.keep_until(|| bucket.objects() == 4).await;
    let read: Vec<Bytes> = reading.try_collect().await.expect("who reads what is replaced reads it on");
    assert!(read.concat() == large);
    fixture.clock.advance_ms(20 * 60_000);
    fixture.keep_until(|| bucket.objects() == 1).await;
    assert!(fixture.read("a").await.expect("there") == content(MIB));
    assert_eq!(deleted("a").await.expect("deleted"), Some(1));
    fixture.keep_until(|| bucket.objects() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_breaks_off_leaves_nothing_behind_the_sweep() {
    let (store, bucket) = (TestStore::memory().await, TestBucket::start());
    let fixture = fixture(&store, &settings(&bucket)).await;
    let there = bucket.clone();
    let breaks_off = stream::once(async move {
        while there.objects() < 2 {
            tokio::task::yield_now().await;
        }
        Err(ApiError::new(ErrorCode::RequestTimeout, "no more came").into())
    });
    let body = stream::iter(chunks(&content(17 * MIB))).chain(breaks_off);
    assert!(fixture.put("a", body).await.is_err());
    fixture.clock.advance_ms(60 * 60_000);
    fixture.keep_until(|| bucket.objects() == 0).await;
    assert_eq!(fixture.read("a").await, None);
    assert_eq!(fixture.totals().await, Totals::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pieces_of_a_long_upload_are_held_until_its_end() {
    let (store, bucket) = (TestStore::memory().await, TestBucket::start());
    let fixture = fixture(&store, &settings(&bucket)).await;
    let bytes = content(20 * MIB);
    let clock = fixture.clock.clone();
    // Half an hour in all, and a place is held for a quarter.
    let body = stream::iter(bytes.chunks(2 * MIB).map(Bytes::copy_from_slice)).map(move |chunk| {
        clock.advance_ms(3 * 60_000);
        Ok(chunk)
    });
    fixture.put("a", body).await.expect("put");
    assert!(fixture.read("a").await.expect("there") == bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_another_process_gave_up_is_refused() {
    let (store, bucket) = (TestStore::memory().await, TestBucket::start());
    let fixture = fixture(&store, &settings(&bucket)).await;
    let (clock, other, there) = (fixture.clock.clone(), fixture.blobs.clone(), bucket.clone());
    let pause = stream::once(async move {
        while there.objects() < 1 {
            tokio::task::yield_now().await;
        }
        clock.advance_ms(60 * 60_000);
        let swept = async {
            while there.objects() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { () = keep(other, CancellationToken::new()) => {}, () = swept => {} }
        Ok(Bytes::new())
    });
    let body = body(&content(9 * MIB)).chain(pause).chain(body(&content(9 * MIB)));
    let Err(BlobError::Refused(error)) = fixture.put("a", body).await else { panic!("it was put") };
    assert_eq!(error.code, ErrorCode::ComponentUnavailable);
    assert_eq!((fixture.read("a").await, bucket.objects()), (None, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_bucket_is_told_without_its_secret() {
    let bucket = TestBucket::start();
    let right = settings(&bucket);
    resolved(&right).probe(&SeededIds::new(1)).await.expect("usable");
    assert_eq!(bucket.objects(), 0);

    let wrong_secret = BlobSettings { secret_access_key: Some("wrong-secret".into()), ..right.clone() };
    let elsewhere = BlobSettings { url: Some("s3://no-such-bucket".to_owned()), ..right.clone() };
    // Nothing listens where the port was only asked for.
    let closed = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let away =
        BlobSettings { endpoint: Some(format!("http://{closed}").parse().expect("an address")), ..right };
    for (settings, expected) in [
        (wrong_secret, "refuses the credentials (403 Forbidden: SignatureDoesNotMatch"),
        (elsewhere, "there is no such bucket"),
        (away, "cannot be reached: no connection to `127.0.0.1`"),
    ] {
        let probed = resolved(&settings).probe(&SeededIds::new(1)).await.expect_err("not usable").to_string();
        assert!(probed.contains(expected), "{probed}");
        let store = TestStore::memory().await;
        let fixture = fixture(&store, &settings).await;
        let Err(BlobError::Bucket(error)) = fixture.put("a", body(&content(MIB))).await else {
            panic!("it was put");
        };
        let error = error.to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("wrong-secret") && !error.contains(TestBucket::SECRET_ACCESS_KEY), "{error}");
        assert_eq!(fixture.totals().await, Totals::default());
    }
    assert_eq!(bucket.objects(), 0);
}

/// In front of the server: passes so many bytes of each connection's answers on,
/// then ends it.
async fn breaking_off_after(bucket: &TestBucket, bytes: Arc<AtomicU64>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, server) = (listener.local_addr().expect("an address"), bucket.address().to_owned());
    let tasks = TaskTracker::new();
    tasks.clone().spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, bytes) = (server.clone(), bytes.load(Ordering::SeqCst));
            tasks.spawn(async move {
                let server = TcpStream::connect(server).await.expect("the tests' S3 server");
                let (mut from_client, mut to_client) = client.into_split();
                let (from_server, mut to_server) = server.into_split();
                let asking = tokio::io::copy(&mut from_client, &mut to_server);
                let mut answer = from_server.take(bytes);
                let answering = tokio::io::copy(&mut answer, &mut to_client);
                tokio::select! { _ = asking => {}, _ = answering => {} }
                let _ = to_client.shutdown().await;
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_breaks_off_is_gone_on_with_as_long_as_more_comes() {
    let (store, bucket) = (TestStore::memory().await, TestBucket::start());
    let passed = Arc::new(AtomicU64::new(u64::MAX));
    let address = breaking_off_after(&bucket, passed.clone()).await;
    let endpoint = Some(format!("http://{address}").parse().expect("an address"));
    let fixture = fixture(&store, &BlobSettings { endpoint, ..settings(&bucket) }).await;
    let bytes = content(6 * MIB);
    fixture.put("a", body(&bytes)).await.expect("put");
    // More often than the library under it would try again.
    passed.store(MIB as u64, Ordering::SeqCst);
    let whole = fixture.open("a").await.read(1..6 * MIB as u64).await.expect("opened");
    let whole: Vec<Bytes> = whole.try_collect().await.expect("read");
    assert!(whole.concat() == bytes[1..]);

    passed.store(100, Ordering::SeqCst);
    let Err(BlobError::Bucket(error)) = fixture.open("a").await.read(0..100_000).await else {
        panic!("it was read");
    };
    assert!(matches!(error, BucketError::Unreachable(_)), "{error}");
}
