//! The ledger: what accounts (of runs, of keys) have spent, and what calls
//! under way may cost at most.
//!
//! A call reserves what it may cost before it is made and settles what it cost
//! after it, so calls side by side, on many nodes too, cannot spend more
//! together than their accounts allow. Limits come with the call; an account
//! is only a sum.

use nh_types::{Timestamp, WorkspaceId};

use crate::columns::Columns;
use crate::rows::Rows;
use crate::sql::args;
use crate::{Store, StoreError, Tx, Write};

mod account;
mod lock;

use account::MINUTE;
pub(crate) use account::add;
pub use account::{key_account, minute_account, picodollars, run_account, workspace_account};
pub use lock::Touched;
pub(crate) use lock::lock;

/// A reservation that was never settled is removed so long after it expired.
const KEEP_EXPIRED_MS: i64 = 24 * 3600 * 1000;

/// Accounts of a minute are kept for so long after it, for calls that began in it.
const KEEP_MINUTES_MS: i64 = 3_600_000;
const REMOVED_AT_ONCE: u32 = 16;

/// What a call takes. Sums saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// 10^-12 US dollars: the price of a token in dollars per million tokens is
    /// a whole number of them down to the sixth decimal place.
    pub picodollars: i64,
    /// In and out.
    pub tokens: i64,
    /// Model calls and tool calls.
    pub steps: i64,
}

/// What an account may have spent at most; None has no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub picodollars: Option<i64>,
    pub tokens: Option<i64>,
    pub steps: Option<i64>,
    /// All of it is there again soon: a call has all that it asks for, or waits.
    pub renews: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Cost,
    Tokens,
    Steps,
}

impl Dimension {
    pub const EVERY: [Dimension; 3] = [Self::Cost, Self::Tokens, Self::Steps];
}

impl Amount {
    pub const ONE_STEP: Amount = Amount { picodollars: 0, tokens: 0, steps: 1 };

    pub fn of(&self, dimension: Dimension) -> i64 {
        match dimension {
            Dimension::Cost => self.picodollars,
            Dimension::Tokens => self.tokens,
            Dimension::Steps => self.steps,
        }
    }

    pub fn minus(self, other: Amount) -> Amount {
        Amount {
            picodollars: self.picodollars.saturating_sub(other.picodollars),
            tokens: self.tokens.saturating_sub(other.tokens),
            steps: self.steps.saturating_sub(other.steps),
        }
    }

    /// Whether it is no less, in all.
    pub fn covers(&self, other: &Amount) -> bool {
        Dimension::EVERY.iter().all(|dimension| self.of(*dimension) >= other.of(*dimension))
    }

    pub fn plus(self, other: Amount) -> Amount {
        Amount {
            picodollars: self.picodollars.saturating_add(other.picodollars),
            tokens: self.tokens.saturating_add(other.tokens),
            steps: self.steps.saturating_add(other.steps),
        }
    }

    pub fn times(self, count: i64) -> Amount {
        Amount {
            picodollars: self.picodollars.saturating_mul(count),
            tokens: self.tokens.saturating_mul(count),
            steps: self.steps.saturating_mul(count),
        }
    }
}

impl Limits {
    pub fn of(&self, dimension: Dimension) -> Option<i64> {
        match dimension {
            Dimension::Cost => self.picodollars,
            Dimension::Tokens => self.tokens,
            Dimension::Steps => self.steps,
        }
    }
}

/// What a call may cost: `fixed`, and `per_unit` for each of as many units
/// (tokens of its answer) as it is granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bid {
    pub fixed: Amount,
    pub per_unit: Amount,
    /// With fewer units the call is not worth making.
    pub least_units: i64,
    pub most_units: i64,
}

impl Bid {
    fn times(&self, count: i64) -> Bid {
        Bid { fixed: self.fixed.times(count), per_unit: self.per_unit.times(count), ..*self }
    }

    /// What it takes with so many units.
    pub fn with(&self, units: i64) -> Amount {
        self.fixed.plus(self.per_unit.times(units))
    }
}

/// Where an account stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    pub spent: Amount,
    /// By other calls under way.
    pub reserved: Amount,
}

/// Why a bid does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub account: String,
    pub dimension: Dimension,
    pub limit: i64,
    pub spent: i64,
    /// What the least of the call takes.
    pub wanted: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The call may be made, with so many units.
    Units(i64),
    /// It may fit once calls under way are settled.
    Busy(Shortage),
    /// It cannot fit.
    Refused(Shortage),
}

/// How many units of a bid fit every account. What is spent leaves fewer than
/// the most: then, and only when no other call is under way, the bid gets what
/// is left.
pub fn fit(bid: &Bid, accounts: &[(&str, Limits, Balance)]) -> Reserved {
    let mut units = bid.most_units;
    let mut busy = None;
    for (account, limits, balance) in accounts {
        for dimension in Dimension::EVERY {
            let Some(limit) = limits.of(dimension) else { continue };
            let (spent, reserved) = (balance.spent.of(dimension), balance.reserved.of(dimension));
            let fitting =
                |taken: i64| (limit - taken - bid.fixed.of(dimension)) / bid.per_unit.of(dimension).max(1);
            let least =
                if limits.renews { units.min(fitting(0)).max(bid.least_units) } else { bid.least_units };
            let within = |units: i64, taken: i64| {
                let wanted = bid.with(units).of(dimension);
                wanted == 0 || taken.saturating_add(wanted) <= limit
            };
            let shortage = || Shortage {
                account: (*account).to_owned(),
                dimension,
                limit,
                spent,
                wanted: bid.with(least).of(dimension),
            };
            if !within(least, spent) {
                return Reserved::Refused(shortage());
            }
            if within(units, spent.saturating_add(reserved)) {
                continue;
            }
            if reserved > 0 {
                busy.get_or_insert_with(shortage);
                continue;
            }
            units = units.min(fitting(spent));
        }
    }
    busy.map_or(Reserved::Units(units), Reserved::Busy)
}

/// Reserves what a call may cost in all of its accounts, or in none.
#[derive(Clone, Debug)]
pub struct Reserve {
    pub workspace_id: WorkspaceId,
    /// Names the call: one made again under the same id takes its own place.
    pub id: String,
    /// Names this reservation alone: only its own settlement takes it away.
    pub token: String,
    pub accounts: Vec<(String, Limits)>,
    pub bid: Bid,
    /// So many times as much must fit: 1, or more of what is reserved ahead.
    pub room: i64,
    pub now: Timestamp,
    /// When it no longer counts although it was not settled.
    pub expires_at: Timestamp,
}

impl Write for Reserve {
    type Output = Reserved;

    fn touches(&self) -> Vec<Touched<'_>> {
        let makes = true;
        let names = self.accounts.iter().map(|(account, _)| account);
        names.map(|account| Touched::new(&self.workspace_id, account, makes)).collect()
    }

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<Reserved, StoreError> {
        let mut accounts = Vec::with_capacity(self.accounts.len());
        for (account, limits) in &self.accounts {
            accounts.push((account.as_str(), *limits, self.balance(tx, account).await?));
        }
        if self.accounts.iter().any(|(account, _)| account.starts_with(MINUTE)) {
            remove_minutes(tx, self.now).await?;
        }
        let fits = fit(&self.bid.times(self.room), &accounts);
        if let Reserved::Units(units) = fits {
            let amount = self.bid.with(units);
            for (account, _) in &self.accounts {
                self.put(tx, account, amount).await?;
            }
        }
        Ok(fits)
    }
}

impl Reserve {
    async fn balance(&self, tx: &mut Tx, account: &str) -> Result<Balance, StoreError> {
        let spent = tx
            .select(
                "select picodollars, tokens, steps from budget_accounts where workspace_id = $1 and account = $2",
                args![&self.workspace_id, account],
            )
            .await?;
        tx.execute(
            "delete from budget_reservations where workspace_id = $1 and account = $2 and expires_at <= $3",
            args![&self.workspace_id, account, self.now.plus_millis(-KEEP_EXPIRED_MS)],
        )
        .await?;
        let reserved = tx
            .select(
                "select cast(coalesce(sum(picodollars), 0) as bigint), cast(coalesce(sum(tokens), 0) as bigint), \
                 cast(coalesce(sum(steps), 0) as bigint) from budget_reservations \
                 where workspace_id = $1 and account = $2 and id <> $3 and expires_at > $4",
                args![&self.workspace_id, account, &self.id, self.now],
            )
            .await?;
        Ok(Balance { spent: one_amount(spent)?, reserved: one_amount(reserved)? })
    }

    /// What the same call had reserved before stays, with nothing in it: should
    /// that have been spent all the same, its settlement still counts once.
    async fn put(&self, tx: &mut Tx, account: &str, amount: Amount) -> Result<(), StoreError> {
        tx.execute(
            "update budget_reservations set picodollars = 0, tokens = 0, steps = 0 \
             where workspace_id = $1 and account = $2 and id = $3 and token <> $4",
            args![&self.workspace_id, account, &self.id, &self.token],
        )
        .await?;
        tx.execute(
            "insert into budget_reservations \
             (workspace_id, account, token, id, picodollars, tokens, steps, expires_at) \
             values ($1, $2, $3, $4, $5, $6, $7, $8)",
            args![
                &self.workspace_id,
                account,
                &self.token,
                &self.id,
                amount.picodollars,
                amount.tokens,
                amount.steps,
                self.expires_at
            ],
        )
        .await
        .map(drop)
    }
}

fn one_amount(rows: Vec<crate::sql::Row>) -> Result<Amount, StoreError> {
    let row = rows.first().ok_or_else(|| StoreError::Corrupt("an account has no balance".to_owned()))?;
    let mut columns = Columns::of(row);
    Ok(Amount { picodollars: columns.int()?, tokens: columns.int()?, steps: columns.int()? })
}

/// Puts what a call cost in place of what was reserved for it. Doing it twice
/// changes nothing: the reservation is gone by then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settle {
    pub workspace_id: WorkspaceId,
    /// Of the reservation.
    pub token: String,
    pub accounts: Vec<String>,
    pub cost: Amount,
}

impl Write for Settle {
    type Output = ();

    fn touches(&self) -> Vec<Touched<'_>> {
        let makes = false;
        self.accounts.iter().map(|account| Touched::new(&self.workspace_id, account, makes)).collect()
    }

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        for account in &self.accounts {
            tx.execute(
                "update budget_accounts set picodollars = picodollars + $1, tokens = tokens + $2, steps = steps + $3 \
                 where workspace_id = $4 and account = $5 and exists (select 1 from budget_reservations as made \
                 where made.workspace_id = $4 and made.account = $5 and made.token = $6)",
                args![
                    self.cost.picodollars,
                    self.cost.tokens,
                    self.cost.steps,
                    &self.workspace_id,
                    account,
                    &self.token
                ],
            )
            .await?;
            tx.execute(
                "delete from budget_reservations where workspace_id = $1 and account = $2 and token = $3",
                args![&self.workspace_id, account, &self.token],
            )
            .await?;
        }
        Ok(())
    }
}

/// Settles what was reserved ahead as far as it was spent, and keeps of it what calls under way
/// may cost. Doing it twice changes nothing.
#[derive(Clone, Debug)]
pub struct Trim {
    pub settle: Settle,
    /// Names what is kept: its own settlement takes it away.
    pub token: String,
    pub left: Amount,
}

impl Write for Trim {
    type Output = ();

    fn touches(&self) -> Vec<Touched<'_>> {
        self.settle.touches()
    }

    async fn apply<'t>(&'t self, tx: &'t mut Tx) -> Result<(), StoreError> {
        for account in &self.settle.accounts {
            tx.execute(
                "insert into budget_reservations \
                 (workspace_id, account, token, id, picodollars, tokens, steps, expires_at) \
                 select workspace_id, account, $4, id, $5, $6, $7, expires_at from budget_reservations \
                 where workspace_id = $1 and account = $2 and token = $3",
                args![
                    &self.settle.workspace_id,
                    account,
                    &self.settle.token,
                    &self.token,
                    self.left.picodollars,
                    self.left.tokens,
                    self.left.steps
                ],
            )
            .await?;
        }
        self.settle.apply(tx).await
    }
}

/// Removes accounts (workspace, name) with what is reserved in them.
pub(crate) async fn remove(tx: &mut Tx, accounts: Rows) -> Result<(), StoreError> {
    tx.execute_rows(
        "delete from budget_reservations where (workspace_id, account) in (select * from (values ROWS) as given)",
        accounts.clone(),
    )
    .await?;
    tx.execute_rows(
        "delete from budget_accounts where (workspace_id, account) in (select * from (values ROWS) as given)",
        accounts,
    )
    .await
    .map(drop)
}

/// Removes some of the accounts of minutes that are long over; what others have locked stays
/// for the next time.
async fn remove_minutes(tx: &mut Tx, now: Timestamp) -> Result<(), StoreError> {
    let sql = format!(
        "delete from budget_accounts where (workspace_id, account) in ( \
         select workspace_id, account from budget_accounts \
         where account >= 'minute:' and account < 'minute;' and account < $1 limit $2 {})",
        tx.engine().skip_locked()
    );
    let before = minute_account("", now.plus_millis(-KEEP_MINUTES_MS));
    // Only this crate's own words were put together.
    tx.execute(sqlx::AssertSqlSafe(sql), args![before, REMOVED_AT_ONCE]).await.map(drop)
}

/// Removes up to `limit` of the reservations that expired long before `before`.
pub(crate) async fn remove_expired(tx: &mut Tx, before: Timestamp, limit: u32) -> Result<(), StoreError> {
    let sql = format!(
        "with gone as materialized (select workspace_id, account, token from budget_reservations \
         where expires_at <= $1 order by expires_at limit $2 {}) \
         delete from budget_reservations where (workspace_id, account, token) in \
         (select workspace_id, account, token from gone)",
        tx.engine().skip_locked()
    );
    // Only this crate's own words were put together.
    tx.execute(sqlx::AssertSqlSafe(sql), args![before.plus_millis(-KEEP_EXPIRED_MS), limit]).await.map(drop)
}

/// What the account has spent: nothing, if it was never used.
pub async fn spent(store: &Store, workspace_id: &WorkspaceId, account: &str) -> Result<Amount, StoreError> {
    let found = store
        .find(
            "select picodollars, tokens, steps from budget_accounts where workspace_id = $1 and account = $2",
            args![workspace_id, account],
            |row| {
                let mut columns = Columns::of(row);
                Ok(Amount { picodollars: columns.int()?, tokens: columns.int()?, steps: columns.int()? })
            },
        )
        .await?;
    Ok(found.unwrap_or_default())
}
