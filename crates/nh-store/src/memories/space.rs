use std::collections::BTreeSet;

use nh_types::WorkspaceId;

use super::Vectors;
use crate::columns::Columns;
use crate::sql::{Row, args};
use crate::{Store, StoreError, Tx};

/// By what a workspace's memories are embedded, and how often they changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    pub workspace_id: WorkspaceId,
    pub model: String,
    /// Numbers in an embedding.
    pub dimensions: u32,
    pub revision: i64,
    /// The revision from which on the model is in use.
    pub model_since: i64,
    /// What all are being embedded by anew.
    pub next_model: Option<String>,
    /// Why that does not go on.
    pub next_error: Option<String>,
}

/// What [`record`] reads.
macro_rules! select_spaces {
    ($rest:literal) => {
        concat!(
            "select workspace_id, model, dimensions, revision, model_since, next_model, next_error \
             from memory_spaces ",
            $rest
        )
    };
}

fn record(row: &Row) -> Result<Space, StoreError> {
    let mut columns = Columns::of(row);
    Ok(Space {
        workspace_id: columns.parse()?,
        model: columns.text()?,
        dimensions: columns.number()?,
        revision: columns.int()?,
        model_since: columns.int()?,
        next_model: columns.optional_text()?,
        next_error: columns.optional_text()?,
    })
}

/// None before the workspace's first memory.
pub async fn space(store: &Store, workspace_id: &WorkspaceId) -> Result<Option<Space>, StoreError> {
    store.find(select_spaces!("where workspace_id = $1"), args![workspace_id], record).await
}

/// The spaces of the workspaces after `after`, for who prepares for searches.
pub async fn spaces(store: &Store, after: &str, limit: u32) -> Result<Vec<Space>, StoreError> {
    store
        .all(
            select_spaces!("where workspace_id > $1 order by workspace_id limit $2"),
            args![after, limit],
            record,
        )
        .await
}

/// Those of all workspaces that are being embedded anew.
pub async fn changing(store: &Store, limit: u32) -> Result<Vec<Space>, StoreError> {
    store
        .all(
            select_spaces!("where next_model is not null order by workspace_id limit $1"),
            args![limit],
            record,
        )
        .await
}

/// Raises the revision by `by`, and so locks the space until the commit. One
/// that is not there is made with the model of `vectors`.
pub(super) async fn raise(
    tx: &mut Tx,
    workspace_id: &WorkspaceId,
    vectors: Option<&Vectors>,
    by: u32,
) -> Result<Option<Space>, StoreError> {
    let rows = match vectors {
        Some(Vectors { model, dimensions, .. }) => {
            tx.returning(
                "insert into memory_spaces (workspace_id, model, dimensions, revision) \
                 values ($1, $2, $3, $4) on conflict (workspace_id) \
                 do update set revision = memory_spaces.revision + excluded.revision \
                 returning workspace_id, model, dimensions, revision, model_since, next_model, next_error",
                args![workspace_id, model, *dimensions, by],
            )
            .await?
        }
        None => {
            tx.returning(
                "update memory_spaces set revision = revision + $2 where workspace_id = $1 \
                 returning workspace_id, model, dimensions, revision, model_since, next_model, next_error",
                args![workspace_id, by],
            )
            .await?
        }
    };
    rows.first().map(record).transpose()
}

/// Locks the spaces of several workspaces until the commit, in one order
/// whoever else does this.
pub(super) async fn lock(
    tx: &mut Tx,
    workspaces: impl IntoIterator<Item = &WorkspaceId>,
) -> Result<(), StoreError> {
    let sorted: BTreeSet<&WorkspaceId> = workspaces.into_iter().collect();
    for workspace_id in sorted {
        raise(tx, workspace_id, None, 0).await?;
    }
    Ok(())
}

impl Space {
    /// Whether searches go by these embeddings.
    pub(super) fn takes(&self, vectors: &Vectors) -> bool {
        self.model == vectors.model && self.dimensions == vectors.dimensions
    }
}
