use nh_types::run::RunState;
use nh_types::{JsonText, RunId, Timestamp, WorkspaceId};
use sqlx::AssertSqlSafe;

use super::{Kept, LargeValue, values};
use crate::columns::Columns;
use crate::sql::{Row, args};
use crate::{Store, StoreError, Tx, Write};

/// A word to a run. Its driver takes it into the journal; a run that waits
/// becomes ready.
#[derive(Clone, Debug)]
pub struct Send {
    pub workspace_id: WorkspaceId,
    pub run_id: RunId,
    pub signal: SignalRow,
    /// Signals that may wait for the run's driver.
    pub most: u32,
}

/// One row of table `run_signals`.
#[derive(Clone, Debug, PartialEq)]
pub struct SignalRow {
    /// Unique in the run: a second one changes nothing.
    pub id: String,
    pub name: String,
    /// As a run's `created_by`; of a child run `run:…`.
    pub sent_by: String,
    pub at: Timestamp,
    /// Null where that is kept apart.
    pub data: JsonText,
    pub large: Option<LargeValue>,
}

impl SignalRow {
    /// What its data are called where they are kept apart.
    pub fn value_name(&self) -> String {
        format!("signal.{}", self.id)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Done,
    /// One with this id came before.
    Repeated,
    /// Too many wait already.
    Full,
    /// The run had ended before.
    Finished(RunState),
    /// The workspace has no such run.
    Missing,
}

impl Write for Send {
    type Output = Sent;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Sent, StoreError> {
        let sql = format!(
            "select state, signals, (select count(*) from run_signals where run_id = $1 and run_signals.id = $3) \
             from runs where id = $1 and workspace_id = $2 {}",
            tx.engine().for_update()
        );
        // Only this crate's own words were put together.
        let id = self.signal.id.as_str();
        let rows = tx.select(AssertSqlSafe(sql), args![self.run_id, &self.workspace_id, id]).await?;
        let Some(row) = rows.first() else { return Ok(Sent::Missing) };
        let mut columns = Columns::of(row);
        let (state, waiting): (RunState, i64) = (columns.parse()?, columns.int()?);
        if columns.flag()? {
            return Ok(Sent::Repeated);
        }
        if state.is_terminal() {
            return Ok(Sent::Finished(state));
        }
        if waiting >= i64::from(self.most) {
            return Ok(Sent::Full);
        }
        send(tx, self.run_id, &self.signal).await?;
        Ok(Sent::Done)
    }
}

/// Leaves a word for a run that has not ended; for any other, nothing happens.
pub(super) async fn send(tx: &mut Tx, run_id: RunId, signal: &SignalRow) -> Result<(), StoreError> {
    let changed = tx
        .execute(
            "update runs set signals = signals + 1, \
             ready = case when owner is null and state = 'WAITING' then 1 else ready end \
             where id = $1 and finished_at + 0 is null",
            args![run_id],
        )
        .await?;
    if changed == 0 {
        return Ok(());
    }
    let SignalRow { id, name, sent_by, at, data, large } = signal;
    let data = match large {
        Some(large) => Kept::Apart(large.bytes).into_column(),
        None => data.as_str().to_owned(),
    };
    tx.execute(
        "insert into run_signals (run_id, id, name, sent_by, at, data) values ($1, $2, $3, $4, $5, $6)",
        args![run_id, id, name, sent_by, *at, data],
    )
    .await?;
    values::insert(tx, run_id, large.as_slice()).await
}

/// Marks signals as taken into the journal. The run's count of them is changed
/// with its row.
pub(super) async fn take(tx: &mut Tx, run_id: RunId, ids: &[String]) -> Result<(), StoreError> {
    for id in ids {
        tx.execute("update run_signals set taken = 1 where run_id = $1 and id = $2", args![run_id, id])
            .await?;
    }
    Ok(())
}

/// The signals that the run has not taken, in the order in which they came.
pub async fn signals(
    store: &Store,
    workspace_id: &WorkspaceId,
    run_id: RunId,
) -> Result<Vec<SignalRow>, StoreError> {
    store
        .all(
            "select id, name, sent_by, at, data from run_signals where run_id = $1 and taken = 0 \
             and exists (select 1 from runs where runs.id = $1 and workspace_id = $2) order by at, id",
            args![run_id, workspace_id],
            signal,
        )
        .await
}

fn signal(row: &Row) -> Result<SignalRow, StoreError> {
    let mut columns = Columns::of(row);
    let mut signal = SignalRow {
        id: columns.text()?,
        name: columns.text()?,
        sent_by: columns.text()?,
        at: columns.time()?,
        data: JsonText::default(),
        large: None,
    };
    match columns.kept_json()? {
        Kept::Here(data) => signal.data = data,
        Kept::Apart(bytes) => {
            signal.large = Some(LargeValue { name: signal.value_name(), bytes, text: None });
        }
    }
    Ok(signal)
}

/// Has the runs that `parent` waits for cancelled: who drives one finds the
/// wish, and what nobody drives is taken up for it.
pub(super) async fn cancel_children(tx: &mut Tx, parent: RunId) -> Result<(), StoreError> {
    tx.execute(
        "update runs set cancel_requested = 1, ready = case when owner is null then 1 else ready end \
         where parent_id = $1 and finished_at + 0 is null",
        args![parent],
    )
    .await
    .map(drop)
}
