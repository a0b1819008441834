use nh_types::model::Usage;
use nh_types::run::{RunError, RunState, RunType};
use nh_types::{RunId, ScopeSet, Timestamp, WorkspaceId};
use serde_json::{Map, Value};

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
    /// The node that carries it out, while one does.
    pub owner: Option<String>,
    /// Raised by every claim; a writer with an older one changes nothing.
    pub epoch: i64,
    pub cancel_requested: bool,
    /// The number of the journal's last event; 0 before the first.
    pub last_seq: i64,
}

/// One row of a run's journal, table `run_events`.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRow {
    /// Counted per run from 1, without gaps.
    pub seq: i64,
    pub kind: String,
    pub at: Timestamp,
    pub data: Value,
}
