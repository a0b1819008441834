//! One sandbox that runs: who waits for a turn in it, and what ends it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use nh_guest::protocol::Language;
use nh_store::sandboxes::SandboxRecord;
use nh_types::sandbox::{SandboxUsage, StopReason};
use nh_types::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::drivers::{Meter, Running};
use crate::error::ComputeError;
use crate::guest::Guest;

/// Pieces of code of one language that wait for those before them.
const MAX_WAITING: usize = 16;
/// Commands at once: what each says is in memory until it ends.
const MAX_COMMANDS: usize = 8;
/// Files at once.
const MAX_FILES: usize = 32;
/// To servers inside, at once. A browser begins six.
const MAX_CONNECTIONS: usize = 64;
const RETRY_AFTER_SECONDS: u64 = 1;

pub(crate) struct Live {
    /// As it was when it started.
    pub(crate) record: SandboxRecord,
    pub(crate) guest: Guest,
    pub(crate) meter: Meter,
    executions: AtomicU64,
    code: HashMap<Language, Line>,
    commands: Line,
    files: Line,
    connections: Line,
    /// When its life is over.
    expires: watch::Sender<Instant>,
    /// Why it is to end.
    asked: watch::Sender<Option<End>>,
    /// Nothing of it is left, and its row says so.
    gone: CancellationToken,
}

/// Those who do the same in a sandbox.
struct Line {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    max_waiting: usize,
}

/// What becomes of the row of a sandbox that is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Stopped(StopReason),
    /// Somebody deleted it, so there is none.
    Deleted,
}

impl Line {
    fn new(at_once: usize, max_waiting: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once)), waiting: AtomicUsize::new(0), max_waiting }
    }

    async fn turn(&self, what: &str) -> Result<OwnedSemaphorePermit, ComputeError> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let waits = Waits(&self.waiting);
        if before >= self.max_waiting {
            let message = format!("{before} {what} wait in this sandbox already, as many as may; try again");
            let full = ApiError::new(ErrorCode::QueueFull, message).retry_after(RETRY_AFTER_SECONDS);
            return Err(full.into());
        }
        let turn = self.turns.clone().acquire_owned().await;
        drop(waits);
        // The line is never closed.
        turn.map_err(|_| ApiError::new(ErrorCode::Internal, "a closed line").into())
    }
}

/// Counts until it is dropped.
struct Waits<'l>(&'l AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Live {
    pub(crate) fn new(record: SandboxRecord, running: &Running, life: Duration) -> Self {
        let languages = [Language::Python, Language::Nodejs, Language::Bash];
        Self {
            record,
            guest: running.guest.clone(),
            meter: running.meter(),
            executions: AtomicU64::new(0),
            code: languages.map(|language| (language, Line::new(1, MAX_WAITING))).into(),
            commands: Line::new(MAX_COMMANDS, MAX_WAITING),
            files: Line::new(MAX_FILES, MAX_WAITING),
            connections: Line::new(MAX_CONNECTIONS, MAX_WAITING),
            expires: watch::Sender::new(Instant::now() + life),
            asked: watch::Sender::new(None),
            gone: CancellationToken::new(),
        }
    }

    /// Waits until code of a language may begin, or a command.
    pub(crate) async fn turn(
        &self,
        language: Option<Language>,
    ) -> Result<OwnedSemaphorePermit, ComputeError> {
        match language.and_then(|language| self.code.get(&language)) {
            Some(line) => line.turn("pieces of code of this language").await,
            None => self.commands.turn("commands").await,
        }
    }

    /// Waits until something may be done with a file.
    pub(crate) async fn file(&self) -> Result<OwnedSemaphorePermit, ComputeError> {
        self.files.turn("requests for files").await
    }

    /// Waits until another connection may be made.
    pub(crate) async fn connection(&self) -> Result<OwnedSemaphorePermit, ComputeError> {
        self.connections.turn("connections").await
    }

    pub(crate) fn begun(&self) {
        self.executions.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn usage(&self) -> SandboxUsage {
        SandboxUsage {
            cpu_seconds: self.meter.cpu_seconds(),
            memory_bytes: self.meter.memory_bytes(),
            executions: self.executions.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn prolong(&self, life: Duration) {
        self.expires.send_replace(Instant::now() + life);
    }

    /// Until its life is over, however often that is prolonged.
    pub(crate) async fn life_over(&self) {
        let mut expires = self.expires.subscribe();
        loop {
            let until = *expires.borrow_and_update();
            tokio::select! {
                () = sleep_until(until) => return,
                // It has its own sender.
                _ = expires.changed() => {}
            }
        }
    }

    /// Has it ended. What is asked first is why; only that it is to be forgotten may come
    /// after that.
    pub(crate) fn ask(&self, end: End) {
        self.asked.send_if_modified(|asked| {
            let counts = asked.is_none() || end == End::Deleted;
            if counts {
                *asked = Some(end);
            }
            counts
        });
    }

    pub(crate) async fn asked(&self) -> End {
        let mut asked = self.asked.subscribe();
        match asked.wait_for(Option::is_some).await.map(|end| *end) {
            Ok(Some(end)) => end,
            _ => std::future::pending().await,
        }
    }

    /// What was asked for, where something was.
    pub(crate) fn last_asked(&self) -> Option<End> {
        *self.asked.borrow()
    }

    pub(crate) fn set_gone(&self) {
        self.gone.cancel();
    }

    pub(crate) async fn gone(&self) {
        self.gone.cancelled().await;
    }
}
