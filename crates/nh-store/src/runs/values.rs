//! Values that are kept apart from the rows that refer to them. They are
//! written in the commit of those rows, so that neither is ever there without
//! the other, and outlive their run for a moment: retention removes a run at
//! once, and its values in bounded batches after that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use nh_types::{RunId, Timestamp, WorkspaceId};

use super::RunFault;
use super::reference::EventReference;
use super::retention::first_id_at;
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::args;
use crate::{Store, StoreError, Tx, Write};

/// Of one row; the last part of a value is shorter.
const PART_BYTES: usize = 256 * 1024;
/// Written in one statement, and read in one.
const PARTS_AT_ONCE: usize = 16;

/// JSON as a row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept<T> {
    Here(T),
    /// Elsewhere, so many bytes of text.
    Apart(u64),
}

impl Kept<String> {
    /// As the column holds it: `@` is the beginning of no JSON.
    pub(super) fn into_column(self) -> String {
        match self {
            Self::Here(text) => text,
            Self::Apart(bytes) => format!("@{bytes}"),
        }
    }
}

/// A value that is kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeValue {
    /// Unique in the run.
    pub name: String,
    pub bytes: u64,
    /// To be written with the row that refers to it; absent where it is kept
    /// outside this store, and in what was read.
    pub text: Option<Arc<str>>,
}

impl LargeValue {
    pub fn new(name: impl Into<String>, text: impl Into<Arc<str>>) -> Self {
        let text: Arc<str> = text.into();
        Self { name: name.into(), bytes: text.len() as u64, text: Some(text) }
    }
}

pub(super) async fn insert(tx: &mut Tx, run_id: RunId, values: &[LargeValue]) -> Result<(), StoreError> {
    for LargeValue { name, text, .. } in values {
        let Some(text) = text else { continue };
        let mut parts = text.as_bytes().chunks(PART_BYTES).zip(0_i64..).peekable();
        while parts.peek().is_some() {
            let mut rows = Rows::new(4);
            for (data, part) in parts.by_ref().take(PARTS_AT_ONCE) {
                rows.push(args![run_id, name, part, data]);
            }
            tx.execute_rows(
                "with given (run_id, name, part, data) as (values ROWS) \
                 insert into run_values (run_id, name, part, data) select * from given where run_id is not null",
                rows,
            )
            .await?;
        }
    }
    Ok(())
}

pub(super) async fn remove(tx: &mut Tx, run_id: RunId, names: &[String]) -> Result<(), StoreError> {
    for name in names {
        tx.execute("delete from run_values where run_id = $1 and name = $2", args![run_id, name]).await?;
    }
    Ok(())
}

/// How many bytes a value has; None when the workspace's run has none of this
/// name.
pub async fn value_bytes(
    store: &Store,
    workspace_id: &WorkspaceId,
    run_id: RunId,
    name: &str,
) -> Result<Option<u64>, StoreError> {
    store
        .find(
            "select part, cast(length(data) as bigint) from run_values where run_id = $1 and name = $2 \
             and exists (select 1 from runs where id = $1 and workspace_id = $3) order by part desc limit 1",
            args![run_id, name, workspace_id],
            |row| {
                let mut columns = Columns::of(row);
                let (part, last): (u64, u64) = (columns.number()?, columns.number()?);
                Ok(part * PART_BYTES as u64 + last)
            },
        )
        .await
}

/// Some of a value's bytes, beginning with byte `from`: at most 4 MiB, and none
/// only behind its end.
pub async fn value_from(
    store: &Store,
    workspace_id: &WorkspaceId,
    run_id: RunId,
    name: &str,
    from: u64,
) -> Result<Vec<u8>, StoreError> {
    let (first, over) = (from / PART_BYTES as u64, (from % PART_BYTES as u64) as usize);
    let parts = store
        .all(
            "select data from run_values where run_id = $1 and name = $2 and part >= $3 \
             and exists (select 1 from runs where id = $1 and workspace_id = $5) order by part limit $4",
            args![run_id, name, first, PARTS_AT_ONCE as u64, workspace_id],
            |row| Columns::of(row).bytes(),
        )
        .await?;
    let mut bytes = parts.concat();
    bytes.drain(..over.min(bytes.len()));
    Ok(bytes)
}

/// Removes values that no run has: what a removed run left, the oldest first.
#[derive(Clone, Copy, Debug)]
pub struct RemoveOrphans {
    /// Only of runs that were made before.
    pub before: Timestamp,
    /// At most so many parts of 256 KiB.
    pub limit: u32,
}

impl Write for RemoveOrphans {
    /// How many parts were removed.
    type Output = u64;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<u64, StoreError> {
        tx.execute(
            "delete from run_values where (run_id, name, part) in (select run_id, name, part from run_values \
             where run_id < $1 and not exists (select 1 from runs where runs.id = run_values.run_id) \
             order by run_id, name, part limit $2)",
            args![first_id_at(self.before), self.limit],
        )
        .await
    }
}

/// By run and name, how many bytes.
type Sizes = BTreeMap<(RunId, String), u64>;

/// What is wrong with the values of the runs after one and up to another, both
/// as texts: references to what is not there, or not as long as they say, and
/// values that nothing refers to.
pub(super) async fn check(
    store: &Store,
    after: &str,
    last: &str,
) -> Result<BTreeSet<(RunId, RunFault)>, StoreError> {
    let found = look(store, after, last).await?;
    if found.is_empty() {
        return Ok(found);
    }
    // A run that went on between two reads looks wrong once.
    let again = look(store, after, last).await?;
    Ok(found.intersection(&again).copied().collect())
}

async fn look(store: &Store, after: &str, last: &str) -> Result<BTreeSet<(RunId, RunFault)>, StoreError> {
    let wanted = referred_to(store, after, last).await?;
    let there = sizes(store, after, last).await?;
    let orphaned = store.all(
        "select distinct run_id from run_values where run_id > $1 and run_id <= $2 \
         and not exists (select 1 from runs where runs.id = run_values.run_id)",
        args![after, last],
        |row| Columns::of(row).parse::<RunId>(),
    );
    let orphaned: BTreeSet<RunId> = orphaned.await?.into_iter().collect();
    let missing = wanted.iter().filter(|(key, bytes)| there.get(*key) != Some(bytes));
    let missing = missing.map(|((run_id, _), _)| (*run_id, RunFault::ValueMissing));
    let unreferenced = there.keys().filter(|key| !wanted.contains_key(*key)).map(|(run_id, _)| {
        let is_orphan = orphaned.contains(run_id);
        (*run_id, if is_orphan { RunFault::ValuesOrphaned } else { RunFault::ValueUnreferenced })
    });
    Ok(missing.chain(unreferenced).collect())
}

async fn referred_to(store: &Store, after: &str, last: &str) -> Result<Sizes, StoreError> {
    let mut wanted = Sizes::new();
    for sql in [
        "select id, 'input', substr(input, 2) from runs where id > $1 and id <= $2 and substr(input, 1, 1) = '@'",
        "select id, 'definition', substr(definition, 2) from runs where id > $1 and id <= $2 \
         and substr(definition, 1, 1) = '@'",
        "select id, 'result', substr(result, 2) from runs where id > $1 and id <= $2 \
         and substr(result, 1, 1) = '@'",
        "select run_id, 'signal.' || id, substr(data, 2) from run_signals where run_id > $1 and run_id <= $2 \
         and taken = 0 and substr(data, 1, 1) = '@'",
    ] {
        let found = store.all(sql, args![after, last], |row| {
            let mut columns = Columns::of(row);
            Ok(((columns.parse()?, columns.text()?), columns.parse()?))
        });
        wanted.extend(found.await?);
    }
    let events = store.all(
        "select run_id, seq, kind, substr(data, 1, 100) from run_events where run_id > $1 and run_id <= $2 \
         and substr(data, 1, 10) = '{\"large\":{'",
        args![after, last],
        |row| {
            let mut columns = Columns::of(row);
            let (run_id, seq): (RunId, i64) = (columns.parse()?, columns.int()?);
            let (kind, data) = (columns.text()?, columns.text()?);
            let reference = EventReference::read(&data).ok_or_else(|| {
                StoreError::Corrupt(format!("event {seq} of run {run_id} refers to nothing"))
            })?;
            Ok(((run_id, reference.name(&kind, seq)), reference.bytes))
        },
    );
    wanted.extend(events.await?);
    Ok(wanted)
}

async fn sizes(store: &Store, after: &str, last: &str) -> Result<Sizes, StoreError> {
    let found = store.all(
        "select run_id, name, case when count(*) = max(part) + 1 then cast(sum(length(data)) as bigint) else -1 end \
         from run_values where run_id > $1 and run_id <= $2 group by run_id, name",
        args![after, last],
        |row| {
            let mut columns = Columns::of(row);
            // Parts that do not follow each other fit no reference.
            Ok(((columns.parse()?, columns.text()?), u64::try_from(columns.int()?).unwrap_or(u64::MAX)))
        },
    );
    Ok(found.await?.into_iter().collect())
}
