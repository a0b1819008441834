use nh_types::model::Usage;
use nh_types::run::{RunError, RunState, RunType};
use nh_types::{JsonText, RunId, ScopeSet, Timestamp, WorkspaceId};
use serde_json::{Map, Value};

use super::Kept;
use super::lane::{self, Group};
use crate::StoreError;
use crate::columns::Columns;
use crate::sql::Row;

/// A run as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRecord {
    pub id: RunId,
    pub workspace_id: WorkspaceId,
    pub target: String,
    pub run_type: RunType,
    pub state: RunState,
    pub input: Value,
    /// What the target was when the run was submitted, pinned by the executor.
    pub definition: Value,
    pub scopes: ScopeSet,
    /// Who submitted it: `key:42`, or a user's id.
    pub created_by: String,
    pub result: Option<Value>,
    pub error: Option<RunError>,
    pub usage: Usage,
    pub metadata: Map<String, Value>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub deadline_at: Option<Timestamp>,
    /// From when it may begin to its deadline.
    pub timeout_ms: Option<i64>,
    /// The node that carries it out, while one does.
    pub owner: Option<String>,
    /// Raised by every claim; a writer with an older one changes nothing.
    pub epoch: i64,
    pub cancel_requested: bool,
    /// The number of the journal's last event; 0 before the first.
    pub last_seq: i64,
    /// The greater, the sooner it is taken up among its workspace's runs.
    pub priority: i64,
    /// Nobody drives it, and it may be taken up.
    pub ready: bool,
    /// Nobody drives it, and then it is to be looked at: its delay, its timer
    /// or its deadline is over.
    pub wake_at: Option<Timestamp>,
    /// The run that waits for this one.
    pub parent: Option<Parent>,
    /// How many words to it are not in its journal yet.
    pub signals: i64,
    /// What it counts against while it is under way; with its workspace, this
    /// is the line in which it queues. It never changes.
    pub groups: Vec<Group>,
    /// The conversation that it continues.
    pub thread: Option<ThreadPlace>,
    pub apart: Apart,
    /// Who is told of its end.
    pub webhook_url: Option<String>,
}

/// Which long values of a run are kept apart from its row, and how many bytes
/// they have. The store reads them as null, or as no result; who reads a run
/// whole puts them in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Apart {
    pub input: Option<u64>,
    pub definition: Option<u64>,
    pub result: Option<u64>,
}

/// A run's place in a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPlace {
    pub thread_id: String,
    /// From 1; 0 until the run is stored.
    pub seq: i64,
}

/// Who waits for a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    pub run_id: RunId,
    /// The step that ends when the run does.
    pub step: String,
}

/// One row of a run's journal, table `run_events`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Counted per run from 1, without gaps.
    pub seq: i64,
    pub kind: String,
    pub at: Timestamp,
    pub data: JsonText,
}

/// The columns that [`record`] reads, in its order.
macro_rules! run_columns {
    () => {
        "id, workspace_id, target, run_type, state, scopes, created_by, created_at, started_at, finished_at, \
         deadline_at, owner, epoch, cancel_requested, last_seq, priority, ready, wake_at, timeout_ms, parent_id, parent_step, signals, \
         lane, thread_id, thread_seq, webhook_url, usage, error, metadata, input, definition, result"
    };
}
pub(super) use run_columns;

/// The same for lists, which leave out what may be long and what stands behind
/// that: to read it, the long columns would have to be passed over.
macro_rules! run_columns_of_a_list {
    () => {
        "id, workspace_id, target, run_type, state, scopes, created_by, created_at, started_at, finished_at, \
         deadline_at, owner, epoch, cancel_requested, last_seq, cast(0 as bigint), cast(0 as bigint), \
         cast(null as bigint), cast(null as bigint), parent_id, parent_step, signals, workspace_id, thread_id, thread_seq, cast(null as text), usage, error, metadata, \
         'null', 'null', null"
    };
}
pub(super) use run_columns_of_a_list;

fn parent(columns: &mut Columns<'_>) -> Result<Option<Parent>, StoreError> {
    let (run_id, step) = (columns.optional_text()?, columns.optional_text()?);
    let Some((run_id, step)) = run_id.zip(step) else { return Ok(None) };
    let run_id = run_id.parse().map_err(|_| StoreError::Corrupt(format!("`{run_id}` is no run's id")))?;
    Ok(Some(Parent { run_id, step }))
}

fn thread(columns: &mut Columns<'_>) -> Result<Option<ThreadPlace>, StoreError> {
    let (thread_id, seq) = (columns.optional_text()?, columns.optional_int()?);
    Ok(thread_id.zip(seq).map(|(thread_id, seq)| ThreadPlace { thread_id, seq }))
}

pub(super) fn record(row: &Row) -> Result<RunRecord, StoreError> {
    let mut columns = Columns::of(row);
    let mut run = RunRecord {
        id: columns.parse()?,
        workspace_id: columns.parse()?,
        target: columns.text()?,
        run_type: columns.parse()?,
        state: columns.parse()?,
        scopes: columns.scopes()?,
        created_by: columns.text()?,
        created_at: columns.time()?,
        started_at: columns.optional_time()?,
        finished_at: columns.optional_time()?,
        deadline_at: columns.optional_time()?,
        owner: columns.optional_text()?,
        epoch: columns.int()?,
        cancel_requested: columns.flag()?,
        last_seq: columns.int()?,
        priority: columns.int()?,
        ready: columns.flag()?,
        wake_at: columns.optional_time()?,
        timeout_ms: columns.optional_int()?,
        parent: parent(&mut columns)?,
        signals: columns.int()?,
        groups: lane::parse(&columns.text()?)?.1,
        thread: thread(&mut columns)?,
        webhook_url: columns.optional_text()?,
        usage: columns.json()?,
        error: columns.optional_json()?,
        metadata: columns.json()?,
        input: Value::Null,
        definition: Value::Null,
        result: None,
        apart: Apart::default(),
    };
    (run.input, run.apart.input) = split(columns.kept_json()?);
    (run.definition, run.apart.definition) = split(columns.kept_json()?);
    match columns.optional_kept_json()? {
        Some(Kept::Here(result)) => run.result = Some(result),
        Some(Kept::Apart(bytes)) => run.apart.result = Some(bytes),
        None => {}
    }
    Ok(run)
}

fn split(kept: Kept<Value>) -> (Value, Option<u64>) {
    match kept {
        Kept::Here(value) => (value, None),
        Kept::Apart(bytes) => (Value::Null, Some(bytes)),
    }
}

pub(super) fn event(row: &Row) -> Result<EventRow, StoreError> {
    let mut columns = Columns::of(row);
    Ok(EventRow {
        seq: columns.int()?,
        kind: columns.text()?,
        at: columns.time()?,
        data: columns.json_text()?,
    })
}
