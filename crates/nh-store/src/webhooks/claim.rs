use nh_types::run::RunState;
use nh_types::webhook::DeliveryState;
use nh_types::{RunId, Timestamp, WorkspaceId};
use sqlx::AssertSqlSafe;

use super::{DeliveryRecord, delivery_columns, record};
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{Row, args};
use crate::{Store, StoreError, Tx, Write};

/// Tries of one delivery that are kept: the last ones.
const MAX_ATTEMPTS_KEPT: i64 = 50;

/// The deliveries of one workspace to one host that are pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The workspace's id, a space, and the host.
    pub name: String,
    /// When the first of them is due.
    pub due_at: Timestamp,
}

/// The lanes of all workspaces after one in the order of their names, at most
/// `limit`: goes from one to the next along the index, whatever their lengths.
pub async fn lanes(store: &Store, after: &str, limit: u32) -> Result<Vec<Lane>, StoreError> {
    store
        .all(
            "with recursive lanes (name) as (\
             select min(lane) from webhook_deliveries where next_at is not null and lane > $1 \
             union all \
             select (select min(lane) from webhook_deliveries where next_at is not null and lane > lanes.name) \
             from lanes where lanes.name is not null) \
             select name, (select min(next_at) from webhook_deliveries where next_at is not null \
             and lane = lanes.name) from lanes where name is not null limit $2",
            args![after, limit],
            |row| {
                let mut columns = Columns::of(row);
                Ok(Lane { name: columns.text()?, due_at: columns.time()? })
            },
        )
        .await
}

/// Takes deliveries that are due, the longest due of each lane first, until an
/// instant: after that, anybody may take them.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Lanes, and how many of each at most.
    pub from: Vec<(String, u32)>,
    pub now: Timestamp,
    pub until: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedDelivery {
    pub run_id: RunId,
    pub workspace_id: WorkspaceId,
    pub run_state: RunState,
    pub url: String,
    pub lane: String,
    /// What [`Tried`] repeats.
    pub epoch: i64,
    /// Tries that failed since it was last begun.
    pub failures: u32,
}

fn claimed(row: &Row) -> Result<ClaimedDelivery, StoreError> {
    let mut columns = Columns::of(row);
    Ok(ClaimedDelivery {
        run_id: columns.parse()?,
        workspace_id: columns.parse()?,
        run_state: columns.parse()?,
        url: columns.text()?,
        lane: columns.text()?,
        epoch: columns.int()?,
        failures: columns.number()?,
    })
}

impl Write for Claim {
    type Output = Vec<ClaimedDelivery>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Vec<ClaimedDelivery>, StoreError> {
        let mut picked = Rows::new(2);
        for (lane, limit) in &self.from {
            let sql = format!(
                "select run_id from webhook_deliveries where lane = $1 and next_at <= $2 \
                 order by next_at limit $3 {}",
                tx.engine().skip_locked()
            );
            // Only this crate's own words were put together.
            for row in tx.select(AssertSqlSafe(sql), args![lane, self.now, *limit]).await? {
                picked.push(args![Columns::of(&row).text()?, self.until]);
            }
        }
        let rows = tx
            .returning_rows(
                "with given (id, until) as (values ROWS) \
                 update webhook_deliveries set epoch = epoch + 1, next_at = given.until \
                 from given where run_id = given.id \
                 returning run_id, workspace_id, run_state, url, lane, epoch, failures",
                picked,
            )
            .await?;
        rows.iter().map(claimed).collect()
    }
}

/// One try.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub at: Timestamp,
    pub duration_ms: i64,
    /// Absent: there was no answer.
    pub status_code: Option<u16>,
    /// Absent: it was delivered.
    pub error: Option<String>,
    /// The beginning of an answer that was no 2xx.
    pub response: Option<String>,
}

/// What came of a claimed delivery. The try is recorded in any case; what
/// becomes of the delivery, only while the claim is the last one.
#[derive(Clone, Debug)]
pub struct Tried {
    pub workspace_id: WorkspaceId,
    pub run_id: RunId,
    pub epoch: i64,
    pub attempt: Attempt,
    pub state: DeliveryState,
    /// If it stays pending.
    pub next_at: Option<Timestamp>,
}

impl Write for Tried {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        let Attempt { at, duration_ms, status_code, error, response } = &self.attempt;
        let status_code = status_code.map(i64::from);
        let changed = tx
            .execute(
                "update webhook_deliveries set attempt_count = attempt_count + 1, last_status_code = $4, \
                 last_error = $5, failures = case when epoch = $3 then failures + $6 else failures end, \
                 state = case when epoch = $3 then $7 else state end, \
                 next_at = case when epoch = $3 then $8 else next_at end \
                 where run_id = $1 and workspace_id = $2",
                args![
                    self.run_id,
                    &self.workspace_id,
                    self.epoch,
                    status_code,
                    error.as_deref(),
                    error.is_some(),
                    self.state.as_str(),
                    self.next_at
                ],
            )
            .await?;
        if changed == 0 {
            // It was removed with its run.
            return Ok(());
        }
        tx.execute(
            "insert into webhook_attempts (run_id, number, at, duration_ms, status_code, error, response) \
             values ($1, $2, $3, $4, $5, $6, $7) on conflict do nothing",
            args![
                self.run_id,
                self.epoch,
                *at,
                *duration_ms,
                status_code,
                error.as_deref(),
                response.as_deref()
            ],
        )
        .await?;
        tx.execute(
            "delete from webhook_attempts where run_id = $1 and number <= $2",
            args![self.run_id, self.epoch - MAX_ATTEMPTS_KEPT],
        )
        .await
        .map(drop)
    }
}

/// Has a delivery made once more from the start, whatever came of it before.
#[derive(Clone, Debug)]
pub struct Redeliver {
    pub workspace_id: WorkspaceId,
    pub run_id: RunId,
    pub now: Timestamp,
}

impl Write for Redeliver {
    /// None: the workspace has no such delivery.
    type Output = Option<DeliveryRecord>;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Option<DeliveryRecord>, StoreError> {
        let rows = tx
            .returning(
                concat!(
                    "update webhook_deliveries set state = $3, failures = 0, epoch = epoch + 1, next_at = $4 \
                     where run_id = $1 and workspace_id = $2 returning ",
                    delivery_columns!()
                ),
                args![self.run_id, &self.workspace_id, DeliveryState::Pending.as_str(), self.now],
            )
            .await?;
        rows.first().map(record).transpose()
    }
}
