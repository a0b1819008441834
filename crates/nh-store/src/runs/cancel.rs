use nh_types::model::Usage;
use nh_types::run::RunState;
use nh_types::{RunId, Timestamp, WorkspaceId};
use sqlx::AssertSqlSafe;

use super::insert::insert_events;
use super::signal::{self, SignalRow};
use super::{EventRow, thread};
use crate::columns::Columns;
use crate::sql::{args, to_json};
use crate::webhooks::{self, Owed};
use crate::{StoreError, Tx, Write};

/// Cancels a run that nobody carries out; asks the owner of any other.
#[derive(Clone, Debug)]
pub struct CancelUnowned {
    pub workspace_id: WorkspaceId,
    pub run_id: RunId,
    pub at: Timestamp,
    /// The journal's last event when what it used was summed up. If it has
    /// grown since, nothing changes, and the answer is a
    /// [`StoreError::Conflict`].
    pub seen_seq: i64,
    pub usage: Usage,
    /// The journal's last event if the run is cancelled here; its `seq` is
    /// ignored and becomes the next one.
    pub event: EventRow,
    /// What the run that waits for it is told if it is cancelled here.
    pub tells: SignalRow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// Nobody carried it out: it is cancelled now, and its epoch is raised.
    Cancelled,
    /// Its owner finds it in [`super::owned`].
    Requested,
    /// It had ended before.
    Finished(RunState),
    /// The workspace has no such run.
    Missing,
}

impl Write for CancelUnowned {
    type Output = CancelOutcome;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<CancelOutcome, StoreError> {
        let sql = format!(
            "select state, owner, last_seq, parent_id, thread_id, webhook_url from runs where id = $1 and workspace_id = $2 {}",
            tx.engine().for_update()
        );
        // Only this crate's own words were put together.
        let rows = tx.select(AssertSqlSafe(sql), args![self.run_id, &self.workspace_id]).await?;
        let Some(row) = rows.first() else { return Ok(CancelOutcome::Missing) };
        let mut columns = Columns::of(row);
        let state: RunState = columns.parse()?;
        if state.is_terminal() {
            return Ok(CancelOutcome::Finished(state));
        }
        if columns.optional_text()?.is_some() {
            tx.execute("update runs set cancel_requested = 1 where id = $1", args![self.run_id]).await?;
            return Ok(CancelOutcome::Requested);
        }
        let last_seq = columns.int()?;
        if last_seq != self.seen_seq {
            return Err(StoreError::Conflict(format!(
                "the journal of run {} is at event {last_seq}, and not at {}",
                self.run_id, self.seen_seq
            )));
        }
        let event = EventRow { seq: last_seq + 1, ..self.event.clone() };
        let parent: Option<RunId> = columns.optional_text()?.and_then(|id| id.parse().ok());
        let (thread_id, webhook_url) = (columns.optional_text()?, columns.optional_text()?);
        tx.execute(
            "update runs set state = $1, finished_at = $2, last_seq = $3, cancel_requested = 1, \
             epoch = epoch + 1, ready = 0, wake_at = null, usage = $4 where id = $5",
            args![RunState::Cancelled.as_str(), self.at, event.seq, to_json(&self.usage)?, self.run_id],
        )
        .await?;
        insert_events(tx, std::iter::once((self.run_id, std::slice::from_ref(&event)))).await?;
        signal::cancel_children(tx, self.run_id).await?;
        if let Some(thread_id) = thread_id {
            thread::leave(tx, &self.workspace_id, &thread_id, self.run_id).await?;
        }
        if let Some(parent) = parent {
            signal::send(tx, parent, &self.tells).await?;
        }
        if let Some(url) = &webhook_url {
            let (run_id, workspace_id, run_state) = (self.run_id, &self.workspace_id, RunState::Cancelled);
            webhooks::owe(tx, &Owed { run_id, workspace_id, run_state, url, at: self.at }).await?;
        }
        Ok(CancelOutcome::Cancelled)
    }
}
