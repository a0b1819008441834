//! Embeddings that the index has and does not lead to.
//!
//! A graph like HNSW's leads to a point by the points near it, and each of those
//! keeps the nearest it has: one that is unlike all others may be kept by none
//! (Malkov and Yashunin 2016, section 4, algorithm 4; measured with pgvector 0.8, of
//! 1,000 that were at right angles to 100 others 939 were not found by their own
//! embedding). Each is looked for when it is written; those that are not found are
//! listed, and compared one by one in every search.

use nh_types::MemoryId;

use super::{Ann, PAGE_ROWS};
use crate::columns::Columns;
use crate::sql::{Arg, Session};
use crate::{Store, StoreError};

/// Where an embedding finds this many that are as near as itself, it is one of many
/// that say the same.
const LOOKED_AT: usize = 40;

impl Ann {
    /// Lists those of `ids` that the index does not lead to.
    pub(super) async fn list_unreached(
        &self,
        session: &mut Session,
        ids: &[MemoryId],
    ) -> Result<(), StoreError> {
        self.by_index(session, LOOKED_AT).await?;
        let (condition, distance) = (self.condition(), self.indexed_distance("given.embedding"));
        let sql = format!(
            "insert into memory_ann_unreached (workspace_id, model, memory_id, part) \
             select workspace_id, model, memory_id, part from memory_ann given \
             where {condition} and memory_id = any($1) and not exists (select 1 from \
             (select memory_id, part from memory_ann where {condition} order by {distance} limit {LOOKED_AT}) \
             as found where found.memory_id = given.memory_id and found.part = given.part) \
             on conflict do nothing"
        );
        // The condition's texts were quoted.
        let ids = Arg::Column(ids.iter().map(Arg::from).collect());
        session.select(sqlx::AssertSqlSafe(sql), vec![ids]).await.map(drop)
    }

    /// Looks for all, once the index has been made.
    pub(super) async fn list_all_unreached(&self, store: &Store) -> Result<(), StoreError> {
        let sql = "select distinct memory_id from memory_ann where workspace_id = $1 and model = $2 \
                   and memory_id > $3 order by memory_id limit $4";
        let mut after = String::new();
        loop {
            let mut page = self.key();
            page.extend([Arg::from(after.as_str()), PAGE_ROWS.into()]);
            let ids: Vec<MemoryId> = store.all(sql, page, |row| Columns::of(row).parse()).await?;
            let Some(last) = ids.last() else { return Ok(()) };
            last.as_str().clone_into(&mut after);
            let Some(mut session) = store.begin().await? else { return Ok(()) };
            self.list_unreached(&mut session, &ids).await?;
            session.commit().await?;
        }
    }
}
