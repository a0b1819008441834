//! Embedding all memories of a workspace by another model.

use nh_types::{MemoryId, WorkspaceId};

use super::{Vectors, space};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::args;
use crate::{Store, StoreError, Tx, Write};

/// A memory that a model has not embedded.
#[derive(Clone, Debug)]
pub struct Lacking {
    pub id: MemoryId,
    pub content: String,
    /// SHA-256 of the content.
    pub hash: [u8; 32],
}

/// The memories after `after`, by their ids, that `model` has not embedded.
pub async fn lacking(
    store: &Store,
    workspace_id: &WorkspaceId,
    model: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<Lacking>, StoreError> {
    store
        .all(
            "select id, content, content_hash from memories m where workspace_id = $1 and id > $3 \
             and not exists (select 1 from memory_vectors v where v.workspace_id = $1 and v.memory_id = m.id \
             and v.model = $2) order by id limit $4",
            args![workspace_id, model, after, limit],
            |row| {
                let mut columns = Columns::of(row);
                Ok(Lacking { id: columns.parse()?, content: columns.text()?, hash: columns.hash()? })
            },
        )
        .await
}

/// Has all memories embedded by another model, or no more by another if it is
/// the present one. Where there are none yet, it is the one from now on.
#[derive(Clone, Debug)]
pub struct BeginModel {
    pub workspace_id: WorkspaceId,
    pub model: String,
    pub dimensions: u32,
}

impl Write for BeginModel {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        tx.execute(
            "insert into memory_spaces (workspace_id, model, dimensions, revision) values ($1, $2, $3, 0) \
             on conflict (workspace_id) do update set next_error = null, next_owner = null, next_until = null, \
             next_model = case when memory_spaces.model = excluded.model then null else excluded.model end",
            args![&self.workspace_id, &self.model, self.dimensions],
        )
        .await
        .map(drop)
    }
}

/// Takes it on to embed a workspace's memories anew, or goes on with it; false
/// while somebody else is at it.
#[derive(Clone, Debug)]
pub struct ClaimModel {
    pub workspace_id: WorkspaceId,
    pub model: String,
    /// Who asks: unique among processes.
    pub owner: String,
    pub for_ms: u32,
}

impl Write for ClaimModel {
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let now = tx.now_ms();
        let sql = format!(
            "update memory_spaces set next_owner = $3, next_until = {now} + $4 \
             where workspace_id = $1 and next_model = $2 \
             and (next_owner is null or next_owner = $3 or next_until < {now})"
        );
        let args = args![&self.workspace_id, &self.model, &self.owner, self.for_ms];
        Ok(tx.execute(sqlx::AssertSqlSafe(sql), args).await? > 0)
    }
}

/// Leaves all that `owner` has claimed to others.
#[derive(Clone, Debug)]
pub struct ReleaseModels {
    pub owner: String,
}

impl Write for ReleaseModels {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let args = args![&self.owner];
        tx.execute("update memory_spaces set next_owner = null where next_owner = $1", args).await.map(drop)
    }
}

/// Keeps embeddings of contents that are still what was embedded.
#[derive(Clone, Debug)]
pub struct Embed {
    pub workspace_id: WorkspaceId,
    pub memories: Vec<(MemoryId, [u8; 32], Vectors)>,
}

impl Write for Embed {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        // Nobody changes or deletes one of them meanwhile.
        space::lock(tx, [&self.workspace_id]).await?;
        let mut rows = Rows::new(5);
        for (id, hash, vectors) in &self.memories {
            rows.push(args![&self.workspace_id, id, hash, &vectors.model, &*vectors.bytes()]);
        }
        tx.execute_rows(
            "with given (workspace_id, id, content_hash, model, vectors) as (values ROWS) \
             insert into memory_vectors (workspace_id, memory_id, model, vectors) \
             select g.workspace_id, g.id, g.model, g.vectors from given g cross join memories m \
             where g.workspace_id is not null and m.workspace_id = g.workspace_id and m.id = g.id \
             and m.content_hash = g.content_hash on conflict do nothing",
            rows,
        )
        .await
        .map(drop)
    }
}

/// Has searches go by the next model from now on; false while a memory that
/// changed lacks its embeddings, or when another model was asked for meanwhile.
#[derive(Clone, Debug)]
pub struct FinishModel {
    pub workspace_id: WorkspaceId,
    pub model: String,
    pub dimensions: u32,
    /// All memories up to this revision have their embeddings.
    pub since: i64,
}

impl Write for FinishModel {
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        // Whoever adds a memory waits for this row from here on.
        let raised = tx
            .execute(
                "update memory_spaces set revision = revision + 1 where workspace_id = $1 and next_model = $2",
                args![&self.workspace_id, &self.model],
            )
            .await?;
        if raised == 0 {
            return Ok(false);
        }
        let changed = tx
            .execute(
                "update memory_spaces set model = $2, dimensions = $3, model_since = revision, \
                 next_model = null, next_error = null, next_owner = null, next_until = null \
                 where workspace_id = $1 and not exists (select 1 from memories m where m.workspace_id = $1 \
                 and m.revision > $4 and not exists (select 1 from memory_vectors v where v.workspace_id = $1 \
                 and v.memory_id = m.id and v.model = $2))",
                args![&self.workspace_id, &self.model, self.dimensions, self.since],
            )
            .await?;
        Ok(changed > 0)
    }
}

/// Writes down why embedding anew does not go on, and leaves it to whoever tries
/// it next.
#[derive(Clone, Debug)]
pub struct NoteError {
    pub workspace_id: WorkspaceId,
    pub model: String,
    pub error: Option<String>,
}

impl Write for NoteError {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        tx.execute(
            "update memory_spaces set next_error = $3, next_owner = null where workspace_id = $1 and next_model = $2",
            args![&self.workspace_id, &self.model, self.error.as_deref()],
        )
        .await
        .map(drop)
    }
}

/// Deletes embeddings by models that are neither the present nor the next one,
/// of at most `limit` memories after `after`; the last of them.
#[derive(Clone, Debug)]
pub struct DropVectors {
    pub workspace_id: WorkspaceId,
    pub after: String,
    pub limit: u32,
}

impl Write for DropVectors {
    type Output = Option<String>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Option<String>, StoreError> {
        let old = tx
            .select(
                "select v.memory_id, v.model from memory_vectors v \
                 join memory_spaces s on s.workspace_id = v.workspace_id \
                 where v.workspace_id = $1 and v.memory_id > $2 and v.model <> s.model \
                 and (s.next_model is null or v.model <> s.next_model) order by v.memory_id limit $3",
                args![&self.workspace_id, &self.after, self.limit],
            )
            .await?;
        let (mut rows, mut last) = (Rows::new(3), None);
        for row in &old {
            let mut columns = Columns::of(row);
            let (id, model) = (columns.text()?, columns.text()?);
            rows.push(args![&self.workspace_id, &id, model]);
            last = Some(id);
        }
        tx.execute_rows(
            "with given (workspace_id, memory_id, model) as (values ROWS) delete from memory_vectors \
             where (workspace_id, memory_id, model) in \
             (select workspace_id, memory_id, model from given where workspace_id is not null)",
            rows,
        )
        .await?;
        Ok(last)
    }
}

/// Memories of a workspace that `model` has embedded.
pub async fn count_embedded(
    store: &Store,
    workspace_id: &WorkspaceId,
    model: &str,
) -> Result<u64, StoreError> {
    let counted = store
        .find(
            "select count(*) from memory_vectors where workspace_id = $1 and model = $2",
            args![workspace_id, model],
            |row| Columns::of(row).number(),
        )
        .await?;
    Ok(counted.unwrap_or_default())
}
