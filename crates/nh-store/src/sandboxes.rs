//! Sandboxes: which there are, which process has each, and for a while how those ended
//! that did. A process holds its own for so long by the database's clock, and prolongs
//! that; those of one that does not any more are stopped by whoever looks.

use nh_types::sandbox::{Isolation, SandboxState, StopReason};
use nh_types::{RunId, SandboxId, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};
use sqlx::AssertSqlSafe;

use crate::columns::Columns;
use crate::sql::{Row, args};
use crate::{Store, StoreError, Tx, Write};

mod meter;

pub use meter::Meter;

/// One row of table `sandboxes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxRecord {
    pub id: SandboxId,
    pub workspace_id: WorkspaceId,
    /// The process that has it.
    pub node: String,
    pub template: String,
    pub isolation: Isolation,
    pub state: SandboxState,
    pub stop_reason: Option<StopReason>,
    /// `key:42` or `session:user_…`.
    pub created_by: String,
    pub run_id: Option<RunId>,
    pub memory_mb: u32,
    /// Thousandths of a processor.
    pub cpu_millis: u32,
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
    pub stopped_at: Option<Timestamp>,
}

/// What [`record`] reads.
macro_rules! sandbox_columns {
    () => {
        "id, workspace_id, node, template, isolation, state, stop_reason, created_by, run_id, memory_mb, \
         cpu_millis, created_at, expires_at, stopped_at"
    };
}

fn record(row: &Row) -> Result<SandboxRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(SandboxRecord {
        id: columns.parse()?,
        workspace_id: columns.parse()?,
        node: columns.text()?,
        template: columns.text()?,
        isolation: columns.parse()?,
        state: columns.parse()?,
        stop_reason: optional(columns.optional_text()?)?,
        created_by: columns.text()?,
        run_id: optional(columns.optional_text()?)?,
        memory_mb: columns.number()?,
        cpu_millis: columns.number()?,
        created_at: columns.time()?,
        expires_at: columns.time()?,
        stopped_at: columns.optional_time()?,
    })
}

fn optional<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: Option<String>,
) -> Result<Option<T>, StoreError> {
    text.map(|text| text.parse().map_err(|error: T::Err| StoreError::Corrupt(error.to_string()))).transpose()
}

pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    id: &SandboxId,
) -> Result<Option<SandboxRecord>, StoreError> {
    store
        .find(
            concat!("select ", sandbox_columns!(), " from sandboxes where id = $1 and workspace_id = $2"),
            args![id, workspace_id],
            record,
        )
        .await
}

/// Those that have not ended, newest first.
pub async fn live(store: &Store, workspace_id: &WorkspaceId) -> Result<Vec<SandboxRecord>, StoreError> {
    store
        .all(
            concat!(
                "select ",
                sandbox_columns!(),
                " from sandboxes where workspace_id = $1 and stopped_at is null \
                 order by created_at desc, id desc"
            ),
            args![workspace_id],
            record,
        )
        .await
}

/// Those of a process that are for runs which have ended, or are not there any more.
pub async fn of_ended_runs(store: &Store, node: &str) -> Result<Vec<SandboxId>, StoreError> {
    store
        .all(
            "select id from sandboxes where node = $1 and stopped_at is null and run_id is not null and not exists \
             (select 1 from runs where runs.id = sandboxes.run_id and runs.finished_at is null)",
            args![node],
            |row| Columns::of(row).parse(),
        )
        .await
}

/// Makes the row of a sandbox that is about to start.
#[derive(Clone, Debug)]
pub struct Begin {
    pub sandbox: SandboxRecord,
    /// Sandboxes that the workspace may have at once.
    pub most: u32,
    /// For so long from now nobody else takes it for lost.
    pub hold_ms: i64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Begun {
    Done(Box<SandboxRecord>),
    /// The workspace has as many as it may have.
    Full,
}

impl Write for Begin {
    type Output = Begun;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Begun, StoreError> {
        let new = &self.sandbox;
        let count = tx
            .select(
                "select count(*) from sandboxes where workspace_id = $1 and stopped_at is null",
                args![&new.workspace_id],
            )
            .await?;
        if count.first().map_or(Ok(0), |row| Columns::of(row).int())? >= i64::from(self.most) {
            return Ok(Begun::Full);
        }
        let sql = format!(
            "insert into sandboxes (id, workspace_id, node, held_until, template, isolation, state, created_by, \
             run_id, memory_mb, cpu_millis, created_at, expires_at) \
             values ($1, $2, $3, {} + $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
            tx.now_ms()
        );
        // Only this crate's own words were put together.
        tx.execute(
            AssertSqlSafe(sql),
            args![
                &new.id,
                &new.workspace_id,
                &new.node,
                self.hold_ms,
                &new.template,
                new.isolation.as_str(),
                new.state.as_str(),
                &new.created_by,
                new.run_id,
                new.memory_mb,
                new.cpu_millis,
                new.created_at,
                new.expires_at
            ],
        )
        .await?;
        Ok(Begun::Done(Box::new(new.clone())))
    }
}

/// It runs; its life begins.
#[derive(Clone, Debug)]
pub struct Started {
    pub id: SandboxId,
    /// It is metered from now on.
    pub at: Timestamp,
    pub expires_at: Timestamp,
}

impl Write for Started {
    /// False: it was taken for lost meanwhile.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let changed = tx
            .execute(
                "update sandboxes set state = $2, expires_at = $3, metered_until = $4 \
                 where id = $1 and stopped_at is null",
                args![&self.id, SandboxState::Running.as_str(), self.expires_at, self.at],
            )
            .await?;
        Ok(changed > 0)
    }
}

/// Changes when its life is over.
#[derive(Clone, Debug)]
pub struct Prolong {
    pub workspace_id: WorkspaceId,
    pub id: SandboxId,
    pub expires_at: Timestamp,
}

impl Write for Prolong {
    /// None: there is no such sandbox that has not ended.
    type Output = Option<SandboxRecord>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Option<SandboxRecord>, StoreError> {
        let rows = tx
            .returning(
                concat!(
                    "update sandboxes set expires_at = $3 \
                     where id = $1 and workspace_id = $2 and stopped_at is null returning ",
                    sandbox_columns!()
                ),
                args![&self.id, &self.workspace_id, self.expires_at],
            )
            .await?;
        rows.first().map(record).transpose()
    }
}

/// It has ended, once nothing of it is left.
#[derive(Clone, Debug)]
pub struct Stop {
    pub id: SandboxId,
    pub reason: StopReason,
    pub at: Timestamp,
}

impl Write for Stop {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        tx.execute(
            "update sandboxes set state = $2, stop_reason = $3, stopped_at = $4 \
             where id = $1 and stopped_at is null",
            args![&self.id, SandboxState::Stopped.as_str(), self.reason.as_str(), self.at],
        )
        .await
        .map(drop)
    }
}

/// Forgets one, as if there had been none.
#[derive(Clone, Debug)]
pub struct Forget {
    pub workspace_id: WorkspaceId,
    pub id: SandboxId,
}

impl Write for Forget {
    /// Whether there was one.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let deleted = tx
            .execute(
                "delete from sandboxes where id = $1 and workspace_id = $2",
                args![&self.id, &self.workspace_id],
            )
            .await?;
        Ok(deleted > 0)
    }
}

/// Holds a process's sandboxes for longer, stops in its records those of others that
/// nobody holds any more, and forgets what ended before `ended_before`. What nobody held for a
/// while is metered from `at` on only.
#[derive(Clone, Debug)]
pub struct Hold {
    pub node: String,
    pub hold_ms: i64,
    pub at: Timestamp,
    pub ended_before: Timestamp,
    /// Whether others had the time to hold theirs, so that what they do not is lost. Where
    /// one process has the store there are no others.
    pub may_tell_lost: bool,
}

impl Write for Hold {
    /// Those that are still the process's own.
    type Output = Vec<SandboxId>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Vec<SandboxId>, StoreError> {
        let now = tx.now_ms();
        let lapsed = format!(
            "update sandboxes set metered_until = $2 where node = $1 and stopped_at is null \
             and held_until <= {now} and metered_until < $2"
        );
        let held = format!(
            "update sandboxes set held_until = {now} + $2 where node = $1 and stopped_at is null returning id"
        );
        // Where one process has the store, any other that had it is gone.
        let lost = match tx.is_shared() {
            true => format!("held_until <= {now}"),
            false => "held_until > 0".to_owned(),
        };
        let lost = format!(
            "update sandboxes set state = $2, stop_reason = $3, stopped_at = $4 \
             where node <> $1 and stopped_at is null and {lost}"
        );
        // Only this crate's own words were put together.
        tx.execute(AssertSqlSafe(lapsed), args![&self.node, self.at]).await?;
        let rows = tx.returning(AssertSqlSafe(held), args![&self.node, self.hold_ms]).await?;
        if self.may_tell_lost || !tx.is_shared() {
            tx.execute(
                AssertSqlSafe(lost),
                args![&self.node, SandboxState::Stopped.as_str(), StopReason::HubLost.as_str(), self.at],
            )
            .await?;
        }
        tx.execute(
            "delete from sandboxes where stopped_at is not null and stopped_at < $1",
            args![self.ended_before],
        )
        .await?;
        rows.iter().map(|row| Columns::of(row).parse()).collect()
    }
}
