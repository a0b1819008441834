use nh_types::blob::Pathname;
use nh_types::{Timestamp, WorkspaceId};

use super::put::present;
use super::totals::Held;
use super::{Piece, waste};
use crate::columns::Columns;
use crate::sql::{Row, args};
use crate::{StoreError, Tx, Write};

/// Deletes objects; what is not there is passed over.
#[derive(Clone, Debug)]
pub struct Delete {
    pub workspace_id: WorkspaceId,
    pub pathnames: Vec<Pathname>,
    /// What the bytes of each must have as their SHA-256, else none is deleted.
    pub only_if: Option<[u8; 32]>,
    pub at: Timestamp,
}

impl Write for Delete {
    /// How many there were; None: one is another than it had to be.
    type Output = Option<u64>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Option<u64>, StoreError> {
        let mut held = Held::lock(tx, [&self.workspace_id]).await?;
        if let Some(wanted) = self.only_if {
            let names = self.pathnames.iter().map(|pathname| (&self.workspace_id, pathname));
            if present(tx, names).await?.into_values().any(|there| there.sha256 != wanted) {
                return Ok(None);
            }
        }
        let mut deleted = 0;
        for pathname in &self.pathnames {
            let rows = tx
                .returning(
                    "delete from blobs where workspace_id = $1 and pathname = $2 returning workspace_id, bytes_id, size",
                    args![&self.workspace_id, pathname.as_str()],
                )
                .await?;
            deleted += removed(tx, &mut held, &rows, self.at).await?;
        }
        held.keep(tx).await?;
        Ok(Some(deleted))
    }
}

/// Deletes what expired, of all workspaces, at most `limit`; how many it were.
#[derive(Clone, Copy, Debug)]
pub struct RemoveExpired {
    pub at: Timestamp,
    pub limit: u32,
}

impl Write for RemoveExpired {
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        let expired = tx
            .select(
                "select workspace_id, pathname from blobs where expires_at is not null and expires_at <= $1 \
                 order by expires_at limit $2",
                args![self.at, self.limit],
            )
            .await?;
        let mut found: Vec<(WorkspaceId, String)> = Vec::with_capacity(expired.len());
        for row in &expired {
            let mut columns = Columns::of(row);
            found.push((columns.parse()?, columns.text()?));
        }
        let mut held = Held::lock(tx, found.iter().map(|(workspace_id, _)| workspace_id)).await?;
        let mut deleted = 0;
        for (workspace_id, pathname) in &found {
            // Before the lock another may have come in its place.
            let rows = tx
                .returning(
                    "delete from blobs where workspace_id = $1 and pathname = $2 and expires_at <= $3 \
                     returning workspace_id, bytes_id, size",
                    args![workspace_id, pathname, self.at],
                )
                .await?;
            deleted += removed(tx, &mut held, &rows, self.at).await?;
        }
        held.keep(tx).await?;
        Ok(deleted)
    }
}

async fn removed(tx: &mut Tx, held: &mut Held, rows: &[Row], at: Timestamp) -> Result<u64, StoreError> {
    let mut bytes = Vec::with_capacity(rows.len());
    for row in rows {
        let mut columns = Columns::of(row);
        let workspace_id: WorkspaceId = columns.parse()?;
        bytes.push(columns.text()?);
        held.of(&workspace_id).take(columns.number()?);
    }
    release(tx, &bytes, at).await?;
    Ok(bytes.len() as u64)
}

/// Of bytes that one object less has: those that none has any more go, and
/// their places to the waste.
pub(super) async fn release(tx: &mut Tx, bytes: &[String], at: Timestamp) -> Result<(), StoreError> {
    for id in bytes {
        let left = tx
            .returning(
                "update blob_bytes set refs = refs - 1 where id = $1 returning refs, pieces",
                args![id],
            )
            .await?;
        let Some(row) = left.first() else { continue };
        let mut columns = Columns::of(row);
        if columns.int()? > 0 {
            continue;
        }
        if let Some(pieces) = columns.optional_json::<Vec<Piece>>()? {
            waste::let_go(tx, &pieces, at).await?;
        }
        tx.execute("delete from blob_bytes where id = $1", args![id]).await?;
    }
    Ok(())
}
