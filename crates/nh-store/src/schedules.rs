//! Runs that begin by themselves.

use nh_types::run::RunError;
use nh_types::schedule::ScheduleDefinition;
use nh_types::{Page, PageRequest, RunId, ScheduleId, ScopeSet, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::columns::Columns;
use crate::cursor::Cursor;
use crate::sql::{Row, args, to_json};
use crate::{Store, StoreError, Tx, Write};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScheduleRecord {
    pub workspace_id: WorkspaceId,
    pub id: ScheduleId,
    pub definition: ScheduleDefinition,
    pub enabled: bool,
    /// `key:42` or `session:user_…`: who made it or changed it last.
    pub created_by: String,
    pub scopes: ScopeSet,
    /// When it is looked at next; None: never by itself.
    pub next_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    pub last_run_id: Option<RunId>,
    pub last_error: Option<RunError>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// What [`record`] reads.
macro_rules! select_schedules {
    ($rest:literal) => {
        concat!(
            "select workspace_id, id, definition, enabled, created_by, scopes, next_at, last_at, last_run_id, \
             last_error, created_at, updated_at from schedules ",
            $rest
        )
    };
}

fn record(row: &Row) -> Result<ScheduleRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(ScheduleRecord {
        workspace_id: columns.parse()?,
        id: columns.parse()?,
        definition: columns.json()?,
        enabled: columns.flag()?,
        created_by: columns.text()?,
        scopes: columns.scopes()?,
        next_at: columns.optional_time()?,
        last_at: columns.optional_time()?,
        last_run_id: columns
            .optional_text()?
            .map(|id| id.parse().map_err(|_| StoreError::Corrupt(format!("`{id}` is no run's id"))))
            .transpose()?,
        last_error: columns.optional_json()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}

pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    id: &ScheduleId,
) -> Result<Option<ScheduleRecord>, StoreError> {
    store
        .find(select_schedules!("where workspace_id = $1 and id = $2"), args![workspace_id, id], record)
        .await
}

/// Newest first.
pub async fn list(
    store: &Store,
    workspace_id: &WorkspaceId,
    page: &PageRequest,
) -> Result<Page<ScheduleRecord>, StoreError> {
    let after = Cursor::after(page.after.as_deref())?;
    let found = store
        .all(
            select_schedules!(
                "where workspace_id = $1 and (created_at, id) < ($2, $3) \
                 order by created_at desc, id desc limit $4"
            ),
            args![workspace_id, after.at_ms, after.id, page.limit.saturating_add(1)],
            record,
        )
        .await?;
    Ok(Page::cut(found, page.limit, |schedule| Cursor::text(schedule.created_at, schedule.id.as_str())))
}

/// Those of all workspaces whose time has come, the oldest first. What this
/// version cannot read is left out, so that it does not hold up the others.
pub async fn due(store: &Store, now: Timestamp, limit: u32) -> Result<Vec<ScheduleRecord>, StoreError> {
    let rows = store
        .fetch(
            select_schedules!("where next_at is not null and next_at <= $1 order by next_at limit $2"),
            args![now, limit],
        )
        .await?;
    let read = |row| match record(row) {
        Ok(schedule) => Some(schedule),
        Err(error) => {
            tracing::error!(%error, "a schedule that is due cannot be read; its next change mends it");
            None
        }
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// When the next one is due.
pub async fn next_due(store: &Store) -> Result<Option<Timestamp>, StoreError> {
    let found = store
        .find("select min(next_at) from schedules where next_at is not null", args![], |row| {
            Columns::of(row).optional_time()
        })
        .await?;
    Ok(found.flatten())
}

/// Makes a schedule. A taken id is a [`StoreError::Conflict`].
#[derive(Clone, Debug)]
pub struct Create {
    pub schedule: ScheduleRecord,
    /// Schedules that the workspace may have.
    pub most: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Created {
    Done(Box<ScheduleRecord>),
    /// The workspace has as many as it may have.
    Full,
}

impl Write for Create {
    type Output = Created;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Created, StoreError> {
        let new = &self.schedule;
        let count = tx
            .select("select count(*) from schedules where workspace_id = $1", args![&new.workspace_id])
            .await?;
        if count.first().map_or(Ok(0), |row| Columns::of(row).int())? >= i64::from(self.most) {
            return Ok(Created::Full);
        }
        let made = tx
            .execute(
                "insert into schedules (workspace_id, id, definition, enabled, created_by, scopes, next_at, \
                 created_at, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9) on conflict do nothing",
                args![
                    &new.workspace_id,
                    &new.id,
                    to_json(&new.definition)?,
                    new.enabled,
                    &new.created_by,
                    &new.scopes,
                    new.next_at,
                    new.created_at,
                    new.updated_at
                ],
            )
            .await?;
        if made == 0 {
            return Err(StoreError::Conflict(format!("there is a schedule `{}` already", new.id)));
        }
        Ok(Created::Done(Box::new(new.clone())))
    }
}

/// Puts another definition in place of the one that was read.
#[derive(Clone, Debug)]
pub struct Change {
    /// As it is to be.
    pub schedule: ScheduleRecord,
    /// When what was read was last changed: one changed since is a
    /// [`StoreError::Conflict`].
    pub from: Timestamp,
}

impl Write for Change {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let new = &self.schedule;
        let changed = tx
            .execute(
                "update schedules set definition = $3, enabled = $4, created_by = $5, scopes = $6, next_at = $7, \
                 last_error = $8, updated_at = $9 where workspace_id = $1 and id = $2 and updated_at = $10",
                args![
                    &new.workspace_id,
                    &new.id,
                    to_json(&new.definition)?,
                    new.enabled,
                    &new.created_by,
                    &new.scopes,
                    new.next_at,
                    new.last_error.as_ref().map(to_json).transpose()?,
                    new.updated_at,
                    self.from
                ],
            )
            .await?;
        if changed == 0 {
            return Err(StoreError::Conflict("the schedule was changed meanwhile".to_owned()));
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
pub struct Delete {
    pub workspace_id: WorkspaceId,
    pub id: ScheduleId,
}

impl Write for Delete {
    /// False when the workspace has no such schedule.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let deleted = tx
            .execute(
                "delete from schedules where workspace_id = $1 and id = $2",
                args![&self.workspace_id, &self.id],
            )
            .await?;
        Ok(deleted > 0)
    }
}

/// What became of a schedule whose time had come. Of several nodes that saw to
/// it, and of one that is late, only the first changes anything.
#[derive(Clone, Debug)]
pub struct Ticked {
    pub workspace_id: WorkspaceId,
    pub id: ScheduleId,
    /// As it was read.
    pub was_due_at: Timestamp,
    pub was_updated_at: Timestamp,
    pub next_at: Option<Timestamp>,
    /// The tick and the run that it began.
    pub began: Option<(Timestamp, RunId)>,
    /// Why it began none.
    pub error: Option<RunError>,
    /// It fires no more until somebody enables it.
    pub disables: bool,
}

impl Write for Ticked {
    /// Whether this was the first.
    type Output = bool;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<bool, StoreError> {
        let changed = tx
            .execute(
                "update schedules set next_at = $3, last_at = coalesce($4, last_at), \
                 last_run_id = coalesce($5, last_run_id), last_error = $6, \
                 enabled = case when $7 = 1 then 0 else enabled end \
                 where workspace_id = $1 and id = $2 and next_at = $8 and updated_at = $9",
                args![
                    &self.workspace_id,
                    &self.id,
                    self.next_at,
                    self.began.map(|(at, _)| at),
                    self.began.map(|(_, run_id)| run_id),
                    self.error.as_ref().map(to_json).transpose()?,
                    self.disables,
                    self.was_due_at,
                    self.was_updated_at
                ],
            )
            .await?;
        Ok(changed > 0)
    }
}
