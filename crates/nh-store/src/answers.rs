//! Chat answers that are kept for the same request of the same workspace.

use nh_types::{Timestamp, WorkspaceId};

use crate::columns::Columns;
use crate::sql::args;
use crate::{Store, StoreError, Tx, Write};

/// So many are removed at most whenever one is kept.
const REMOVED_AT_ONCE: u32 = 32;

/// An answer, as it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// OpenAI's completion, as JSON.
    pub answer: String,
    /// US dollars; None: not known.
    pub cost_usd: Option<f64>,
    pub created_at: Timestamp,
}

/// The answer to a request that has not expired at `at`.
pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    request: &[u8; 32],
    at: Timestamp,
) -> Result<Option<Kept>, StoreError> {
    store
        .find(
            "select answer, cost_usd, created_at from chat_answers \
             where workspace_id = $1 and request = $2 and expires_at > $3",
            args![workspace_id, request, at],
            |row| {
                let mut columns = Columns::of(row);
                Ok(Kept {
                    answer: columns.text()?,
                    cost_usd: columns.optional_real()?,
                    created_at: columns.time()?,
                })
            },
        )
        .await
}

/// Keeps an answer in place of an earlier one to the same, and removes the workspace's oldest
/// beyond `most`.
#[derive(Clone, Debug)]
pub struct Keep {
    pub workspace_id: WorkspaceId,
    /// SHA-256.
    pub request: [u8; 32],
    pub kept: Kept,
    pub expires_at: Timestamp,
    pub most: u32,
}

impl Write for Keep {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let Kept { answer, cost_usd, created_at } = &self.kept;
        tx.execute(
            "insert into chat_answers (workspace_id, request, answer, cost_usd, created_at, expires_at) \
             values ($1, $2, $3, $4, $5, $6) on conflict (workspace_id, request) do update set \
             answer = excluded.answer, cost_usd = excluded.cost_usd, created_at = excluded.created_at, \
             expires_at = excluded.expires_at",
            args![&self.workspace_id, &self.request, answer, *cost_usd, *created_at, self.expires_at],
        )
        .await?;
        let skip = tx.engine().skip_locked();
        let expired = format!(
            "delete from chat_answers where (workspace_id, request) in (select workspace_id, request \
             from chat_answers where expires_at <= $1 order by expires_at limit $2 {skip})"
        );
        // Only this crate's own words were put together.
        tx.execute(sqlx::AssertSqlSafe(expired), args![*created_at, REMOVED_AT_ONCE]).await?;
        let too_many = format!(
            "delete from chat_answers where (workspace_id, request) in (select workspace_id, request \
             from chat_answers where workspace_id = $1 and created_at < (select created_at from chat_answers \
             where workspace_id = $1 order by created_at desc limit 1 offset $2) \
             order by created_at limit $3 {skip})"
        );
        let room = args![&self.workspace_id, self.most.saturating_sub(1), REMOVED_AT_ONCE];
        tx.execute(sqlx::AssertSqlSafe(too_many), room).await.map(drop)
    }
}
