//! The one writer of a process: group commit.
//!
//! It waits for a write, takes what else is queued, applies all of it in one
//! transaction, commits once, and only then answers. There is no timer: under
//! load the queue fills while a commit is under way. There are no savepoints:
//! they cost more than the rare batch that is rolled back and applied one by
//! one.
//!
//! SQLite's calls block, so there the writer has a thread. In turns with tokio's
//! threads (a commit on one that may block, the next batch in a task) it did a
//! quarter less under load.

use std::any::{Any, TypeId};
use std::collections::BTreeSet;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use metrics::{Histogram, histogram};
use nh_types::crash;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connect::Target;
use crate::known::Known;
use crate::ledger::{self, Touched};
use crate::sql::Readers;
use crate::{StoreError, Tx, Write};

/// Writes in one commit.
const MAX_BATCH: usize = 512;

/// Times that every ready task has run without a new write, before a commit:
/// other threads may be in the middle of theirs.
const QUIET_PASSES: usize = 4;

/// A batch that takes longer has met a dead connection or disk.
const BATCH_TIMEOUT: Duration = Duration::from_secs(60);

/// How often a write that lost a race with another node is tried by itself.
const MAX_TRIES: u32 = 3;

type BoxFuture<'t, T> = Pin<Box<dyn Future<Output = T> + Send + 't>>;

/// Applies jobs of one kind together, and keeps their answers in them.
type Apply = for<'t> fn(Vec<&'t mut dyn Job>, &'t mut Tx) -> BoxFuture<'t, Result<(), StoreError>>;

/// A queued write, whatever its type.
pub(crate) trait Job: Any + Send {
    /// The type of the write, and how writes of this type are applied.
    fn kind(&self) -> (TypeId, Apply);

    fn touches(&self) -> Vec<Touched<'_>>;

    fn as_any(&mut self) -> &mut dyn Any;

    /// Tells whoever waits the answer that was kept; for after the commit only.
    fn answer(self: Box<Self>);

    fn fail(self: Box<Self>, error: StoreError);
}

struct Pending<W: Write> {
    write: W,
    answer: Option<Result<W::Output, StoreError>>,
    waiting: oneshot::Sender<Result<W::Output, StoreError>>,
}

/// Where the answer of a write comes.
type Answer<W> = oneshot::Receiver<Result<<W as Write>::Output, StoreError>>;

/// A write as the queue holds it.
pub(crate) fn job<W: Write>(write: W) -> (Box<dyn Job>, Answer<W>) {
    let (waiting, answer) = oneshot::channel();
    (Box::new(Pending { write, answer: None, waiting }), answer)
}

impl<W: Write> Job for Pending<W> {
    fn kind(&self) -> (TypeId, Apply) {
        (TypeId::of::<W>(), apply_pending::<W>)
    }

    fn touches(&self) -> Vec<Touched<'_>> {
        self.write.touches()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }

    fn answer(self: Box<Self>) {
        // Whoever asked may have gone away; the write is kept all the same.
        let _ = self.waiting.send(self.answer.unwrap_or(Err(StoreError::Closed)));
    }

    fn fail(self: Box<Self>, error: StoreError) {
        let _ = self.waiting.send(Err(error));
    }
}

fn apply_pending<'t, W: Write>(
    group: Vec<&'t mut dyn Job>,
    tx: &'t mut Tx,
) -> BoxFuture<'t, Result<(), StoreError>> {
    Box::pin(async move {
        let mut group: Vec<&mut Pending<W>> =
            group.into_iter().filter_map(|job| job.as_any().downcast_mut()).collect();
        let writes: Vec<&W> = group.iter().map(|pending| &pending.write).collect();
        let answers = W::apply_group(&writes, tx).await?;
        for (pending, answer) in group.iter_mut().zip(answers) {
            pending.answer = Some(answer);
        }
        Ok(())
    })
}

type Batch = Vec<Box<dyn Job>>;

/// Why a transaction was not committed.
enum Stop {
    /// A write failed; the connection is fine.
    Spoiled(StoreError),
    /// The connection failed before the commit was asked for.
    Broken(StoreError),
    /// The commit failed, or its answer was lost.
    Unknown(StoreError),
}

/// Owns the writing connection, which is made anew when it breaks.
pub(crate) struct Writer {
    target: Target,
    tx: Option<Tx>,
    known: Arc<Known>,
    commit_writes: Histogram,
    commit_seconds: Histogram,
}

impl Writer {
    pub(crate) fn new(target: Target, tx: Tx, known: Arc<Known>) -> Self {
        let commit_writes = histogram!("neuralhub_store_commit_writes");
        let commit_seconds = histogram!("neuralhub_store_commit_seconds");
        Self { target, tx: Some(tx), known, commit_writes, commit_seconds }
    }

    /// Serves the queue until it is closed and drained: in a task; where the
    /// connection blocks, on a thread, which goes from one commit to the next
    /// without waiting for another to take turns.
    pub(crate) fn start(
        self,
        queue: mpsc::Receiver<Box<dyn Job>>,
        closing: CancellationToken,
        readers: Readers,
        tasks: &TaskTracker,
    ) -> Result<(), StoreError> {
        let blocks = self.tx.as_ref().is_some_and(Tx::blocks);
        let run = self.run(queue, closing, readers, blocks);
        if !blocks {
            tasks.spawn(run);
            return Ok(());
        }
        let (runtime, running) = (Handle::current(), tasks.token());
        let serve = move || {
            runtime.block_on(run);
            drop(running);
        };
        match Builder::new().name("store-writer".to_owned()).spawn(serve) {
            Ok(_) => Ok(()),
            Err(error) => Err(StoreError::Settings(format!(
                "the store's writing thread could not be started: {error}; allow this process more threads"
            ))),
        }
    }

    /// At the end it closes the readers and, last, the writing connection:
    /// SQLite tidies its files when the last connection that may write closes.
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Box<dyn Job>>,
        closing: CancellationToken,
        readers: Readers,
        blocks: bool,
    ) {
        let mut last = 0;
        loop {
            let first = tokio::select! {
                biased;
                () = closing.cancelled(), if !queue.is_closed() => {
                    queue.close();
                    continue;
                }
                first = queue.recv() => first,
            };
            let Some(first) = first else { break };
            if !blocks {
                let_others_queue(&queue, last).await;
            }
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH {
                let Ok(job) = queue.try_recv() else { break };
                batch.push(job);
            }
            last = batch.len();
            self.write(batch).await;
        }
        readers.close().await;
        if let Some(tx) = self.tx.take()
            && let Err(error) = tx.close().await
        {
            tracing::warn!(%error, "the store's writing connection did not close cleanly");
        }
    }

    /// Writes a batch and answers all of it.
    async fn write(&mut self, mut batch: Batch) {
        match self.attempt(&mut batch).await {
            Ok(()) => answer_all(batch),
            Err(Stop::Broken(error) | Stop::Unknown(error)) => fail_all(batch, &error),
            Err(Stop::Spoiled(error)) => {
                tracing::debug!(%error, writes = batch.len(), "a batch failed; its writes go one by one");
                self.write_one_by_one(batch).await;
            }
        }
    }

    /// The bad writes of a spoiled batch fail alone.
    async fn write_one_by_one(&mut self, batch: Batch) {
        let mut jobs = batch.into_iter();
        while let Some(job) = jobs.next() {
            let mut alone = vec![job];
            let mut tries = 1;
            let outcome = loop {
                match self.attempt(&mut alone).await {
                    Err(Stop::Spoiled(error)) if error.is_lost_race() && tries < MAX_TRIES => tries += 1,
                    outcome => break outcome,
                }
            };
            match outcome {
                Ok(()) => answer_all(alone),
                Err(Stop::Spoiled(error)) => fail_all(alone, &error),
                Err(Stop::Broken(error) | Stop::Unknown(error)) => {
                    fail_all(alone, &error);
                    return fail_all(jobs.collect(), &error);
                }
            }
        }
    }

    /// One transaction. An old connection that turns out to be broken before
    /// the commit was asked for is made anew once.
    async fn attempt(&mut self, batch: &mut Batch) -> Result<(), Stop> {
        if let Some(tx) = self.tx.take() {
            match self.transaction(tx, batch).await {
                Err(Stop::Broken(error)) => {
                    tracing::warn!(%error, "the store's connection broke; connecting again")
                }
                outcome => return outcome,
            }
        }
        let tx = self.target.connect_writer().await.map_err(Stop::Broken)?;
        self.transaction(tx, batch).await
    }

    /// Keeps the connection for the next transaction if it is still good.
    async fn transaction(&mut self, mut tx: Tx, batch: &mut Batch) -> Result<(), Stop> {
        let began = Instant::now();
        let tried = AssertUnwindSafe(timeout(BATCH_TIMEOUT, transact(&mut tx, batch)));
        let caught = tried.catch_unwind().await;
        if tx.take_changes_definitions() {
            self.known.forget();
        }
        let Ok(outcome) = caught else {
            tracing::error!(writes = batch.len(), "a write panicked; none of its batch is told yes");
            return Err(Stop::Unknown(StoreError::Closed));
        };
        // When the time is up the connection is dropped in the middle of whatever
        // it did, so nothing is known about the commit.
        let Ok(outcome) = outcome else {
            let after_ms = BATCH_TIMEOUT.as_millis() as u64;
            return Err(Stop::Unknown(StoreError::TimedOut { after_ms }));
        };
        let is_good = match &outcome {
            Ok(()) => true,
            Err(Stop::Broken(_)) => false,
            Err(Stop::Spoiled(_) | Stop::Unknown(_)) => {
                matches!(timeout(BATCH_TIMEOUT, tx.rollback()).await, Ok(Ok(())))
            }
        };
        self.tx = is_good.then_some(tx);
        if outcome.is_ok() {
            self.commit_writes.record(batch.len() as f64);
            self.commit_seconds.record(began.elapsed());
        }
        outcome
    }
}

/// Whoever the last commit answered is about to write again, so that one commit
/// serves many: lets every task that is ready run, as long as that brings more
/// writes and there are fewer than a third of the last commit's. The others come
/// while this one is under way: neither the database nor the tasks wait. A
/// writer with a thread of its own gains nothing by it.
async fn let_others_queue(queue: &mpsc::Receiver<Box<dyn Job>>, last: usize) {
    let (mut queued, mut quiet) = (queue.len(), 0);
    while quiet < QUIET_PASSES && queued < last / 3 {
        tokio::task::yield_now().await;
        quiet = if queue.len() > queued { 0 } else { quiet + 1 };
        queued = queue.len();
    }
}

async fn transact(tx: &mut Tx, batch: &mut Batch) -> Result<(), Stop> {
    let before_commit = |error: StoreError| match error {
        StoreError::Unavailable(_) => Stop::Broken(error),
        _ => Stop::Spoiled(error),
    };
    tx.begin().await.map_err(before_commit)?;
    apply(tx, batch).await.map_err(before_commit)?;
    crash::point(|| "before a commit".to_owned());
    tx.commit().await.map_err(Stop::Unknown)?;
    crash::point(|| "after a commit".to_owned());
    Ok(())
}

/// Applies a batch, kind by kind.
async fn apply(tx: &mut Tx, batch: &mut Batch) -> Result<(), StoreError> {
    let touched: BTreeSet<_> = batch.iter().flat_map(|job| job.touches()).collect();
    if !touched.is_empty() {
        ledger::lock(tx, touched).await?;
    }
    let mut groups: Vec<(TypeId, Apply, Vec<&mut dyn Job>)> = Vec::new();
    for job in batch.iter_mut() {
        let (kind, apply) = job.kind();
        match groups.iter_mut().find(|(known, ..)| *known == kind) {
            Some((.., group)) => group.push(job.as_mut()),
            None => groups.push((kind, apply, vec![job.as_mut()])),
        }
    }
    for (_, apply, group) in groups {
        apply(group, tx).await?;
    }
    Ok(())
}

fn answer_all(batch: Batch) {
    batch.into_iter().for_each(|job| job.answer());
}

fn fail_all(batch: Batch, error: &StoreError) {
    batch.into_iter().for_each(|job| job.fail(error.clone()));
}

#[cfg(test)]
mod tests;
