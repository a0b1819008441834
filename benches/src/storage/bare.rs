//! Objects written and read without a hub: no HTTP, no hash, no totals, nothing
//! looked up.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use bytes::Bytes;
use nh_types::{Clock as _, Ids as _, SystemClock, SystemIds};
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

use super::{ID_LETTERS, LOWER, connect, new_store};
use crate::load::Loaded;

const INSERT_BLOB: &str = "insert into blobs (workspace_id, pathname, bytes_id, size, sha256, content_type, \
     access, cache_seconds, uploaded_at, expires_at, created_by, run_id, step) \
     values (?1, ?2, ?3, ?4, ?5, 'application/octet-stream', 'private', null, ?6, null, 'key:1', null, null)";
const INSERT_BYTES: &str = "insert into blob_bytes (id, refs, data, pieces) values (?1, 1, ?2, null)";
const SELECT: &str = "select b.size, b.sha256, b.content_type, d.data from blobs b \
     join blob_bytes d on d.id = b.bytes_id where b.workspace_id = ?1 and b.pathname = ?2";

/// What becomes of SQLite's write-ahead log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// It is written back into the file as SQLite does by itself: every 1,000 pages
    /// (about as often as the hub does), in the commit that made it so long.
    WrittenBack,
    /// It grows. No writer could do so for long; none is faster.
    Left,
}

/// Who is answered when the object of this name is durable.
struct Submitted {
    pathname: String,
    done: oneshot::Sender<()>,
}

/// The rows of objects in a file of their own, which goes when this is dropped.
pub struct Rows {
    _directory: tempfile::TempDir,
    file: PathBuf,
    workspace_id: String,
    log: Log,
}

impl Rows {
    pub async fn new(directory: &Path, log: Log) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir_in(directory)?;
        let (file, workspace_id) = new_store(directory.path()).await?;
        Ok(Self { _directory: directory, file, workspace_id: workspace_id.as_str().to_owned(), log })
    }

    /// One connection on a thread writes what `in_flight` submitters have queued, in
    /// one transaction, and then answers all of it.
    pub async fn puts(&self, data: &Bytes, in_flight: usize, seconds: f64) -> anyhow::Result<Loaded> {
        let (queue, queued) = mpsc::unbounded_channel::<Submitted>();
        let (file, workspace_id, data) = (self.file.clone(), self.workspace_id.clone(), data.clone());
        let log = self.log;
        let writer = std::thread::spawn(move || {
            let connection = connect(&file)?;
            if log == Log::Left {
                connection.execute_batch("pragma wal_autocheckpoint = 0")?;
            }
            write_groups(connection, &workspace_id, &data, queued)
        });
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(seconds);
        let begun = Arc::new(AtomicU64::new(0));
        let mut submitters = tokio::task::JoinSet::new();
        for _ in 0..in_flight {
            submitters.spawn(submit(queue.clone(), begun.clone(), until));
        }
        drop(queue);
        let mut latencies = Vec::new();
        while let Some(of_one) = submitters.join_next().await {
            latencies.extend(of_one??);
        }
        let seconds = started.elapsed().as_secs_f64();
        writer.join().map_err(|_| anyhow!("the bare writer panicked"))??;
        latencies.sort_unstable();
        Ok(Loaded { requests: latencies.len() as u64, seconds, latencies })
    }

    /// Reads a second of what [`Rows::puts`] wrote `count` of, on one connection, one
    /// after the other.
    pub fn reads_per_second(&self, count: u64, seconds: f64) -> anyhow::Result<f64> {
        let connection = connect(&self.file)?;
        let mut select = connection.prepare(SELECT)?;
        let started = Instant::now();
        let (mut reads, mut bytes) = (0, 0);
        while started.elapsed().as_secs_f64() < seconds {
            let key = params![self.workspace_id, name(spread(reads, count))];
            let row = |row: &rusqlite::Row<'_>| {
                let (_, _, _): (i64, [u8; 32], String) = (row.get(0)?, row.get(1)?, row.get(2)?);
                row.get::<_, Vec<u8>>(3)
            };
            bytes += select.query_row(key, row).context("the bare reader")?.len();
            reads += 1;
        }
        anyhow::ensure!(bytes > 0, "nothing was read");
        Ok(reads as f64 / started.elapsed().as_secs_f64())
    }
}

/// The name of the object of this number.
pub fn name(number: u64) -> String {
    format!("objects/{number:08}.bin")
}

/// The numbers below `count` in another order, for readers.
pub fn spread(number: u64, count: u64) -> u64 {
    number.wrapping_mul(7919) % count.max(1)
}

async fn submit(
    queue: mpsc::UnboundedSender<Submitted>,
    begun: Arc<AtomicU64>,
    until: Instant,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while Instant::now() < until {
        let from = Instant::now();
        let (done, is_done) = oneshot::channel();
        let pathname = name(begun.fetch_add(1, Ordering::Relaxed));
        queue.send(Submitted { pathname, done }).map_err(|_| anyhow!("the bare writer failed"))?;
        is_done.await.context("the bare writer failed")?;
        latencies.push(from.elapsed());
    }
    Ok(latencies)
}

fn write_groups(
    mut connection: Connection,
    workspace_id: &str,
    data: &[u8],
    mut queued: mpsc::UnboundedReceiver<Submitted>,
) -> anyhow::Result<()> {
    while let Some(first) = queued.blocking_recv() {
        let mut group = vec![first];
        while let Ok(next) = queued.try_recv() {
            group.push(next);
        }
        let now = SystemClock.now().as_millis();
        let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for Submitted { pathname, .. } in &group {
            let id = SystemIds.text(LOWER, ID_LETTERS);
            let hash = [7_u8; 32];
            let size = data.len() as i64;
            tx.prepare_cached(INSERT_BLOB)?.execute(params![workspace_id, pathname, id, size, hash, now])?;
            tx.prepare_cached(INSERT_BYTES)?.execute(params![id, data])?;
        }
        tx.commit()?;
        for Submitted { done, .. } in group {
            let _ = done.send(());
        }
    }
    Ok(())
}

/// Files a second that so many threads write, each synced with its directory.
pub fn files_per_second(
    directory: &Path,
    data: &[u8],
    in_flight: usize,
    seconds: f64,
) -> anyhow::Result<f64> {
    let directory = tempfile::tempdir_in(directory)?;
    let started = Instant::now();
    let write = |thread: usize| -> anyhow::Result<u64> {
        let mut files = 0;
        while started.elapsed().as_secs_f64() < seconds {
            let mut file = File::create_new(directory.path().join(format!("{thread}-{files}")))?;
            file.write_all(data)?;
            file.sync_all()?;
            File::open(directory.path())?.sync_all()?;
            files += 1;
        }
        Ok(files)
    };
    let files = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..in_flight).map(|thread| scope.spawn(move || write(thread))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a bare writer of files panicked"))?)
            .sum::<anyhow::Result<u64>>()
    })?;
    Ok(files as f64 / started.elapsed().as_secs_f64())
}
