//! Making the index of a workspace that has become large. It takes long, on a
//! connection of its own, and keeps nobody waiting.

use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, PgConnection};

use super::{Ann, CaughtUp};
use crate::columns::Columns;
use crate::sql::{Row, args, command};
use crate::{Store, StoreError};

const REMOVED_AT_ONCE: u32 = 5000;

impl Ann {
    /// Whether searches may go by it.
    pub async fn is_ready(&self, store: &Store) -> Result<bool, StoreError> {
        let sql = "select is_ready from memory_ann_spaces where workspace_id = $1 and model = $2";
        let found = store.find(sql, self.key(), |row| Columns::of(row).flag()).await?;
        Ok(found.unwrap_or(false))
    }

    /// Takes over all memories and indexes them; false when another process is at
    /// it, or the workspace's model has changed. What was broken off goes on.
    pub async fn build(&self, store: &Store, written: fn(&str) -> Vec<i32>) -> Result<bool, StoreError> {
        let Some(mut connection) = store.apart().await? else { return Ok(false) };
        command(&mut connection, "set statement_timeout = 0").await?;
        if !self.claim(&mut connection).await? {
            return Ok(false);
        }
        let built = self.build_claimed(store, &mut connection, written).await;
        command(&mut connection, "select pg_advisory_unlock_all()").await?;
        built
    }

    async fn build_claimed(
        &self,
        store: &Store,
        connection: &mut PgConnection,
        written: fn(&str) -> Vec<i32>,
    ) -> Result<bool, StoreError> {
        self.remove_others(store, connection).await?;
        let begin = "insert into memory_ann_spaces (workspace_id, model, revision, is_ready) \
                     values ($1, $2, 0, 0) on conflict do nothing";
        store.fetch(begin, self.key()).await?;
        loop {
            match self.catch_up(store, false, written).await? {
                CaughtUp::More => {}
                CaughtUp::Done => break,
                CaughtUp::Gone | CaughtUp::OtherModel => return Ok(false),
            }
        }
        // The planner has to know how large it is.
        command(connection, "analyze memory_ann").await?;
        self.index(store, connection).await?;
        self.list_all_unreached(store).await?;
        let ready = "update memory_ann_spaces set is_ready = 1 where workspace_id = $1 and model = $2";
        store.fetch(ready, self.key()).await?;
        Ok(true)
    }

    /// The connection holds the claim until it ends.
    async fn claim(&self, connection: &mut PgConnection) -> Result<bool, StoreError> {
        let sql = "select case when pg_try_advisory_lock(hashtextextended( \
                   current_schema() || ' memory_ann build ' || $1, 0)) then 1::bigint else 0 end";
        let row = sqlx::query(sql).bind(self.space.workspace_id.as_str()).fetch_one(connection).await?;
        Columns::of(&Row::Postgres(row)).flag()
    }

    /// Removes what the workspace had by other models.
    async fn remove_others(&self, store: &Store, connection: &mut PgConnection) -> Result<(), StoreError> {
        let others = store
            .all(
                "select model from memory_ann_spaces where workspace_id = $1 and model <> $2",
                self.key(),
                |row| Columns::of(row).text(),
            )
            .await?;
        for model in others {
            let other = Self { model, ..self.clone() };
            // Before its rows: nobody takes it for complete from here on.
            let space = "delete from memory_ann_spaces where workspace_id = $1 and model = $2";
            store.fetch(space, other.key()).await?;
            let drop = format!("drop index concurrently if exists {}", other.index_name());
            command(connection, AssertSqlSafe(drop)).await?;
        }
        // Also those that one has left that was broken off here.
        let rows = "with gone as (delete from memory_ann where (workspace_id, model, memory_id, part) in ( \
                    select workspace_id, model, memory_id, part from memory_ann \
                    where workspace_id = $1 and model <> $2 limit $3) returning 1) select count(*) from gone";
        loop {
            let mut args = self.key();
            args.push(REMOVED_AT_ONCE.into());
            let removed = store.find(rows, args, |row| Columns::of(row).int()).await?;
            if removed.unwrap_or_default() < i64::from(REMOVED_AT_ONCE) {
                return Ok(());
            }
        }
    }

    fn index_name(&self) -> String {
        let hash = Sha256::digest(format!("{} {}", self.space.workspace_id, self.model));
        hash[..12].iter().fold("memory_ann_".to_owned(), |name, byte| format!("{name}{byte:02x}"))
    }

    /// Others write meanwhile. One that was broken off is there, but not valid.
    async fn index(&self, store: &Store, connection: &mut PgConnection) -> Result<(), StoreError> {
        let name = self.index_name();
        let sql = "select case when indisvalid then 1::bigint else 0 end from pg_index \
                   where indexrelid = to_regclass($1)";
        let valid = store.find(sql, args![&name], |row| Columns::of(row).flag()).await?;
        if valid == Some(true) {
            return Ok(());
        }
        if valid == Some(false) {
            command(connection, AssertSqlSafe(format!("drop index concurrently if exists {name}"))).await?;
        }
        let create = format!(
            "create index concurrently {name} on memory_ann \
             using hnsw ((cast(embedding as {})) {}.{}) where {}",
            self.kind,
            self.schema,
            self.operators,
            self.condition()
        );
        // The name is a hash, and the condition's texts were quoted.
        command(connection, AssertSqlSafe(create)).await
    }
}
