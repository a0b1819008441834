use super::RunRecord;
use crate::{StoreError, Tx, Write};

/// Takes unowned PENDING or RUNNING runs for `node`, oldest first, and raises
/// their epochs. On PostgreSQL a run whose owner's lease has expired or is gone
/// is unowned too: renew this node's lease before claiming.
#[derive(Clone, Debug)]
pub struct Claim {
    pub node: String,
    /// At most this many runs.
    pub limit: u32,
}

impl Write for Claim {
    /// Oldest first.
    type Output = Vec<RunRecord>;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<Vec<RunRecord>, StoreError> {
        todo!()
    }
}

/// Makes all unfinished runs unowned. Only for SQLite at start, where the data
/// directory's lock proves that nobody else runs any.
#[derive(Clone, Copy, Debug)]
pub struct ReleaseAll;

impl Write for ReleaseAll {
    /// How many runs had an owner.
    type Output = u64;

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<u64, StoreError> {
        todo!()
    }
}
