use nh_types::blob::{Access, BlobSource, Pathname};
use nh_types::{Timestamp, WorkspaceId};

use super::put::{insert_blobs, present, refused, row};
use super::remove::release;
use super::totals::Held;
use super::{BlobRecord, Condition, PutDone, blob_columns, read};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::args;
use crate::{StoreError, Tx, Write};

/// Puts an object under another name too, or instead. Its bytes stay where they
/// are: both have them.
#[derive(Clone, Debug)]
pub struct Copy {
    pub workspace_id: WorkspaceId,
    pub from: Pathname,
    pub to: Pathname,
    pub condition: Condition,
    /// Whether the first name goes.
    pub is_rename: bool,
    /// These three, where they are absent: as it is.
    pub access: Option<Access>,
    pub content_type: Option<String>,
    pub cache_seconds: Option<u32>,
    /// Who copies.
    pub source: BlobSource,
    pub at: Timestamp,
    /// The most bytes that the workspace's objects may have.
    pub quota: Option<u64>,
}

impl Write for Copy {
    /// None: there is no such object.
    type Output = Option<PutDone>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Option<PutDone>, StoreError> {
        let mut held = Held::lock(tx, [&self.workspace_id]).await?;
        let Some((mut blob, bytes_id)) = self.original(tx).await? else { return Ok(None) };
        blob.pathname = self.to.clone();
        blob.access = self.access.unwrap_or(blob.access);
        blob.content_type = self.content_type.clone().unwrap_or(blob.content_type);
        blob.cache_seconds = self.cache_seconds.or(blob.cache_seconds);
        let is_same = self.from == self.to;
        if !self.is_rename && !is_same {
            (blob.uploaded_at, blob.source) = (self.at, self.source.clone());
        }
        let there = present(tx, [(&self.workspace_id, &self.to)].into_iter()).await?.into_values().next();
        let totals = held.of(&self.workspace_id);
        let quota = self.quota.filter(|_| !self.is_rename && !is_same);
        if let Some(refused) = refused(&blob, self.condition, quota, self.at, there.as_ref(), totals) {
            return Ok(Some(refused));
        }
        let mut rows = Rows::new(13);
        rows.push(row(&self.workspace_id, &blob, &bytes_id));
        if is_same {
            insert_blobs(tx, rows).await?;
            return Ok(Some(PutDone::Stored(blob)));
        }
        if let Some(replaced) = there {
            totals.take(replaced.size);
            release(tx, &[replaced.bytes_id], self.at).await?;
        }
        insert_blobs(tx, rows).await?;
        if self.is_rename {
            let args = args![&self.workspace_id, self.from.as_str()];
            tx.execute("delete from blobs where workspace_id = $1 and pathname = $2", args).await?;
        } else {
            totals.add(blob.size);
            tx.execute("update blob_bytes set refs = refs + 1 where id = $1", args![&bytes_id]).await?;
        }
        held.keep(tx).await?;
        Ok(Some(PutDone::Stored(blob)))
    }
}

impl Copy {
    async fn original(&self, tx: &mut Tx) -> Result<Option<(BlobRecord, String)>, StoreError> {
        let rows = tx
            .select(
                concat!(
                    "select ",
                    blob_columns!(),
                    ", b.bytes_id from blobs b where b.workspace_id = $1 and b.pathname = $2 \
                     and (b.expires_at is null or b.expires_at > $3)"
                ),
                args![&self.workspace_id, self.from.as_str(), self.at],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let mut columns = Columns::of(row);
        Ok(Some((read(&mut columns)?, columns.text()?)))
    }
}
