use nh_types::model::Usage;
use nh_types::run::{RunError, RunState};
use nh_types::{RunId, Timestamp, WorkspaceId};
use serde_json::Value;

use super::EventRow;
use crate::{StoreError, Tx, Write};

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
    pub change: RunChange,
}

#[derive(Clone, Debug)]
pub struct RunChange {
    pub state: RunState,
    /// Absent: stays as it is.
    pub started_at: Option<Timestamp>,
    /// Present exactly when `state` is terminal. It also ends the ownership.
    pub ending: Option<RunEnding>,
    /// Gives the run up without ending it, so that another may claim it.
    pub release: bool,
}

#[derive(Clone, Debug)]
pub struct RunEnding {
    pub finished_at: Timestamp,
    pub result: Option<Value>,
    pub error: Option<RunError>,
    pub usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    Done,
    /// Another node owns the run now, or it has ended.
    Fenced,
}

impl Write for Append {
    type Output = Appended;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<Appended, StoreError> {
        todo!()
    }
}
