//! The bounded way from a call to the store.

use std::sync::Arc;
use std::time::Duration;

use nh_store::usage::{RecordMany, UsageRow};
use nh_store::{Store, StoreError};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::ModelError;
use crate::ledger::Settlement;

/// Rows in one transaction.
const MAX_BATCH_ROWS: usize = 512;
/// How long a row waits for others to be written with: a commit for each would cost more than the
/// rest of its call.
const GATHER_MS: u64 = 50;
/// How long a call waits for a place before it is refused.
const RESERVE_TIMEOUT_MS: u64 = 2_000;
/// How often a batch is tried before it goes to the log instead.
const MAX_ATTEMPTS: u32 = 8;
const FIRST_RETRY_MS: u64 = 50;

enum Entry {
    Call(Box<Call>),
    Flush(oneshot::Sender<()>),
}

/// What became of a call: it was made, or something was reserved for it, or
/// both.
#[derive(Clone)]
struct Call {
    row: Option<UsageRow>,
    settlement: Option<Settlement>,
}

impl Call {
    /// None: there is nothing to write.
    fn into_unwritten(self) -> Option<Self> {
        let settlement = self.settlement.and_then(Settlement::into_unwritten);
        (self.row.is_some() || settlement.is_some()).then_some(Self { row: self.row, settlement })
    }
}

/// Takes what each model call used. A call takes its place before it begins,
/// so that recording can neither wait nor fail, and works in a `Drop`.
#[derive(Clone, Debug)]
pub struct UsageSink {
    entries: mpsc::Sender<Entry>,
    hurry: Arc<Notify>,
}

/// Writes what the sinks took. It ends when every sink is dropped.
pub struct UsageWriter {
    entries: mpsc::Receiver<Entry>,
    /// Told when somebody waits for what is to be written.
    hurry: Arc<Notify>,
}

/// A place for one row.
pub(crate) struct Place {
    permit: mpsc::OwnedPermit<Entry>,
    hurry: Arc<Notify>,
}

impl UsageSink {
    /// Calls in flight and rows not yet written, together.
    pub const DEFAULT_CAPACITY_ROWS: usize = 16_384;

    /// A sink and the writer behind it, which the owner must run:
    /// `tracker.spawn(writer.run(store))`.
    pub fn new(capacity_rows: usize) -> (UsageSink, UsageWriter) {
        let (sender, receiver) = mpsc::channel(capacity_rows.max(1));
        let hurry = Arc::new(Notify::new());
        (UsageSink { entries: sender, hurry: hurry.clone() }, UsageWriter { entries: receiver, hurry })
    }

    /// Waits until everything recorded before is written (or the writer is
    /// gone).
    pub async fn flush(&self) {
        let (sender, written) = oneshot::channel();
        if self.entries.send(Entry::Flush(sender)).await.is_ok() {
            self.hurry.notify_one();
            let _writer_gone = written.await;
        }
    }

    pub(crate) async fn reserve(&self) -> Result<Place, ModelError> {
        let place = |permit| Place { permit, hurry: self.hurry.clone() };
        match self.entries.clone().try_reserve_owned() {
            Ok(permit) => Ok(place(permit)),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(ModelError::Overloaded),
            Err(mpsc::error::TrySendError::Full(entries)) => {
                self.hurry.notify_one();
                let wait = Duration::from_millis(RESERVE_TIMEOUT_MS);
                match tokio::time::timeout(wait, entries.reserve_owned()).await {
                    Ok(Ok(permit)) => Ok(place(permit)),
                    Ok(Err(_)) | Err(_) => Err(ModelError::Overloaded),
                }
            }
        }
    }
}

impl Place {
    pub(crate) fn record(self, row: Option<UsageRow>, settlement: Option<Settlement>) {
        // Others may wait for what it gives back.
        let is_urgent = settlement.as_ref().is_some_and(Settlement::is_written_alone);
        self.permit.send(Entry::Call(Box::new(Call { row, settlement })));
        if is_urgent {
            self.hurry.notify_one();
        }
    }
}

impl UsageWriter {
    /// Writes until every sink is dropped.
    pub async fn run(mut self, store: Store) {
        let mut entries = Vec::with_capacity(MAX_BATCH_ROWS);
        while self.entries.recv_many(&mut entries, 1).await > 0 {
            let gather = Duration::from_millis(GATHER_MS);
            let _either = tokio::time::timeout(gather, self.hurry.notified()).await;
            loop {
                self.take(&mut entries);
                let may_be_more = entries.len() == MAX_BATCH_ROWS;
                write_all(&store, entries.drain(..)).await;
                if !may_be_more {
                    break;
                }
            }
        }
    }

    /// What has come, as far as it fits into one transaction.
    fn take(&mut self, entries: &mut Vec<Entry>) {
        while entries.len() < MAX_BATCH_ROWS
            && let Ok(entry) = self.entries.try_recv()
        {
            entries.push(entry);
        }
    }

    /// The next row, for tests that look at rows without a store; None when
    /// every sink is dropped.
    pub async fn next_row(&mut self) -> Option<UsageRow> {
        loop {
            match self.entries.recv().await? {
                Entry::Call(call) => match call.into_unwritten().and_then(|call| call.row) {
                    Some(row) => return Some(row),
                    None => continue,
                },
                Entry::Flush(sender) => {
                    let _nobody_waits = sender.send(());
                }
            }
        }
    }
}

async fn write_all(store: &Store, entries: impl Iterator<Item = Entry>) {
    let (mut calls, mut waiting) = (Vec::new(), Vec::new());
    for entry in entries {
        match entry {
            Entry::Call(call) => calls.extend(call.into_unwritten()),
            Entry::Flush(sender) => waiting.push(sender),
        }
    }
    if !calls.is_empty() {
        write(store, calls).await;
    }
    for sender in waiting {
        let _nobody_waits = sender.send(());
    }
}

/// Tries again with pauses of about six seconds together; money that cannot be
/// written must at least be readable in the log. A store that broke off may
/// have kept the batch all the same, so a retry can write its rows twice: that
/// is rarer, and easier to see, than what would be lost without. Settlements
/// count once, however often they are written.
///
/// What can never be written takes nothing else with it: the batch is written in halves.
async fn write(store: &Store, mut calls: Vec<Call>) {
    let Err(error) = try_to_write(store, &calls).await else { return };
    if error.may_pass() {
        return lose(calls, &error);
    }
    match calls.as_mut_slice() {
        // The money counts although the row cannot be kept.
        [Call { row, settlement: Some(_) }] if row.is_some() => {
            let row = row.take();
            lose(vec![Call { row, settlement: None }], &error);
        }
        [_] => return lose(calls, &error),
        _ => {
            let rest = calls.split_off(calls.len() / 2);
            Box::pin(write(store, rest)).await;
        }
    }
    Box::pin(write(store, calls)).await;
}

async fn try_to_write(store: &Store, calls: &[Call]) -> Result<(), StoreError> {
    let settlements: Vec<Settlement> = calls.iter().filter_map(|call| call.settlement.clone()).collect();
    let record = RecordMany {
        calls: calls.iter().filter_map(|call| call.row.clone()).collect(),
        settled: settlements.iter().map(|settlement| settlement.settle.clone()).collect(),
    };
    let mut delay_ms = FIRST_RETRY_MS;
    for attempt in 1..=MAX_ATTEMPTS {
        let Err(error) = store.write(record.clone()).await else {
            settlements.iter().for_each(Settlement::done);
            return Ok(());
        };
        if !error.may_pass() || attempt == MAX_ATTEMPTS {
            return Err(error);
        }
        tracing::warn!(%error, attempt, "usage could not be written; trying again in {delay_ms} ms");
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        delay_ms *= 2;
    }
    Ok(())
}

fn lose(calls: Vec<Call>, error: &StoreError) {
    tracing::error!(%error, calls = calls.len(), "usage could not be written; all of it follows");
    for Call { row, settlement } in calls {
        if let Some(row) = row {
            tracing::error!(?row, "usage lost");
        }
        if let Some(Settlement { settle, .. }) = settlement {
            tracing::error!(?settle, "a settlement lost: what it reserved counts until it expires");
        }
    }
}
