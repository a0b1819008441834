//! The embeddings of large workspaces in pgvector's index (HNSW): PostgreSQL
//! searches them, and no process needs to have them in memory.
//!
//! It is an index like any other: made of the memories' rows, by the revision
//! that it has, and written by nobody who writes a memory. Its tables are not in
//! the migrations, which run where there is no pgvector.

mod build;
mod install;
mod unreached;

use std::fmt::Write as _;

use nh_types::{MemoryId, Timestamp};

use super::{CHANGED_SINCE, IndexRow, Space, index_row};
use crate::columns::Columns;
use crate::sql::{Arg, Session, args};
use crate::{Store, StoreError};

pub use install::{Pgvector, pgvector};

/// Memories that are taken over at once: with the index there, within seconds.
const PAGE_ROWS: u32 = 500;
/// The most that pgvector takes for the length of its list of candidates.
const MAX_EF_SEARCH: usize = 1000;
const MIN_EF_SEARCH: usize = 100;
/// Among so few, all are compared.
const MAX_COMPARED: usize = 20_000;
/// The most numbers of an embedding that pgvector indexes, with 32 bits and 16.
const MAX_DIMENSIONS: u32 = 2000;
const MAX_HALF_DIMENSIONS: u32 = 4000;

/// The index of one workspace's memories as one model embeds them.
#[derive(Clone, Debug)]
pub struct Ann {
    space: Space,
    /// The model, its dimensions, and since when it is in use: what one that comes
    /// into use again had before is never taken for what it has now.
    model: String,
    /// pgvector's schema, quoted.
    schema: String,
    /// The indexed type, with its length.
    kind: String,
    /// The operators of that type's index.
    operators: &'static str,
}

/// How far an index came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaughtUp {
    Done,
    /// There is more to take over.
    More,
    /// It is not there (any more), or not ready.
    Gone,
    /// The workspace is searched by another model by now.
    OtherModel,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Among {
    Indexed,
    /// What the index does not lead to.
    Unreached,
    All,
}

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Near<'a> {
    pub vector: &'a [f32],
    /// Absent: in all namespaces.
    pub namespace: Option<&'a str>,
    pub at: Timestamp,
    /// Absent: all.
    pub among: Option<&'a [MemoryId]>,
    /// Embeddings to find; a memory may have several.
    pub count: usize,
}

impl Pgvector {
    /// None for embeddings that are longer than pgvector can index.
    pub fn of(&self, space: &Space) -> Option<Ann> {
        let (kind, operators) = if space.dimensions <= MAX_DIMENSIONS {
            ("vector", "vector_cosine_ops")
        } else if space.dimensions <= MAX_HALF_DIMENSIONS {
            ("halfvec", "halfvec_cosine_ops")
        } else {
            return None;
        };
        let schema = self.schema.clone();
        let kind = format!("{schema}.{kind}({})", space.dimensions);
        let model = format!("{}:{}:{}", space.model, space.dimensions, space.model_since);
        Some(Ann { space: space.clone(), model, schema, kind, operators })
    }
}

impl Ann {
    /// Takes over a page of what was written after what it has. Of two that do so
    /// at the same time one waits. `written` gives the fingerprints of a content.
    pub async fn catch_up(
        &self,
        store: &Store,
        only_ready: bool,
        written: fn(&str) -> Vec<i32>,
    ) -> Result<CaughtUp, StoreError> {
        let Some(mut session) = store.begin().await? else { return Ok(CaughtUp::Gone) };
        self.lock(&mut session).await?;
        let found = session
            .select(
                "select revision, is_ready from memory_ann_spaces where workspace_id = $1 and model = $2",
                self.key(),
            )
            .await?;
        let Some(row) = found.first() else { return Ok(CaughtUp::Gone) };
        let mut columns = Columns::of(row);
        let (revision, is_ready) = (columns.int()?, columns.flag()?);
        if only_ready && !is_ready {
            return Ok(CaughtUp::Gone);
        }
        if revision >= self.space.revision {
            return Ok(CaughtUp::Done);
        }
        let Space { workspace_id, model, .. } = &self.space;
        let changed = session.select(CHANGED_SINCE, args![workspace_id, model, revision, PAGE_ROWS]).await?;
        let rows: Vec<IndexRow> = changed.iter().map(index_row).collect::<Result<_, _>>()?;
        if !self.is_current(&mut session).await? {
            // The embeddings may have been removed before they were read.
            return Ok(CaughtUp::OtherModel);
        }
        self.replace(&mut session, &rows, written).await?;
        if is_ready {
            let ids: Vec<MemoryId> = rows.iter().map(|row| row.id.clone()).collect();
            self.list_unreached(&mut session, &ids).await?;
        }
        let is_last = rows.len() < PAGE_ROWS as usize;
        let last = rows.last().map_or(revision, |row| row.revision);
        // What was deleted has left gaps.
        let reached = if is_last { last.max(self.space.revision) } else { last };
        let mut key = self.key();
        key.push(reached.into());
        session
            .select("update memory_ann_spaces set revision = $3 where workspace_id = $1 and model = $2", key)
            .await?;
        session.commit().await?;
        Ok(if is_last { CaughtUp::Done } else { CaughtUp::More })
    }

    async fn is_current(&self, session: &mut Session) -> Result<bool, StoreError> {
        let Space { workspace_id, model, model_since, .. } = &self.space;
        let sql = "select 1 from memory_spaces where workspace_id = $1 and model = $2 and model_since = $3";
        Ok(!session.select(sql, args![workspace_id, model, *model_since]).await?.is_empty())
    }

    async fn replace(
        &self,
        session: &mut Session,
        rows: &[IndexRow],
        written: fn(&str) -> Vec<i32>,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut key = self.key();
        key.push(Arg::Column(rows.iter().map(|row| Arg::from(&row.id)).collect()));
        session
            .select(
                "delete from memory_ann where workspace_id = $1 and model = $2 and memory_id = any($3)",
                key,
            )
            .await?;
        let mut columns: [Vec<Arg>; 6] = Default::default();
        for row in rows {
            for (part, vector) in row.vectors.chunks_exact(self.space.dimensions as usize).enumerate() {
                let written = (part == 0).then(|| list('{', &written(&row.content), '}'));
                let cells = args![
                    &row.id,
                    part as u64,
                    &row.namespace,
                    row.expires_at,
                    written,
                    list('[', vector, ']')
                ];
                columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
            }
        }
        if columns[0].is_empty() {
            return Ok(());
        }
        let mut args = self.key();
        args.extend(columns.map(Arg::Column));
        let sql = format!(
            "insert into memory_ann \
             (workspace_id, model, memory_id, part, namespace, expires_at, written, embedding) \
             select $1, $2, id, part, namespace, expires_at, cast(written as integer[]), \
             cast(embedding as {}.vector) \
             from unnest($3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[]) \
             as given (id, part, namespace, expires_at, written, embedding)",
            self.schema
        );
        // Only the schema's name, quoted, was put into it.
        session.select(sqlx::AssertSqlSafe(sql), args).await.map(drop)
    }

    /// Held until the transaction's end by who writes to it.
    async fn lock(&self, session: &mut Session) -> Result<(), StoreError> {
        let sql =
            "select pg_advisory_xact_lock(hashtextextended(current_schema() || ' memory_ann ' || $1, 0))";
        session.select(sql, args![&self.space.workspace_id]).await.map(drop)
    }

    fn key(&self) -> Vec<Arg> {
        args![&self.space.workspace_id, &self.model]
    }

    /// The memories nearest to what is wanted, each embedding with its cosine, and
    /// whether there are no others.
    pub async fn nearest(
        &self,
        store: &Store,
        near: &Near<'_>,
    ) -> Result<(Vec<(MemoryId, f64)>, bool), StoreError> {
        if near.vector.len() != self.space.dimensions as usize || near.among.is_some_and(<[_]>::is_empty) {
            return Ok((Vec::new(), true));
        }
        if near.among.is_none_or(|among| among.len() > MAX_COMPARED) {
            let mut found = self.look(store, near, Among::Indexed).await?;
            if found.len() >= near.count {
                found.extend(self.look(store, near, Among::Unreached).await?);
                return Ok((found, false));
            }
            // The index gives up where it meets hardly any that count: those are few.
        }
        let found = self.look(store, near, Among::All).await?;
        let is_all = found.len() < near.count;
        Ok((found, is_all))
    }

    async fn look(
        &self,
        store: &Store,
        near: &Near<'_>,
        looked_among: Among,
    ) -> Result<Vec<(MemoryId, f64)>, StoreError> {
        let Some(mut session) = store.begin().await? else { return Ok(Vec::new()) };
        let given = format!("cast($1::float8[] as {}.vector)", self.schema);
        // What the index is on; anything else is compared one by one.
        let distance = if looked_among == Among::Indexed {
            self.by_index(&mut session, near.count).await?;
            self.indexed_distance(&given)
        } else {
            format!("(embedding operator({}.<=>) {given})", self.schema)
        };
        let vector = near.vector.iter().map(|value| Arg::Real(Some(f64::from(*value)))).collect();
        let mut args = vec![Arg::Column(vector), near.at.into()];
        let mut sql = format!(
            "select memory_id, 1 - {distance} from memory_ann where {} \
             and (expires_at is null or expires_at > $2)",
            self.condition()
        );
        if looked_among == Among::Unreached {
            let _ = write!(
                sql,
                " and (memory_id, part) in (select memory_id, part from memory_ann_unreached where {} \
                 limit {MAX_COMPARED})",
                self.condition()
            );
        }
        if let Some(namespace) = near.namespace {
            args.push(namespace.into());
            let _ = write!(sql, " and namespace = ${}", args.len());
        }
        if let Some(among) = near.among {
            args.push(Arg::Column(among.iter().map(Arg::from).collect()));
            let _ = write!(sql, " and memory_id = any(${})", args.len());
        }
        let _ = write!(sql, " order by {distance} limit {}", near.count);
        // The condition's texts were quoted.
        let rows = session.select(sqlx::AssertSqlSafe(sql), args).await?;
        session.commit().await?;
        rows.iter()
            .map(|row| {
                let mut columns = Columns::of(row);
                Ok((columns.parse()?, columns.optional_real()?.unwrap_or(-1.0)))
            })
            .collect()
    }

    /// Has this transaction's searches go by the index, for `count` at least.
    async fn by_index(&self, session: &mut Session, count: usize) -> Result<(), StoreError> {
        let sql = "select set_config('hnsw.iterative_scan', 'relaxed_order', true), \
                   set_config('hnsw.ef_search', $1, true), set_config('enable_sort', 'off', true)";
        let ef_search = count.clamp(MIN_EF_SEARCH, MAX_EF_SEARCH).to_string();
        session.select(sql, args![&ef_search]).await.map(drop)
    }

    /// A row's distance from a vector as the index is on it.
    fn indexed_distance(&self, vector: &str) -> String {
        let Self { schema, kind, .. } = self;
        format!("(cast(embedding as {kind}) operator({schema}.<=>) cast({vector} as {kind}))")
    }

    /// As literals, because the index is on what they pick.
    fn condition(&self) -> String {
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let (workspace_id, model) = (literal(self.space.workspace_id.as_str()), literal(&self.model));
        format!("workspace_id = {workspace_id} and model = {model}")
    }

    /// The memories in which each of these is written, at most `most` for each.
    pub async fn with(
        &self,
        store: &Store,
        prints: &[i32],
        most: usize,
    ) -> Result<Vec<(i32, MemoryId)>, StoreError> {
        if prints.is_empty() {
            return Ok(Vec::new());
        }
        let mut args = self.key();
        args.push(Arg::Column(prints.iter().map(|print| Arg::Int(Some(i64::from(*print)))).collect()));
        args.push((most as u64).into());
        // So compared, workspace and model lead to no index: only the fingerprints do.
        let sql = "select print, found.memory_id from unnest($3::bigint[]) as given (print) \
                   cross join lateral (select memory_id from memory_ann \
                   where written @> array[cast(print as integer)] and workspace_id is not distinct from $1 \
                   and model is not distinct from $2 limit $4) as found";
        store
            .all(sql, args, |row| {
                let mut columns = Columns::of(row);
                let print = columns.int()?;
                let print = i32::try_from(print).map_err(|error| StoreError::Corrupt(error.to_string()))?;
                Ok((print, columns.parse()?))
            })
            .await
    }

    /// Removes those of `ids` that are no memories any more.
    pub async fn forget(&self, store: &Store, ids: &[MemoryId]) -> Result<(), StoreError> {
        let Some(mut session) = store.begin().await? else { return Ok(()) };
        let mut args = self.key();
        args.push(Arg::Column(ids.iter().map(Arg::from).collect()));
        session
            .select(
                "delete from memory_ann a where workspace_id = $1 and model = $2 and memory_id = any($3) \
                 and not exists (select 1 from memories m where m.workspace_id = $1 and m.id = a.memory_id)",
                args,
            )
            .await?;
        session.commit().await
    }

    /// Removes those that had expired by then.
    pub async fn forget_expired(&self, store: &Store, at: Timestamp) -> Result<(), StoreError> {
        let Some(mut session) = store.begin().await? else { return Ok(()) };
        let mut args = self.key();
        args.push(at.into());
        session
            .select(
                "delete from memory_ann where workspace_id = $1 and model = $2 and expires_at <= $3",
                args,
            )
            .await?;
        session.commit().await
    }
}

/// As PostgreSQL reads an array, and pgvector a vector.
fn list<T: ToString>(open: char, values: &[T], close: char) -> String {
    let values: Vec<String> = values.iter().map(T::to_string).collect();
    format!("{open}{}{close}", values.join(","))
}
