use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use nh_types::model::Usage;
use nh_types::run::{RunError, RunState};
use nh_types::{RunId, Timestamp, WorkspaceId};
use serde_json::Value;

use super::insert::{Insert, insert, insert_events};
use super::signal::{self, SignalRow};
use super::{EventRow, Kept, LargeValue, thread, values};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{Arg, args, to_json};
use crate::webhooks::{self, Owed};
use crate::{EngineKind, StoreError, Tx, Write};

/// Appends events and changes the run's row, only while `epoch` is still the
/// row's and the run has not ended: else nothing changes and the answer is
/// [`Appended::Fenced`]. Events that do not follow the journal's last one are a
/// [`StoreError::Conflict`], and nothing changes either.
#[derive(Clone, Debug)]
pub struct Append {
    pub run_id: RunId,
    pub workspace_id: WorkspaceId,
    pub epoch: i64,
    /// In order, `seq` without gaps. May be empty.
    pub events: Vec<EventRow>,
    /// The ids of the signals that are in the journal with these events.
    pub took: Vec<String>,
    /// Runs that this one begins and waits for.
    pub children: Vec<Insert>,
    /// What is kept apart of these events, and of the run's result.
    pub large: Vec<LargeValue>,
    /// The names of values that nothing refers to any more.
    pub gone: Vec<String>,
    pub change: RunChange,
}

#[derive(Clone, Debug)]
pub struct RunChange {
    pub state: RunState,
    /// Absent: stays as it is.
    pub started_at: Option<Timestamp>,
    pub then: Then,
}

/// What becomes of the run after a change.
#[derive(Clone, Debug)]
pub enum Then {
    /// Its owner goes on with it.
    GoOn,
    /// Its owner gives it up, and anybody may take it up.
    Queue,
    /// Nobody drives it until then, or until it is woken; which is at once if a
    /// signal waits for it.
    Sleep { wake_at: Option<Timestamp> },
    /// `state` is terminal.
    End(Box<RunEnding>),
}

#[derive(Clone, Debug)]
pub struct RunEnding {
    pub finished_at: Timestamp,
    pub result: Option<Value>,
    pub error: Option<RunError>,
    pub usage: Usage,
    /// The run that waits for this one, and what it is told.
    pub tells: Option<(RunId, SignalRow)>,
    /// Runs that this one waited for are cancelled.
    pub cancels_children: bool,
    /// The thread whose next run may begin.
    pub thread_id: Option<String>,
    /// Who is told of the end: it is owed from this commit on.
    pub webhook_url: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    Done,
    /// Another node owns the run now, or it has ended.
    Fenced,
}

impl Write for Append {
    type Output = Appended;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Appended, StoreError> {
        let done = append(tx, &[self]).await?;
        if done.is_empty() { self.why_not(tx).await } else { Ok(Appended::Done) }
    }

    async fn apply_group<'t>(
        group: &'t [&'t Self],
        tx: &'t mut Tx,
    ) -> Result<Vec<Result<Appended, StoreError>>, StoreError> {
        let mut answers: Vec<Option<Result<Appended, StoreError>>> = vec![None; group.len()];
        // One statement changes a row once, so a run's second append of this
        // batch waits for the next round.
        let mut waiting: Vec<usize> = (0..group.len()).collect();
        while !waiting.is_empty() {
            let mut round: BTreeMap<RunId, usize> = BTreeMap::new();
            waiting.retain(|&place| match round.entry(group[place].run_id) {
                Entry::Vacant(free) => {
                    free.insert(place);
                    false
                }
                Entry::Occupied(_) => true,
            });
            let appends: Vec<&Append> = round.values().map(|&place| group[place]).collect();
            let done = append(tx, &appends).await?;
            for (run_id, place) in round {
                answers[place] = Some(match done.contains(&run_id) {
                    true => Ok(Appended::Done),
                    false => match group[place].why_not(tx).await {
                        Err(error) if tx.has_failed() => return Err(error),
                        answer => answer,
                    },
                });
            }
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Ok(Appended::Fenced))).collect())
    }
}

impl Append {
    fn row(&self) -> Result<Vec<Arg>, StoreError> {
        let (is_given_up, ready, wake_at, ending) = match &self.change.then {
            Then::GoOn => (false, false, None, None),
            Then::Queue => (true, true, None, None),
            Then::Sleep { wake_at } => (true, false, *wake_at, None),
            Then::End(ending) => (true, false, None, Some(ending)),
        };
        let large = self.large.iter().find(|value| value.name == "result");
        let result = match ending.and_then(|ending| ending.result.as_ref()) {
            Some(_) if let Some(large) = large => Some(Kept::Apart(large.bytes)),
            Some(result) => Some(Kept::Here(to_json(result)?)),
            None => None,
        };
        let error = ending.and_then(|ending| ending.error.as_ref());
        Ok(args![
            self.run_id,
            &self.workspace_id,
            self.epoch,
            self.events.first().map(|event| event.seq - 1),
            self.events.last().map(|event| event.seq),
            self.change.state.as_str(),
            self.change.started_at,
            ending.map(|ending| ending.finished_at),
            is_given_up,
            ready,
            wake_at,
            self.took.len() as i64,
            ending.map(|ending| to_json(&ending.usage)).transpose()?,
            error.map(to_json).transpose()?,
            result.map(Kept::into_column),
        ])
    }

    /// What the change means for other rows than the run's own.
    async fn reach_others(&self, tx: &mut Tx) -> Result<(), StoreError> {
        signal::take(tx, self.run_id, &self.took).await?;
        if !self.children.is_empty() {
            insert(tx, &self.children.iter().collect::<Vec<_>>()).await?;
        }
        let Then::End(ending) = &self.change.then else { return Ok(()) };
        if ending.cancels_children {
            signal::cancel_children(tx, self.run_id).await?;
        }
        if let Some(thread_id) = &ending.thread_id {
            thread::leave(tx, &self.workspace_id, thread_id, self.run_id).await?;
        }
        if let Some(url) = &ending.webhook_url {
            let (run_id, workspace_id) = (self.run_id, &self.workspace_id);
            let (run_state, at) = (self.change.state, ending.finished_at);
            webhooks::owe(tx, &Owed { run_id, workspace_id, run_state, url, at }).await?;
        }
        match &ending.tells {
            Some((parent, signal)) => signal::send(tx, *parent, signal).await,
            None => Ok(()),
        }
    }

    /// Whose rows are changed, as far as this knows.
    fn changes(&self) -> impl Iterator<Item = RunId> {
        let parent = match &self.change.then {
            Then::End(ending) => ending.tells.as_ref().map(|(parent, _)| *parent),
            _ => None,
        };
        std::iter::once(self.run_id).chain(parent)
    }

    fn changes_others(&self) -> bool {
        self.cancels_children() || self.changes().nth(1).is_some()
    }

    fn cancels_children(&self) -> bool {
        matches!(&self.change.then, Then::End(ending) if ending.cancels_children)
    }

    /// Why the row was not changed.
    async fn why_not(&self, tx: &mut Tx) -> Result<Appended, StoreError> {
        let rows = tx
            .select(
                "select epoch, last_seq from runs \
                 where id = $1 and workspace_id = $2 and finished_at + 0 is null",
                args![self.run_id, &self.workspace_id],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(Appended::Fenced) };
        let mut columns = Columns::of(row);
        if columns.int()? != self.epoch {
            return Ok(Appended::Fenced);
        }
        Err(StoreError::Conflict(format!(
            "the journal of run {} is at event {}, so event {} cannot follow",
            self.run_id,
            columns.int()?,
            self.events.first().map_or(0, |event| event.seq),
        )))
    }
}

/// The runs of which the row was changed; only their events are kept. No run
/// may come twice. Goes by the runs' ids in order.
async fn append(tx: &mut Tx, appends: &[&Append]) -> Result<Vec<RunId>, StoreError> {
    lock(tx, appends).await?;
    let mut rows = Rows::new(15);
    for append in appends {
        rows.push(append.row()?);
    }
    let changed = tx
        .returning_rows(
            "with given (run_id, run_workspace, held_epoch, before_seq, new_seq, new_state, begun_at, ended_at, \
             given_up, is_ready, wakes_at, taken, used, failure, outcome) as (values ROWS) \
             update runs set state = given.new_state, started_at = coalesce(given.begun_at, started_at), \
             finished_at = given.ended_at, last_seq = coalesce(given.new_seq, last_seq), \
             owner = case when given.given_up = 1 then null else owner end, \
             ready = case when after_id is not null then 0 \
             when given.given_up = 1 and given.ended_at is null \
             and (cancel_requested = 1 or signals > given.taken) then 1 else given.is_ready end, \
             signals = signals - given.taken, \
             wake_at = case when given.is_ready = 1 then deadline_at else given.wakes_at end, \
             usage = coalesce(given.used, usage), error = given.failure, result = given.outcome \
             from given where id = given.run_id and workspace_id = given.run_workspace \
             and epoch = given.held_epoch and finished_at + 0 is null \
             and (given.before_seq is null or last_seq = given.before_seq) returning id",
            rows,
        )
        .await?;
    let changed: Vec<RunId> =
        changed.iter().map(|row| Columns::of(row).parse()).collect::<Result<_, StoreError>>()?;
    let kept = || appends.iter().filter(|append| changed.contains(&append.run_id));
    insert_events(tx, kept().map(|append| (append.run_id, append.events.as_slice()))).await?;
    for append in kept() {
        values::insert(tx, append.run_id, &append.large).await?;
        values::remove(tx, append.run_id, &append.gone).await?;
        append.reach_others(tx).await?;
    }
    Ok(changed)
}

/// On PostgreSQL, rows are locked in the order of their ids, so that two nodes
/// cannot wait for each other. Appends that change only their own runs are
/// updated in that order anyway.
async fn lock(tx: &mut Tx, appends: &[&Append]) -> Result<(), StoreError> {
    if tx.engine() == EngineKind::Sqlite || !appends.iter().any(|append| append.changes_others()) {
        return Ok(());
    }
    let changes: BTreeSet<RunId> = appends.iter().flat_map(|append| append.changes()).collect();
    let (mut runs, mut parents) = (Rows::new(1), Rows::new(1));
    changes.iter().for_each(|id| runs.push(args![*id]));
    for append in appends.iter().filter(|append| append.cancels_children()) {
        parents.push(args![append.run_id]);
    }
    let children = tx
        .select_rows(
            "select id from runs where finished_at + 0 is null \
             and parent_id in (select column1 from (values ROWS) as given)",
            parents,
        )
        .await?;
    if changes.len() + children.len() < 2 {
        return Ok(());
    }
    for row in &children {
        runs.push(args![Columns::of(row).text()?]);
    }
    tx.select_rows(
        "select id from runs where id in (select column1 from (values ROWS) as given) order by id for update",
        runs,
    )
    .await
    .map(drop)
}
