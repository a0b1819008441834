//! Node leases: one row a node, by the database's own clock, so that the nodes'
//! clocks need not agree. A run belongs to its owner only while the owner's
//! lease lives. Meant for PostgreSQL, where many nodes share one store.

use crate::{Store, StoreError, Tx, Write};

/// Makes or extends a node's lease.
#[derive(Clone, Debug)]
pub struct Renew {
    pub node: String,
    /// From now on, by the database's clock.
    pub lease_ms: i64,
}

impl Write for Renew {
    type Output = ();

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<(), StoreError> {
        todo!()
    }
}

/// Ends a node's lease at once: whatever it still owns can be claimed. Removes
/// the rows of nodes whose leases ended long ago too.
#[derive(Clone, Debug)]
pub struct Leave {
    pub node: String,
}

impl Write for Leave {
    type Output = ();

    async fn apply<'t>(&'t self, _tx: &'t mut Tx) -> Result<(), StoreError> {
        todo!()
    }
}

/// The names of the nodes whose leases live, sorted.
pub async fn live(_store: &Store) -> Result<Vec<String>, StoreError> {
    todo!()
}
