//! What model calls and steps may cost: reserved before they are made, settled
//! after. The rules are in [`nh_store::ledger`]; here what does not fit becomes
//! words, and no reservation is forgotten. What calls bid is in `bids.rs`.

use std::sync::Arc;
use std::time::Duration;

use nh_store::ledger::{Amount, Bid, Dimension, Limits, Reserve, Reserved, Settle, Shortage, picodollars};
use nh_store::usage::UsageKind;
use nh_store::{Store, StoreError, ledger};
use nh_types::model::Usage;
use nh_types::{SharedClock, SharedIds, Timestamp, WorkspaceId};
use tokio::sync::Notify;

use crate::bids::{steps_of, tokens};
use crate::usage::Place;
use crate::{ModelError, UsageSink, WorkspaceLimits};

mod account;
mod advance;
mod shortage;

pub use account::Account;
use advance::{Advances, Part};
use shortage::{dollars, exceeded, limited, ms_to_next_minute};

/// Longer than any call takes: its reservation outlives it only if its process
/// died.
const EXPIRES_MS: i64 = 3_600_000;

/// Calls of other nodes are settled without a word to this one.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

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
    advances: Advances,
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
    /// Whether others like it may follow so closely that what they may cost is reserved ahead.
    pub is_of_many: bool,
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
    /// Of a call that was reserved ahead: all of its accounts at once.
    ahead: Option<Part>,
}

impl Settlement {
    /// None where it is not [written alone](Self::is_written_alone): it was reserved ahead.
    pub(crate) fn into_unwritten(self) -> Option<Self> {
        match self.ahead {
            None => Some(self),
            Some(part) => {
                part.pay(self.settle.cost);
                None
            }
        }
    }

    pub(crate) fn is_written_alone(&self) -> bool {
        self.ahead.is_none()
    }

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
        Self { store, clock, ids, sink, limits, settled: Arc::default(), advances: Advances::default() }
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

    /// Waits until all that was used is written, what was reserved ahead too. For the end, when no
    /// more calls are made.
    pub async fn close(&self) {
        // Calls give their parts back when they are written, and what is left is settled then.
        self.sink.flush().await;
        self.advances.give_back();
        self.sink.flush().await;
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
            if let Some(part) = self.take_ahead(&accounts, &bid) {
                reservation.units = bid.most_units;
                reservation.settlement.ahead = Some(part);
                return Ok(reservation);
            }
            reservation.settlement.settle.accounts = accounts.iter().map(|(name, _)| name.clone()).collect();
            let reserve = Reserve {
                workspace_id: self.workspace_id.clone(),
                id: self.id.clone(),
                token: reservation.settlement.settle.token.clone(),
                accounts,
                bid,
                room: 1,
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
        let settlement = Settlement { settle, settled: settled.clone(), ahead: None };
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

fn store_failed(error: StoreError) -> ModelError {
    tracing::error!(%error, "the ledger could not be used");
    ModelError::Overloaded
}
