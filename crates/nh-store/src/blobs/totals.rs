use std::collections::BTreeMap;

use nh_types::WorkspaceId;

use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{Row, args};
use crate::{Store, StoreError, Tx};

/// What a workspace's objects take, those included that expired but are not
/// removed yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub blobs: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes of the parts of uploads that are not completed.
    pub uploading: u64,
}

pub async fn totals(store: &Store, workspace_id: &WorkspaceId) -> Result<Totals, StoreError> {
    let found = store
        .find(
            "select blobs, size, uploading from blob_totals where workspace_id = $1",
            args![workspace_id],
            read,
        )
        .await?;
    Ok(found.unwrap_or_default())
}

fn read(row: &Row) -> Result<Totals, StoreError> {
    let mut columns = Columns::of(row);
    Ok(Totals { blobs: columns.number()?, size: columns.number()?, uploading: columns.number()? })
}

/// The totals of the workspaces that a transaction changes objects of. While it
/// goes on nobody else changes any of these.
pub(super) struct Held(BTreeMap<WorkspaceId, Totals>);

impl Held {
    /// Locks them, in one order whoever else does this.
    pub(super) async fn lock(
        tx: &mut Tx,
        workspaces: impl IntoIterator<Item = &WorkspaceId>,
    ) -> Result<Self, StoreError> {
        let mut held: BTreeMap<WorkspaceId, Totals> =
            workspaces.into_iter().map(|id| (id.clone(), Totals::default())).collect();
        for (workspace_id, totals) in &mut held {
            let rows = tx
                .returning(
                    "insert into blob_totals (workspace_id, blobs, size) values ($1, 0, 0) \
                     on conflict (workspace_id) do update set blobs = blob_totals.blobs returning blobs, size, uploading",
                    args![workspace_id],
                )
                .await?;
            let row =
                rows.first().ok_or_else(|| StoreError::Corrupt("a workspace without totals".to_owned()))?;
            *totals = read(row)?;
        }
        Ok(Self(held))
    }

    pub(super) fn of(&mut self, workspace_id: &WorkspaceId) -> &mut Totals {
        self.0.entry(workspace_id.clone()).or_default()
    }

    pub(super) async fn keep(self, tx: &mut Tx) -> Result<(), StoreError> {
        let mut rows = Rows::new(4);
        for (workspace_id, totals) in self.0 {
            rows.push(args![&workspace_id, totals.blobs, totals.size, totals.uploading]);
        }
        tx.execute_rows(
            "with given (workspace_id, blobs, size, uploading) as (values ROWS) \
             update blob_totals set blobs = given.blobs, size = given.size, uploading = given.uploading from given \
             where blob_totals.workspace_id = given.workspace_id",
            rows,
        )
        .await
        .map(drop)
    }
}

impl Totals {
    /// Bytes that count in the quota.
    pub fn used(&self) -> u64 {
        self.size.saturating_add(self.uploading)
    }

    pub(super) fn add(&mut self, size: u64) {
        self.blobs += 1;
        self.size += size;
    }

    pub(super) fn take(&mut self, size: u64) {
        self.blobs = self.blobs.saturating_sub(1);
        self.size = self.size.saturating_sub(size);
    }
}
