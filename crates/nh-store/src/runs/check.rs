//! What must hold of every run's rows: it has ended, or somebody drives it, or
//! it is ready, or a timer or a signal will wake it, which has not come yet;
//! and its journal has no gaps, and what it refers to is there.

use nh_types::RunId;
use nh_types::run::RunState;

use super::values;
use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::{Row, args};
use crate::{Store, StoreError, Tx, Write, webhooks};

/// Runs looked at in one read.
const PAGE: u32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RunFault {
    /// It has not ended, and nothing will ever take it up.
    Stranded,
    /// It has ended, and yet it is owned, ready or waits for a timer.
    Undead,
    /// Its state is a last one, but it has no end; or the other way round.
    HalfEnded,
    /// It has ended, and its webhook is never told.
    Untold,
    /// Its journal lacks events, or its row does not know the last one.
    JournalBroken,
    /// A row refers to a large value that is not there as it should be.
    ValueMissing,
    /// It has a large value that no row refers to.
    ValueUnreferenced,
    /// It was removed, and its large values were not yet.
    ValuesOrphaned,
}

impl RunFault {
    /// Whether [`Repair`] mends it.
    pub fn is_mendable(self) -> bool {
        matches!(self, Self::Stranded | Self::Undead | Self::Untold | Self::ValuesOrphaned)
    }
}

/// One page of a check.
#[derive(Debug)]
pub struct CheckedRuns {
    pub count: u64,
    pub faults: Vec<(RunId, RunFault)>,
    /// Where the next page begins; None after the last.
    pub next: Option<RunId>,
}

/// Looks at the runs after `after`, in the order of their ids.
pub async fn check(store: &Store, after: Option<RunId>) -> Result<CheckedRuns, StoreError> {
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    let rows = store
        .all(
            "select id, state, owner, ready, wake_at, finished_at, signals, last_seq, \
             (select count(*) from runs as before where before.id = runs.after_id and before.finished_at + 0 is null), \
             (select count(*) from run_events where run_id = runs.id), \
             (select coalesce(max(seq), 0) from run_events where run_id = runs.id), \
             case when webhook_url is null then 0 else \
             (select 1 - count(*) from webhook_deliveries where run_id = runs.id) end \
             from runs where id > $1 order by id limit $2",
            args![&after, PAGE],
            checked,
        )
        .await?;
    let next = rows.last().map(|(id, _)| *id).filter(|_| rows.len() == PAGE as usize);
    let count = rows.len() as u64;
    // Behind the last run, greater than every id, there may be values of removed ones.
    let last = next.map_or_else(|| "g".to_owned(), |id| id.to_string());
    let of_values = values::check(store, &after, &last).await?;
    let faults = rows.into_iter().filter_map(|(id, fault)| Some((id, fault?))).chain(of_values).collect();
    Ok(CheckedRuns { count, faults, next })
}

fn checked(row: &Row) -> Result<(RunId, Option<RunFault>), StoreError> {
    let mut columns = Columns::of(row);
    let (id, state): (RunId, RunState) = (columns.parse()?, columns.parse()?);
    let is_owned = columns.optional_text()?.is_some();
    let (is_ready, wakes) = (columns.flag()?, columns.optional_time()?.is_some());
    let has_ended = columns.optional_time()?.is_some();
    let is_signalled = columns.int()? > 0;
    let last_seq = columns.int()?;
    // By the run before it in its thread.
    let is_held = columns.flag()?;
    let (events, last_event) = (columns.int()?, columns.int()?);
    let is_untold = columns.flag()?;
    let goes_on = is_owned || is_ready || wakes || (is_held && !has_ended);
    // Of a run that waits for a signal: none has come.
    let waits = state == RunState::Waiting && !is_signalled;
    let sleeps_on = state == RunState::Waiting && is_signalled && !is_owned && !is_ready;
    let fault = if state.is_terminal() != has_ended {
        Some(RunFault::HalfEnded)
    } else if has_ended && goes_on {
        Some(RunFault::Undead)
    } else if sleeps_on || (!has_ended && !goes_on && !waits) {
        Some(RunFault::Stranded)
    } else if has_ended && is_untold {
        Some(RunFault::Untold)
    } else if events != last_seq || last_event != last_seq {
        Some(RunFault::JournalBroken)
    } else {
        None
    };
    Ok((id, fault))
}

/// Mends what can be mended of these runs without a guess: makes stranded runs ready, ends what
/// holds on to runs that have ended, has webhooks told of those, and removes what removed runs
/// left.
#[derive(Clone, Debug)]
pub struct Repair(pub Vec<RunId>);

impl Write for Repair {
    type Output = ();

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        for page in self.0.chunks(PAGE as usize) {
            let (mut stranded, mut undead, mut removed) = (Rows::new(1), Rows::new(1), Rows::new(1));
            for id in page {
                stranded.push(args![*id]);
                undead.push(args![*id]);
                removed.push(args![*id]);
            }
            tx.execute_rows(
                "update runs set ready = 1, wake_at = deadline_at, after_id = null \
                 where id in (select column1 from (values ROWS) as given) and finished_at + 0 is null \
                 and owner is null and ready = 0 and (state in ('PENDING', 'RUNNING') and wake_at is null \
                 or state = 'WAITING' and signals > 0)",
                stranded,
            )
            .await?;
            tx.execute_rows(
                "update runs set owner = null, ready = 0, wake_at = null \
                 where id in (select column1 from (values ROWS) as given) and finished_at is not null \
                 and state in ('SUCCESS', 'FAILED', 'CANCELLED')",
                undead,
            )
            .await?;
            tx.execute_rows(
                "delete from run_values where run_id in (select column1 from (values ROWS) as given) \
                 and not exists (select 1 from runs where runs.id = run_values.run_id)",
                removed,
            )
            .await?;
            webhooks::owe_untold(tx, page).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What no write of this crate leaves behind.
    struct Forget;

    impl Write for Forget {
        type Output = ();

        async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
            tx.execute(
                "insert into workspaces (id, name, created_at) values ('ws_00000000000000000000', 'w', 0)",
                args![],
            )
            .await?;
            tx.execute(
                "insert into runs (id, workspace_id, target, run_type, state, scopes, created_by, created_at, \
                 epoch, cancel_requested, last_seq, signals, usage, metadata, input, definition, finished_at, \
                 webhook_url) values \
                 ('019b0000-0000-7000-8000-000000000000', 'ws_00000000000000000000', 't', 'tool', 'WAITING', '', \
                 'key:1', 0, 1, 0, 0, 1, '{}', '{}', 'null', 'null', null, null), \
                 ('019b0000-0000-7000-8000-000000000001', 'ws_00000000000000000000', 't', 'tool', 'FAILED', '', \
                 'key:1', 0, 1, 0, 0, 0, '{}', '{}', 'null', 'null', 7, 'https://a.example/')",
                args![],
            )
            .await
            .map(drop)
        }
    }

    #[tokio::test]
    async fn what_was_forgotten_is_found_and_mended() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open_sqlite(&directory.path().join("hub.db")).await.expect("a store");
        store.write(Forget).await.expect("a write");
        let found = check(&store, None).await.expect("a check").faults;
        assert_eq!(
            found.iter().map(|(_, fault)| *fault).collect::<Vec<_>>(),
            [RunFault::Stranded, RunFault::Untold]
        );
        store.write(Repair(found.into_iter().map(|(id, _)| id).collect())).await.expect("a repair");
        assert_eq!(check(&store, None).await.expect("a check").faults, []);
        let owed = webhooks::lanes(&store, "", 9).await.expect("lanes");
        assert_eq!(
            owed.iter().map(|lane| lane.name.as_str()).collect::<Vec<_>>(),
            ["ws_00000000000000000000 a.example"]
        );
    }
}
