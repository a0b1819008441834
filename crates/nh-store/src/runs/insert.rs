use nh_types::RunId;

use super::{EventRow, RunRecord};
use crate::{StoreError, Tx, Write};

/// Stores a new run with its first events. `run.last_seq` is taken from the
/// events; `run.owner` and `run.epoch` are kept as given, so that a node can
/// submit a run as its own.
#[derive(Clone, Debug)]
pub struct Insert {
    pub run: RunRecord,
    pub events: Vec<EventRow>,
}

impl Write for Insert {
    type Output = RunId;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<RunId, StoreError> {
        todo!()
    }
}
