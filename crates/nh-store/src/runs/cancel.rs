use nh_types::run::RunState;
use nh_types::{RunId, Timestamp, WorkspaceId};

use super::EventRow;
use crate::{StoreError, Tx, Write};

/// Cancels a run that nobody carries out; asks the owner of any other.
#[derive(Clone, Debug)]
pub struct CancelUnowned {
    pub workspace_id: WorkspaceId,
    pub run_id: RunId,
    pub at: Timestamp,
    /// The journal's last event if the run is cancelled here; its `seq` is
    /// ignored and becomes the next one.
    pub event: EventRow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// Nobody carried it out: it is cancelled now, and its epoch is raised.
    Cancelled,
    /// Its owner finds it in [`super::cancel_requests`].
    Requested,
    /// It had ended before.
    Finished(RunState),
    /// The workspace has no such run.
    Missing,
}

impl Write for CancelUnowned {
    type Output = CancelOutcome;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<CancelOutcome, StoreError> {
        todo!()
    }
}
