use nh_types::RunId;

use super::lane::lane;
use super::{EventRow, Kept, LargeValue, RunRecord, thread, values};
use crate::rows::Rows;
use crate::sql::{args, to_json};
use crate::{StoreError, Tx, Write};

/// Stores a new run with its first events. `run.last_seq` is taken from the
/// events; `run.owner` and `run.epoch` are kept as given, so that a node can
/// submit a run as its own.
#[derive(Clone, Debug)]
pub struct Insert {
    pub run: RunRecord,
    pub events: Vec<EventRow>,
    /// The texts of its `input` and `definition`.
    pub input: Kept<String>,
    pub definition: Kept<String>,
    /// What is kept apart of all this.
    pub large: Vec<LargeValue>,
}

impl Insert {
    /// With all of it in the rows.
    pub fn new(run: RunRecord, events: Vec<EventRow>) -> Self {
        // Serialising a value cannot fail: its keys are texts.
        let text = |value| Kept::Here(serde_json::to_string(value).unwrap_or_default());
        let (input, definition) = (text(&run.input), text(&run.definition));
        Self { run, events, input, definition, large: Vec::new() }
    }
}

impl Write for Insert {
    type Output = RunId;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<RunId, StoreError> {
        insert(tx, &[self]).await?;
        Ok(self.run.id)
    }

    async fn apply_group<'t>(
        group: &'t [&'t Self],
        tx: &'t mut Tx,
    ) -> Result<Vec<Result<RunId, StoreError>>, StoreError> {
        insert(tx, group).await?;
        Ok(group.iter().map(|insert| Ok(insert.run.id)).collect())
    }
}

pub(super) async fn insert(tx: &mut Tx, group: &[&Insert]) -> Result<(), StoreError> {
    let mut runs = Rows::new(32);
    for (place, Insert { run, events, input, definition, .. }) in group.iter().enumerate() {
        let thread::Joined { seq, after } = thread::join(tx, run, &group[..place]).await?;
        runs.push(args![
            run.id,
            &run.workspace_id,
            &run.target,
            run.run_type.as_str(),
            run.state.as_str(),
            &run.scopes,
            &run.created_by,
            run.created_at,
            run.started_at,
            run.finished_at,
            run.deadline_at,
            run.owner.as_deref(),
            run.epoch,
            run.cancel_requested,
            events.last().map_or(0, |event| event.seq),
            run.priority,
            run.ready && after.is_none(),
            run.wake_at,
            run.timeout_ms,
            run.parent.as_ref().map(|parent| parent.run_id.to_string()),
            run.parent.as_ref().map(|parent| parent.step.as_str()),
            lane(&run.workspace_id, &run.groups),
            run.thread.as_ref().map(|thread| thread.thread_id.as_str()),
            seq,
            after,
            run.webhook_url.as_deref(),
            to_json(&run.usage)?,
            run.error.as_ref().map(to_json).transpose()?,
            to_json(&run.metadata)?,
            input.clone().into_column(),
            definition.clone().into_column(),
            run.result.as_ref().map(to_json).transpose()?,
        ]);
    }
    tx.execute_rows(
        "with given (id, workspace_id, target, run_type, state, scopes, created_by, created_at, started_at, \
         finished_at, deadline_at, owner, epoch, cancel_requested, last_seq, priority, ready, wake_at, timeout_ms, parent_id, \
         parent_step, lane, thread_id, thread_seq, after_id, webhook_url, usage, error, metadata, input, definition, result) as (values ROWS) \
         insert into runs (id, workspace_id, target, run_type, state, scopes, created_by, created_at, started_at, \
         finished_at, deadline_at, owner, epoch, cancel_requested, last_seq, priority, ready, wake_at, timeout_ms, parent_id, \
         parent_step, lane, thread_id, thread_seq, after_id, webhook_url, usage, error, metadata, input, definition, result) select * from given where id is not null",
        runs,
    )
    .await?;
    insert_events(tx, group.iter().map(|insert| (insert.run.id, insert.events.as_slice()))).await?;
    for insert in group {
        values::insert(tx, insert.run.id, &insert.large).await?;
    }
    Ok(())
}

/// Appends to the journals of several runs.
pub(super) async fn insert_events<'e>(
    tx: &mut Tx,
    journals: impl Iterator<Item = (RunId, &'e [EventRow])>,
) -> Result<(), StoreError> {
    let mut rows = Rows::new(5);
    for (run_id, events) in journals {
        for event in events {
            rows.push(args![run_id, event.seq, &event.kind, event.at, event.data.as_str()]);
        }
    }
    tx.execute_rows(
        "with given (run_id, seq, kind, at, data) as (values ROWS) \
         insert into run_events (run_id, seq, kind, at, data) select * from given where run_id is not null",
        rows,
    )
    .await
    .map(drop)
}
