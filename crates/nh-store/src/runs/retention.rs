use std::collections::BTreeSet;

use nh_types::{RunId, Timestamp};

use super::thread;
use crate::columns::Columns;
use crate::ledger;
use crate::rows::Rows;
use crate::sql::args;
use crate::{StoreError, Tx, Write, webhooks};

/// Removes runs that ended before an instant, the oldest first, with their
/// journals, deliveries and accounts, but none whose webhook is still to be told;
/// the threads of which nothing is left; and as many reservations that nobody
/// settled in time. What their model calls used stays in the ledger; their large
/// values are left to [`super::RemoveOrphans`].
#[derive(Clone, Copy, Debug)]
pub struct RemoveFinished {
    pub before: Timestamp,
    /// At most this many runs.
    pub limit: u32,
    /// Begins after this run: the older ones that are left go on.
    pub after: Option<RunId>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    pub count: u64,
    pub last: Option<RunId>,
}

impl Write for RemoveFinished {
    type Output = Removed;

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Removed, StoreError> {
        // No run ends before it is made, and ids are in the order of creation:
        // so what is younger need not be looked at.
        let sql = format!(
            "select id, workspace_id, thread_id from runs where id > $4 and id < $1 and finished_at < $2 \
             and (webhook_url is null or not exists (select 1 from webhook_deliveries \
             where webhook_deliveries.run_id = runs.id and next_at is not null)) \
             order by id limit $3 {}",
            tx.engine().skip_locked()
        );
        // Only this crate's own words were put together.
        let after = self.after.map(|id| id.to_string()).unwrap_or_default();
        let picked = tx
            .select(sqlx::AssertSqlSafe(sql), args![first_id_at(self.before), self.before, self.limit, after])
            .await?;
        let last = picked.last().map(|row| Columns::of(row).parse()).transpose()?;
        let (mut journals, mut signals, mut runs) = (Rows::new(1), Rows::new(1), Rows::new(1));
        let (mut accounts, mut threads) = (Rows::new(2), BTreeSet::new());
        for row in &picked {
            let mut columns = Columns::of(row);
            let (id, workspace_id) = (columns.text()?, columns.text()?);
            accounts.push(args![&workspace_id, format!("run:{id}")]);
            threads.extend(columns.optional_text()?.map(|thread| (workspace_id, thread)));
            journals.push(args![&id]);
            signals.push(args![&id]);
            runs.push(args![id]);
        }
        tx.execute_rows(
            "delete from run_events where run_id in (select column1 from (values ROWS) as given)",
            journals,
        )
        .await?;
        webhooks::forget(tx, &picked).await?;
        tx.execute_rows(
            "delete from run_signals where run_id in (select column1 from (values ROWS) as given)",
            signals,
        )
        .await?;
        ledger::remove(tx, accounts).await?;
        ledger::remove_expired(tx, self.before, self.limit).await?;
        let count = tx
            .execute_rows("delete from runs where id in (select column1 from (values ROWS) as given)", runs)
            .await?;
        thread::remove_empty(tx, threads).await?;
        Ok(Removed { count, last })
    }
}

/// What every UUIDv7 of that millisecond begins with (RFC 9562, section 5.7):
/// less than each of them, greater than all earlier ones.
pub(super) fn first_id_at(at: Timestamp) -> String {
    let ms = at.as_millis().max(0);
    format!("{:08x}-{:04x}", ms >> 16, ms & 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_around_the_first_of_an_instant() {
        let first = first_id_at(Timestamp::from_millis(0x0192_0000_ffff));
        assert_eq!(first, "01920000-ffff");
        assert!("01920000-fffe-7fff-bfff-ffffffffffff" < first.as_str());
        assert!("01920000-ffff-7000-8000-000000000000" > first.as_str());
    }
}
