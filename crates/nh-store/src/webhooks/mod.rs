//! Webhooks: who is told of the ends of runs, and how that went.
//!
//! The commit that ends a run writes what is owed for it ([`owe`]), so neither
//! is ever there without the other. Whoever delivers claims a delivery for a
//! while; if they die, the claim runs out by itself.

mod claim;
mod owe;
mod secrets;

use nh_types::run::RunState;
use nh_types::webhook::DeliveryState;
use nh_types::{Page, PageRequest, RunId, Timestamp, WorkspaceId};

use crate::columns::Columns;
use crate::cursor::Cursor;
use crate::sql::{Row, args};
use crate::{Store, StoreError};

pub use claim::{Attempt, Claim, ClaimedDelivery, Lane, Redeliver, Tried, lanes};
pub(crate) use owe::{Owed, forget, owe, owe_untold};
pub use secrets::{MakeSecret, SecretRecord, signing, signing_secrets};

/// One row of table `webhook_deliveries`.
#[derive(Clone, Debug, PartialEq)]
pub struct DeliveryRecord {
    pub run_id: RunId,
    pub workspace_id: WorkspaceId,
    /// The state in which the run ended.
    pub run_state: RunState,
    pub url: String,
    pub state: DeliveryState,
    pub created_at: Timestamp,
    /// While it is pending.
    pub next_at: Option<Timestamp>,
    pub attempt_count: i64,
    pub last_status_code: Option<u16>,
    pub last_error: Option<String>,
}

/// What [`record`] reads.
macro_rules! delivery_columns {
    () => {
        "run_id, workspace_id, run_state, url, state, created_at, next_at, attempt_count, last_status_code, \
         last_error"
    };
}
use delivery_columns;

fn record(row: &Row) -> Result<DeliveryRecord, StoreError> {
    let mut columns = Columns::of(row);
    Ok(DeliveryRecord {
        run_id: columns.parse()?,
        workspace_id: columns.parse()?,
        run_state: columns.parse()?,
        url: columns.text()?,
        state: columns.parse()?,
        created_at: columns.time()?,
        next_at: columns.optional_time()?,
        attempt_count: columns.int()?,
        last_status_code: columns.optional_number()?,
        last_error: columns.optional_text()?,
    })
}

/// What is owed, or was, for the end of a run.
pub async fn find(
    store: &Store,
    workspace_id: &WorkspaceId,
    run_id: RunId,
) -> Result<Option<DeliveryRecord>, StoreError> {
    store
        .find(
            concat!(
                "select ",
                delivery_columns!(),
                " from webhook_deliveries where run_id = $1 and workspace_id = $2"
            ),
            args![run_id, workspace_id],
            record,
        )
        .await
}

/// Newest first.
pub async fn list(
    store: &Store,
    workspace_id: &WorkspaceId,
    state: Option<DeliveryState>,
    page: &PageRequest,
) -> Result<Page<DeliveryRecord>, StoreError> {
    let after = Cursor::after(page.after.as_deref())?;
    let found = store
        .all(
            concat!(
                "select ",
                delivery_columns!(),
                " from webhook_deliveries where workspace_id = $1 and (created_at, run_id) < ($2, $3) \
                 and ($4 is null or state = $4) order by created_at desc, run_id desc limit $5"
            ),
            args![
                workspace_id,
                after.at_ms,
                after.id,
                state.map(DeliveryState::as_str),
                page.limit.saturating_add(1)
            ],
            record,
        )
        .await?;
    Ok(Page::cut(found, page.limit, |delivery| {
        Cursor::text(delivery.created_at, &delivery.run_id.to_string())
    }))
}

/// The tries that are kept, in the order in which they began.
pub async fn attempts(
    store: &Store,
    workspace_id: &WorkspaceId,
    run_id: RunId,
) -> Result<Vec<Attempt>, StoreError> {
    store
        .all(
            "select at, duration_ms, status_code, error, response from webhook_attempts where run_id = $1 \
             and exists (select 1 from webhook_deliveries where run_id = $1 and workspace_id = $2) order by number",
            args![run_id, workspace_id],
            |row| {
                let mut columns = Columns::of(row);
                Ok(Attempt {
                    at: columns.time()?,
                    duration_ms: columns.int()?,
                    status_code: columns.optional_number()?,
                    error: columns.optional_text()?,
                    response: columns.optional_text()?,
                })
            },
        )
        .await
}
