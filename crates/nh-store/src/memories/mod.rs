//! What workspaces remember, and the embeddings by which it is found.
//!
//! Rows are the truth: an index is made of them and asks [`space`] whether it
//! is up to date, [`changed_since`] for what it lacks, and [`find_many`] for
//! what it found, so that what was deleted or changed meanwhile is not shown.

mod add;
mod ann;
mod change;
mod embed;
mod space;
mod vectors;

use nh_types::memory::{MemorySource, MemoryView};
use nh_types::{MemoryId, Page, PageRequest, RunId, Timestamp, WorkspaceId};
use serde_json::{Map, Value};
use sqlx::AssertSqlSafe;

pub use add::{Add, AddForGood, Added, MAX_METADATA_BYTES, NewMemory};
pub use ann::{Ann, CaughtUp, Near, Pgvector, pgvector};
pub use change::{Change, Changed, Delete, ForgetExpired, NewContent};
pub use embed::{
    BeginModel, ClaimModel, DropVectors, Embed, FinishModel, Lacking, NoteError, ReleaseModels,
    count_embedded, lacking,
};
pub use space::{Space, changing, space, spaces};
pub use vectors::Vectors;

use crate::columns::Columns;
use crate::cursor::Cursor;
use crate::sql::{Row, args, to_json};
use crate::{Store, StoreError};

/// What [`record`] reads.
macro_rules! select_memories {
    ($rest:literal) => {
        concat!(
            "select id, content, namespace, metadata, created_at, updated_at, expires_at, created_by, run_id, \
             step, revision from memories m ",
            $rest
        )
    };
}

/// A memory, with how often its workspace had changed when it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryRecord {
    pub view: MemoryView,
    pub revision: i64,
}

fn record(row: &Row) -> Result<MemoryRecord, StoreError> {
    read(&mut Columns::of(row))
}

fn read(columns: &mut Columns<'_>) -> Result<MemoryRecord, StoreError> {
    let view = MemoryView {
        id: columns.parse()?,
        content: columns.text()?,
        namespace: columns.text()?,
        metadata: columns.json()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        expires_at: columns.optional_time()?,
        source: MemorySource {
            created_by: columns.text()?,
            run_id: optional_run(columns.optional_text()?)?,
            step: columns.optional_text()?,
        },
    };
    Ok(MemoryRecord { view, revision: columns.int()? })
}

fn optional_run(text: Option<String>) -> Result<Option<RunId>, StoreError> {
    let damaged = |error: nh_types::id::InvalidId| StoreError::Corrupt(error.to_string());
    text.map(|id| id.parse().map_err(damaged)).transpose()
}

/// A memory that has not expired at `at`.
pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    id: &MemoryId,
    at: Timestamp,
) -> Result<Option<MemoryRecord>, StoreError> {
    store
        .find(
            select_memories!(
                "where workspace_id = $1 and id = $2 and (expires_at is null or expires_at > $3)"
            ),
            args![workspace_id, id, at],
            record,
        )
        .await
}

/// Where a content is kept already.
pub async fn find_content(
    store: &Store,
    workspace_id: &WorkspaceId,
    namespace: &str,
    hash: &[u8; 32],
    at: Timestamp,
) -> Result<Option<MemoryRecord>, StoreError> {
    store
        .find(
            select_memories!(
                "where workspace_id = $1 and namespace = $2 and content_hash = $3 \
                 and (expires_at is null or expires_at > $4)"
            ),
            args![workspace_id, namespace, hash, at],
            record,
        )
        .await
}

/// A memory beside its embeddings.
#[derive(Clone, Debug)]
pub struct Embedded {
    pub memory: MemoryRecord,
    pub vectors: Vec<f32>,
}

/// Those of `ids` that are there and embedded by `model`, in any order. Expired
/// ones too: whoever asks knows the time.
pub async fn find_many(
    store: &Store,
    workspace_id: &WorkspaceId,
    model: &str,
    ids: &[MemoryId],
) -> Result<Vec<Embedded>, StoreError> {
    let sql = format!(
        "select m.id, m.content, m.namespace, m.metadata, m.created_at, m.updated_at, m.expires_at, m.created_by, \
         m.run_id, m.step, m.revision, v.vectors from ({}) as wanted \
         cross join memories m cross join memory_vectors v \
         where m.workspace_id = $2 and m.id = wanted.text \
         and v.workspace_id = $2 and v.memory_id = m.id and v.model = $3",
        store.engine().texts()
    );
    store
        .all(AssertSqlSafe(sql), args![to_json(&ids)?, workspace_id, model], |row| {
            let mut columns = Columns::of(row);
            Ok(Embedded { memory: read(&mut columns)?, vectors: columns.floats()? })
        })
        .await
}

/// What an index keeps of a memory.
#[derive(Clone, Debug)]
pub struct IndexRow {
    pub id: MemoryId,
    pub revision: i64,
    /// The revision that it was written at first.
    pub born: i64,
    pub namespace: String,
    pub expires_at: Option<Timestamp>,
    pub content: String,
    pub vectors: Vec<f32>,
}

/// The memories that were written or changed after `revision`, in that order.
pub async fn changed_since(
    store: &Store,
    workspace_id: &WorkspaceId,
    model: &str,
    revision: i64,
    limit: u32,
) -> Result<Vec<IndexRow>, StoreError> {
    store.all(CHANGED_SINCE, args![workspace_id, model, revision, limit], index_row).await
}

const CHANGED_SINCE: &str = "select m.id, m.revision, m.born, m.namespace, m.expires_at, m.content, v.vectors \
     from memories m cross join memory_vectors v where m.workspace_id = $1 and m.revision > $3 \
     and v.workspace_id = $1 and v.memory_id = m.id and v.model = $2 order by m.revision limit $4";

fn index_row(row: &Row) -> Result<IndexRow, StoreError> {
    let mut columns = Columns::of(row);
    Ok(IndexRow {
        id: columns.parse()?,
        revision: columns.int()?,
        born: columns.int()?,
        namespace: columns.text()?,
        expires_at: columns.optional_time()?,
        content: columns.text()?,
        vectors: columns.floats()?,
    })
}

/// Which of a workspace's memories are meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Absent: of all namespaces.
    pub namespace: Option<String>,
    /// Absent: whoever wrote them.
    pub run_id: Option<RunId>,
}

/// Those that have not expired at `at`, newest first.
pub async fn list(
    store: &Store,
    workspace_id: &WorkspaceId,
    selection: &Selection,
    at: Timestamp,
    page: &PageRequest,
) -> Result<Page<MemoryView>, StoreError> {
    let after = Cursor::after(page.after.as_deref())?;
    let found = store
        .all(
            select_memories!(
                "where workspace_id = $1 and (created_at, id) < ($2, $3) \
                 and (expires_at is null or expires_at > $4) \
                 and ($5 is null or namespace = $5) and ($6 is null or run_id = $6) \
                 order by created_at desc, id desc limit $7"
            ),
            args![
                workspace_id,
                after.at_ms,
                after.id,
                at,
                selection.namespace.as_deref(),
                selection.run_id,
                page.limit.saturating_add(1)
            ],
            record,
        )
        .await?;
    let page =
        Page::cut(found, page.limit, |memory| Cursor::text(memory.view.created_at, memory.view.id.as_str()));
    Ok(page.map(|memory| memory.view))
}

/// What a filter looks at.
#[derive(Clone, Debug)]
pub struct Described {
    pub id: MemoryId,
    pub metadata: Map<String, Value>,
}

/// The metadata of the memories that come after `after` by their ids.
pub async fn describe(
    store: &Store,
    workspace_id: &WorkspaceId,
    selection: &Selection,
    after: &str,
    limit: u32,
) -> Result<Vec<Described>, StoreError> {
    let namespace = selection.namespace.as_deref();
    // A run has few of them, and an index of its own.
    let (sql, args) = match selection.run_id {
        None => (
            "select id, metadata from memories where workspace_id = $1 and id > $2 \
             and ($3 is null or namespace = $3) order by id limit $4",
            args![workspace_id, after, namespace, limit],
        ),
        Some(run_id) => (
            "select id, metadata from memories where workspace_id = $1 and run_id = $5 and id > $2 \
             and ($3 is null or namespace = $3) order by id limit $4",
            args![workspace_id, after, namespace, limit, run_id],
        ),
    };
    store
        .all(sql, args, |row| {
            let mut columns = Columns::of(row);
            Ok(Described { id: columns.parse()?, metadata: columns.json()? })
        })
        .await
}

/// How many memories a workspace has, those included that expired but are not
/// removed yet.
pub async fn count(store: &Store, workspace_id: &WorkspaceId) -> Result<u64, StoreError> {
    let counted = store
        .find("select count(*) from memories where workspace_id = $1", args![workspace_id], |row| {
            Columns::of(row).number()
        })
        .await?;
    Ok(counted.unwrap_or_default())
}

/// The cursor of [`list`] behind a memory.
pub fn cursor_after(memory: &MemoryView) -> String {
    Cursor::text(memory.created_at, memory.id.as_str())
}
