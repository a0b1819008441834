use nh_types::{MemoryId, Timestamp, WorkspaceId};

use super::space::{lock, raise};
use super::{MemoryRecord, Vectors};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{args, to_json};
use crate::{StoreError, Tx, Write};

/// A content in place of another.
#[derive(Clone, Debug)]
pub struct NewContent {
    /// SHA-256 of the content that the memory is to have.
    pub hash: [u8; 32],
    pub vectors: Vectors,
}

/// Puts another memory in place of the one that was read.
#[derive(Clone, Debug)]
pub struct Change {
    pub workspace_id: WorkspaceId,
    /// As it is to be, with the revision at which it was read.
    pub memory: MemoryRecord,
    /// Where its content changes.
    pub content: Option<NewContent>,
    /// SHA-256 of its content, the new one if it changes.
    pub hash: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    Done,
    /// It was changed or deleted since it was read.
    Stale,
    /// Another memory of the namespace has this content.
    Twin(MemoryId),
    /// The workspace's memories are embedded by this one.
    OtherModel {
        model: String,
        dimensions: u32,
    },
}

impl Write for Change {
    type Output = Changed;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Changed, StoreError> {
        let Some(space) = raise(tx, &self.workspace_id, None, 1).await? else { return Ok(Changed::Stale) };
        if let Some(NewContent { vectors, .. }) = &self.content
            && !space.takes(vectors)
        {
            return Ok(Changed::OtherModel { model: space.model, dimensions: space.dimensions });
        }
        if let Some((twin, expires_at)) = self.twin(tx).await? {
            if expires_at.is_none_or(|at| at > self.memory.view.updated_at) {
                return Ok(Changed::Twin(twin));
            }
            delete(tx, &self.workspace_id, &[twin]).await?;
        }
        let view = &self.memory.view;
        let changed = tx
            .execute(
                "update memories set content = $3, content_hash = $4, namespace = $5, metadata = $6, \
                 expires_at = $7, updated_at = $8, revision = $9 \
                 where workspace_id = $1 and id = $2 and revision = $10",
                args![
                    &self.workspace_id,
                    &view.id,
                    &view.content,
                    &self.hash,
                    &view.namespace,
                    to_json(&view.metadata)?,
                    view.expires_at,
                    view.updated_at,
                    space.revision,
                    self.memory.revision
                ],
            )
            .await?;
        if changed == 0 {
            return Ok(Changed::Stale);
        }
        if let Some(NewContent { vectors, .. }) = &self.content {
            let of = args![&self.workspace_id, &view.id];
            tx.execute("delete from memory_vectors where workspace_id = $1 and memory_id = $2", of).await?;
            tx.execute(
                "insert into memory_vectors (workspace_id, memory_id, model, vectors) values ($1, $2, $3, $4)",
                args![&self.workspace_id, &view.id, &vectors.model, &*vectors.bytes()],
            )
            .await?;
        }
        Ok(Changed::Done)
    }
}

impl Change {
    async fn twin(&self, tx: &mut Tx) -> Result<Option<(MemoryId, Option<Timestamp>)>, StoreError> {
        let view = &self.memory.view;
        let found = tx
            .select(
                "select id, expires_at from memories where workspace_id = $1 and namespace = $2 and content_hash = $3 \
                 and id <> $4",
                args![&self.workspace_id, &view.namespace, &self.hash, &view.id],
            )
            .await?;
        let read = |row| {
            let mut columns = Columns::of(row);
            Ok((columns.parse()?, columns.optional_time()?))
        };
        found.first().map(read).transpose()
    }
}

/// Deletes memories; how many of them there were.
#[derive(Clone, Debug)]
pub struct Delete {
    pub workspace_id: WorkspaceId,
    pub ids: Vec<MemoryId>,
}

impl Write for Delete {
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        lock(tx, [&self.workspace_id]).await?;
        delete(tx, &self.workspace_id, &self.ids).await
    }
}

/// Of a workspace whose space is locked.
pub(super) async fn delete(
    tx: &mut Tx,
    workspace_id: &WorkspaceId,
    ids: &[MemoryId],
) -> Result<u64, StoreError> {
    let mut rows = Rows::new(2);
    for id in ids {
        rows.push(args![workspace_id, id]);
    }
    delete_rows(tx, rows).await
}

async fn delete_rows(tx: &mut Tx, rows: Rows) -> Result<u64, StoreError> {
    let deleted = tx
        .execute_rows(
            "with given (workspace_id, id) as (values ROWS) delete from memories \
             where (workspace_id, id) in (select workspace_id, id from given where workspace_id is not null)",
            rows.clone(),
        )
        .await?;
    tx.execute_rows(
        "with given (workspace_id, id) as (values ROWS) delete from memory_vectors \
         where (workspace_id, memory_id) in (select workspace_id, id from given where workspace_id is not null)",
        rows,
    )
    .await?;
    Ok(deleted)
}

/// Deletes what expired, of all workspaces, at most `limit`; how many it were.
#[derive(Clone, Copy, Debug)]
pub struct ForgetExpired {
    pub at: Timestamp,
    pub limit: u32,
}

impl Write for ForgetExpired {
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        let expired = tx
            .select(
                "select workspace_id, id from memories where expires_at is not null and expires_at <= $1 \
                 order by expires_at limit $2",
                args![self.at, self.limit],
            )
            .await?;
        let mut found: Vec<(WorkspaceId, String)> = Vec::with_capacity(expired.len());
        for row in &expired {
            let mut columns = Columns::of(row);
            found.push((columns.parse()?, columns.text()?));
        }
        lock(tx, found.iter().map(|(workspace_id, _)| workspace_id)).await?;
        let mut rows = Rows::new(3);
        for (workspace_id, id) in &found {
            rows.push(args![workspace_id, id, self.at]);
        }
        // Before the lock another may have had it last longer.
        let still = tx
            .select_rows(
                "with given (workspace_id, id, at) as (values ROWS) select m.workspace_id, m.id \
                 from given g cross join memories m where g.workspace_id is not null \
                 and m.workspace_id = g.workspace_id and m.id = g.id and m.expires_at <= g.at",
                rows,
            )
            .await?;
        let mut rows = Rows::new(2);
        for row in &still {
            let mut columns = Columns::of(row);
            rows.push(args![columns.text()?, columns.text()?]);
        }
        delete_rows(tx, rows).await
    }
}
