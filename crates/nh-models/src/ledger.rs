//! What model calls and steps may cost: reserved before they are made, settled
//! after. The rules are in [`nh_store::ledger`]; here what does not fit becomes
//! words, and no reservation is forgotten. What calls bid is in `bids.rs`.

use std::sync::Arc;
use std::time::Duration;

use nh_store::ledger::{Amount, Bid, Dimension, Limits, Reserve, Reserved, Settle, Shortage, picodollars};
use nh_store::usage::UsageKind;
use nh_store::{Store, StoreError, ledger};
use nh_types::budget::Budget;
use nh_types::model::Usage;
use nh_types::{ApiError, ErrorCode, KeyId, Rate, RunId, SharedClock, SharedIds, Timestamp, WorkspaceId};
use tokio::sync::Notify;

use crate::bids::{steps_of, tokens};
use crate::usage::Place;
use crate::{ModelError, UsageSink, WorkspaceLimits};

const PICODOLLARS: f64 = 1e12;
const MINUTE_MS: i64 = 60_000;

/// Longer than any call takes: its reservation outlives it only if its process
/// died.
const EXPIRES_MS: i64 = 3_600_000;

/// Calls of other nodes are settled without a word to this one.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What a call is charged to.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// In the ledger; of a minute, that of its owner.
    pub name: String,
    /// In messages, such as `the run's budget`.
    pub told: String,
    pub limits: Limits,
    /// It is another one in each minute of the clock.
    pub is_of_minute: bool,
}

impl Account {
    /// A run's, and that of the runs within it.
    pub fn of_run(run_id: RunId, budget: Budget) -> Self {
        Self {
            name: ledger::run_account(run_id),
            told: "the run's budget".to_owned(),
            limits: Limits {
                picodollars: budget.max_cost_usd.map(picodollars),
                tokens: budget.max_tokens,
                steps: budget.max_steps,
                ..Limits::default()
            },
            is_of_minute: false,
        }
    }

    /// A key's, in the calendar month (UTC) of `now`.
    pub fn of_key(id: KeyId, budget_usd: f64, now: Timestamp) -> Self {
        Self::of_month(ledger::key_account(id, now), &format!("key {id}"), budget_usd, now)
    }

    /// A workspace's, in the calendar month (UTC) of `now`.
    pub fn of_workspace(budget_usd: f64, now: Timestamp) -> Self {
        Self::of_month(ledger::workspace_account(now), "this workspace", budget_usd, now)
    }

    fn of_month(name: String, told: &str, budget_usd: f64, now: Timestamp) -> Self {
        let now = now.to_string();
        let month = now.get(..7).unwrap_or_default();
        Self {
            name,
            told: format!("the budget of {told} for {month}"),
            limits: Limits { picodollars: Some(picodollars(budget_usd)), ..Limits::default() },
            is_of_minute: false,
        }
    }

    /// A key's tokens in each minute.
    pub fn of_key_minute(id: KeyId, tokens: i64) -> Self {
        Self::of_minute(format!("key:{id}"), format!("key {id}"), tokens)
    }

    fn of_minute(name: String, told: String, tokens: i64) -> Self {
        let limits = Limits { tokens: Some(tokens), renews: true, ..Limits::default() };
        Self { name, told, limits, is_of_minute: true }
    }

    fn name_at(&self, now: Timestamp) -> String {
        if self.is_of_minute { ledger::minute_account(&self.name, now) } else { self.name.clone() }
    }
}

fn dollars(picodollars: i64) -> f64 {
    picodollars as f64 / PICODOLLARS
}

/// The ledger, as calls use it.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    clock: SharedClock,
    ids: SharedIds,
    sink: UsageSink,
    limits: WorkspaceLimits,
    /// Told whenever this process settled something.
    settled: Arc<Notify>,
}

/// One call's accounts, and how long it may wait for calls under way.
#[derive(Clone)]
pub struct Charge {
    pub ledger: Ledger,
    pub workspace_id: WorkspaceId,
    /// Names the call: one made again under the same id takes its own place.
    pub id: String,
    /// At least one.
    pub accounts: Vec<Account>,
    pub patience: Duration,
}

/// What was reserved, or may have been. Dropped, whatever became of its maker,
/// it is settled by the batched writer.
pub struct Reservation {
    /// None once somebody else sees to the settlement, or there is none.
    place: Option<Place>,
    /// What dropping it settles.
    settlement: Settlement,
    /// How many units were granted.
    units: i64,
}

/// A write, and whom to tell of it.
#[derive(Clone)]
pub(crate) struct Settlement {
    pub(crate) settle: Settle,
    settled: Arc<Notify>,
}

impl Settlement {
    pub(crate) fn done(&self) {
        self.settled.notify_waiters();
    }

    /// For a model call that used so much; None: it was never made.
    pub(crate) fn of(self, kind: UsageKind, usage: Option<&Usage>) -> Self {
        self.costing(usage.map_or(Amount::default(), |usage| Amount {
            picodollars: usage.cost_usd.map_or(0, picodollars),
            tokens: tokens(usage.input_tokens.saturating_add(usage.output_tokens)),
            steps: steps_of(kind),
        }))
    }

    pub(crate) fn at_least(self, least: Amount) -> Self {
        let cost = self.settle.cost;
        self.costing(Amount {
            picodollars: cost.picodollars.max(least.picodollars),
            tokens: cost.tokens.max(least.tokens),
            steps: cost.steps.max(least.steps),
        })
    }

    fn costing(self, cost: Amount) -> Self {
        Self { settle: Settle { cost, ..self.settle }, ..self }
    }
}

impl Ledger {
    /// What is reserved is settled by the writer behind `sink`.
    pub fn new(
        store: Store,
        clock: SharedClock,
        ids: SharedIds,
        sink: UsageSink,
        limits: WorkspaceLimits,
    ) -> Self {
        Self { store, clock, ids, sink, limits, settled: Arc::default() }
    }

    /// What a workspace's model calls are charged to beside their own accounts.
    pub fn workspace_accounts(&self) -> Vec<Account> {
        let (now, limits) = (self.clock.now(), self.limits);
        let month = limits.budget_usd.map(|usd| Account::of_workspace(usd, now));
        let minute = limits
            .tokens_per_minute
            .map(|tokens| Account::of_minute("workspace".to_owned(), "this workspace".to_owned(), tokens));
        month.into_iter().chain(minute).collect()
    }

    /// US dollars that the account has spent.
    pub async fn spent_usd(&self, workspace_id: &WorkspaceId, account: &str) -> Result<f64, StoreError> {
        Ok(dollars(ledger::spent(&self.store, workspace_id, account).await?.picodollars))
    }

    /// An error once nothing is left of the account.
    pub async fn check_left(&self, workspace_id: &WorkspaceId, account: &Account) -> Result<(), ModelError> {
        let spent = ledger::spent(&self.store, workspace_id, &account.name).await.map_err(store_failed)?;
        for dimension in Dimension::EVERY {
            let spent = spent.of(dimension);
            match account.limits.of(dimension) {
                Some(limit) if spent >= limit => {
                    let shortage =
                        Shortage { account: account.name.clone(), dimension, limit, spent, wanted: 0 };
                    return Err(exceeded(account, &shortage));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Charge {
    pub(crate) fn limits_cost(&self) -> bool {
        self.accounts.iter().any(|account| account.limits.picodollars.is_some())
    }

    /// Reserves for one step that is no model call, and that counts from now
    /// on, whatever becomes of it: keep what this gives until the step is over.
    pub async fn reserve_step(&self) -> Result<Reservation, ModelError> {
        let bid = Bid { fixed: Amount::ONE_STEP, per_unit: Amount::default(), least_units: 0, most_units: 0 };
        let mut step = self.reserve(self.ledger.sink.reserve().await?, bid).await?;
        step.settlement.settle.cost = Amount::ONE_STEP;
        Ok(step)
    }

    /// Waits while calls under way may leave something. `place` is for the
    /// settlement.
    pub(crate) async fn reserve(&self, place: Place, bid: Bid) -> Result<Reservation, ModelError> {
        let mut reservation = self.nothing_yet(place);
        let until = tokio::time::Instant::now() + self.patience;
        loop {
            let settled = self.ledger.settled.notified();
            let now = self.ledger.clock.now();
            let named = |account: &Account| (account.name_at(now), account.limits);
            let accounts: Vec<(String, Limits)> = self.accounts.iter().map(named).collect();
            reservation.settlement.settle.accounts = accounts.iter().map(|(name, _)| name.clone()).collect();
            let reserve = Reserve {
                workspace_id: self.workspace_id.clone(),
                id: self.id.clone(),
                token: reservation.settlement.settle.token.clone(),
                accounts,
                bid,
                now,
                expires_at: now.plus_millis(EXPIRES_MS),
            };
            // Although it failed, it may have been kept: so that is settled too.
            let (shortage, may_fit) = match self.ledger.store.write(reserve).await.map_err(store_failed)? {
                Reserved::Units(units) => {
                    reservation.units = units;
                    return Ok(reservation);
                }
                Reserved::Refused(shortage) => {
                    let may_fit = self.renews_within(&shortage, until, now);
                    (shortage, may_fit)
                }
                Reserved::Busy(shortage) => (shortage, tokio::time::Instant::now() < until),
            };
            if !may_fit {
                return Err(reservation.refused(self, &shortage, now));
            }
            let _either = tokio::time::timeout(LOOK_AGAIN, settled).await;
        }
    }

    /// Whether the call fits by then, because another minute has begun.
    fn renews_within(&self, shortage: &Shortage, until: tokio::time::Instant, now: Timestamp) -> bool {
        let left = until.saturating_duration_since(tokio::time::Instant::now());
        let is_of_minute =
            |account: &Account| account.is_of_minute && account.name_at(now) == shortage.account;
        shortage.wanted <= shortage.limit
            && ms_to_next_minute(now) <= left.as_millis()
            && self.accounts.iter().any(is_of_minute)
    }

    fn nothing_yet(&self, place: Place) -> Reservation {
        let Ledger { clock, ids, settled, .. } = &self.ledger;
        let settle = Settle {
            workspace_id: self.workspace_id.clone(),
            token: ids.uuid_v7(clock.now()).to_string(),
            accounts: Vec::new(),
            cost: Amount::default(),
        };
        let settlement = Settlement { settle, settled: settled.clone() };
        Reservation { place: Some(place), settlement, units: 0 }
    }

    fn refused(&self, shortage: &Shortage, now: Timestamp) -> ModelError {
        match self.accounts.iter().find(|account| account.name_at(now) == shortage.account) {
            Some(account) if account.is_of_minute => limited(account, shortage, now),
            Some(account) => exceeded(account, shortage),
            None => ModelError::BudgetExceeded { message: "a budget is spent".to_owned() },
        }
    }
}

impl Reservation {
    pub(crate) fn units(&self) -> i64 {
        self.units
    }

    /// For who settles it in another way.
    pub(crate) fn into_parts(mut self) -> (Option<Place>, Settlement) {
        (self.place.take(), self.settlement.clone())
    }

    /// Nothing was reserved, so nothing is settled.
    fn refused(mut self, charge: &Charge, shortage: &Shortage, now: Timestamp) -> ModelError {
        self.place = None;
        charge.refused(shortage, now)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            place.record(None, Some(self.settlement.clone()));
        }
    }
}

fn exceeded(account: &Account, shortage: &Shortage) -> ModelError {
    let Account { told, .. } = account;
    let Shortage { dimension, limit, spent, wanted, .. } = *shortage;
    let message = match dimension {
        Dimension::Cost => format!(
            "{told} of ${} is not enough: ${} is spent, and this call may cost ${}",
            told_usd(limit),
            told_usd(spent),
            told_usd(wanted)
        ),
        Dimension::Tokens => {
            format!(
                "{told} of {limit} tokens is not enough: {spent} are used, and this call may take {wanted}"
            )
        }
        Dimension::Steps => format!("{told} of {limit} steps is used up"),
    };
    ModelError::BudgetExceeded { message }
}

fn ms_to_next_minute(now: Timestamp) -> u128 {
    (MINUTE_MS - now.as_millis().rem_euclid(MINUTE_MS)).unsigned_abs().into()
}

/// The limit of a minute. What no minute holds is not to be asked again.
fn limited(account: &Account, shortage: &Shortage, now: Timestamp) -> ModelError {
    let (Account { told, .. }, Shortage { limit, spent, wanted, .. }) = (account, shortage);
    if wanted > limit {
        let message = format!(
            "{told} may use {limit} tokens a minute, and this call alone may take {wanted}; \
             shorten it, or have the limit raised"
        );
        return ModelError::Limited(ApiError::new(ErrorCode::PayloadTooLarge, message).param("messages"));
    }
    let seconds = u64::try_from(ms_to_next_minute(now).div_ceil(1_000)).unwrap_or(60);
    let message = format!(
        "{told} may use {limit} tokens a minute: {spent} are used, others may be by calls under way, \
         and this call may take {wanted}; wait {seconds} s"
    );
    let count = |number: i64| u64::try_from(number).unwrap_or_default();
    let rate = Rate {
        of: "tokens",
        limit: count(*limit),
        remaining: count(limit.saturating_sub(*spent)),
        reset_seconds: seconds,
    };
    ModelError::Limited(ApiError::new(ErrorCode::RateLimited, message).rate(rate))
}

/// To the millionth of a dollar, without zeros at the end.
fn told_usd(picodollars: i64) -> String {
    let text = format!("{:.6}", dollars(picodollars));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn store_failed(error: StoreError) -> ModelError {
    tracing::error!(%error, "the ledger could not be used");
    ModelError::Overloaded
}
