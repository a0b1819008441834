//! What model calls and steps may cost: reserved before they are made, settled
//! after. The rules are in [`nh_store::ledger`]; here calls become bids, and
//! what does not fit becomes words.

use std::sync::Arc;
use std::time::Duration;

use nh_store::ledger::{Amount, Bid, Dimension, Limits, Reserve, Reserved, Settle, Shortage};
use nh_store::{Store, StoreError, ledger};
use nh_types::budget::Budget;
use nh_types::model::Usage;
use nh_types::{KeyId, RunId, SharedClock, Timestamp, WorkspaceId};
use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::ModelError;
use crate::catalogue::Price;
use crate::usage::Meter;

/// Tokens that an answer may have under a budget where the request has no bound
/// of its own.
const DEFAULT_ANSWER_TOKENS: i64 = 4_096;
/// With fewer left no call is made.
const LEAST_ANSWER_TOKENS: i64 = 16;
/// OpenAI's newer name first: it wins where both are given.
const ANSWER_LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];
const MAX_CHOICES: i64 = 128;

const PICODOLLARS: f64 = 1e12;

/// Longer than any call takes: its reservation outlives it only if its process
/// died.
const EXPIRES_MS: i64 = 3_600_000;

/// Calls of other nodes are settled without a word to this one.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What a call is charged to.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// In the ledger.
    pub name: String,
    /// In messages, such as `the run's budget`.
    pub told: String,
    pub limits: Limits,
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
            },
        }
    }

    /// A key's, in the calendar month (UTC) of `now`.
    pub fn of_key(id: KeyId, budget_usd: f64, now: Timestamp) -> Self {
        let now = now.to_string();
        let month = now.get(..7).unwrap_or_default();
        Self {
            name: format!("key:{id}:{month}"),
            told: format!("the budget of key {id} for {month}"),
            limits: Limits { picodollars: Some(picodollars(budget_usd)), ..Limits::default() },
        }
    }
}

/// Rounds up, so that no price rounds down to nothing.
fn picodollars(usd: f64) -> i64 {
    // A cast from a float saturates.
    (usd * PICODOLLARS).ceil() as i64
}

fn dollars(picodollars: i64) -> f64 {
    picodollars as f64 / PICODOLLARS
}

/// The ledger, as calls use it.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    clock: SharedClock,
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

/// A reservation to be settled.
pub struct Reservation {
    ledger: Ledger,
    settle: Settle,
    /// How many units were granted.
    pub units: i64,
}

/// What [`Reservation::settlement`] gives: a write, and whom to tell of it.
#[derive(Clone)]
pub(crate) struct Settlement {
    pub(crate) settle: Settle,
    settled: Arc<Notify>,
}

impl Settlement {
    pub(crate) fn done(&self) {
        self.settled.notify_waiters();
    }
}

impl Ledger {
    pub fn new(store: Store, clock: SharedClock) -> Self {
        Self { store, clock, settled: Arc::default() }
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

    /// Reserves for one step that is no model call.
    pub async fn reserve_step(&self) -> Result<Reservation, ModelError> {
        let bid = Bid { fixed: Amount::ONE_STEP, per_unit: Amount::default(), least_units: 0, most_units: 0 };
        self.reserve(bid).await
    }

    /// Waits while calls under way may leave something.
    pub(crate) async fn reserve(&self, bid: Bid) -> Result<Reservation, ModelError> {
        let mut accounts: Vec<_> =
            self.accounts.iter().map(|account| (account.name.clone(), account.limits)).collect();
        accounts.sort_by(|a, b| a.0.cmp(&b.0));
        let until = tokio::time::Instant::now() + self.patience;
        loop {
            let settled = self.ledger.settled.notified();
            let now = self.ledger.clock.now();
            let reserve = Reserve {
                workspace_id: self.workspace_id.clone(),
                id: self.id.clone(),
                accounts: accounts.clone(),
                bid,
                now,
                expires_at: now.plus_millis(EXPIRES_MS),
            };
            match self.ledger.store.write(reserve).await.map_err(store_failed)? {
                Reserved::Units(units) => return Ok(self.reserved(accounts, units)),
                Reserved::Refused(shortage) => return Err(self.refused(&shortage)),
                Reserved::Busy(shortage) if tokio::time::Instant::now() >= until => {
                    return Err(self.refused(&shortage));
                }
                Reserved::Busy(_) => {
                    let _either = tokio::time::timeout(LOOK_AGAIN, settled).await;
                }
            }
        }
    }

    fn reserved(&self, accounts: Vec<(String, Limits)>, units: i64) -> Reservation {
        Reservation {
            ledger: self.ledger.clone(),
            settle: Settle {
                workspace_id: self.workspace_id.clone(),
                id: self.id.clone(),
                accounts: accounts.into_iter().map(|(name, _)| name).collect(),
                cost: Amount::default(),
            },
            units,
        }
    }

    fn refused(&self, shortage: &Shortage) -> ModelError {
        match self.accounts.iter().find(|account| account.name == shortage.account) {
            Some(account) => exceeded(account, shortage),
            None => ModelError::BudgetExceeded { message: "a budget is spent".to_owned() },
        }
    }
}

impl Reservation {
    /// Settles a step at once.
    pub async fn settle_step(self) -> Result<(), ModelError> {
        let Settlement { settle, settled } = self.settlement_of(Amount::ONE_STEP);
        self.ledger.store.write(settle).await.map_err(store_failed)?;
        settled.notify_waiters();
        Ok(())
    }

    /// What a model call used; None: it was never made.
    pub(crate) fn settlement(&self, usage: Option<&Usage>) -> Settlement {
        self.settlement_of(usage.map_or(Amount::default(), |usage| Amount {
            picodollars: usage.cost_usd.map_or(0, picodollars),
            tokens: tokens(usage.input_tokens.saturating_add(usage.output_tokens)),
            steps: 1,
        }))
    }

    fn settlement_of(&self, cost: Amount) -> Settlement {
        Settlement { settle: Settle { cost, ..self.settle.clone() }, settled: self.ledger.settled.clone() }
    }
}

/// Reserves for a chat call and sees to it that its answer keeps to what was
/// granted.
pub(crate) async fn reserve_chat(
    charge: &Charge,
    meter: &mut Meter,
    called: Called<'_>,
    body: &mut Map<String, Value>,
    answer_limit: &str,
) -> Result<(), ModelError> {
    let price = called.price(charge)?;
    let asked = ANSWER_LIMITS.iter().find_map(|field| Some((*field, body.get(*field)?.as_i64()?)));
    let wanted = asked.map_or(DEFAULT_ANSWER_TOKENS, |(_, tokens)| tokens.clamp(1, Budget::MAX_TOKENS));
    let choices = body.get("n").and_then(Value::as_i64).unwrap_or(1).clamp(1, MAX_CHOICES);
    let bid = bid(called.prompt_tokens, price, choices, LEAST_ANSWER_TOKENS.min(wanted), wanted);
    let granted = meter.reserve(charge, bid).await?;
    if asked.is_none() || granted < wanted {
        let field = asked.map_or(answer_limit, |(field, _)| field);
        body.insert(field.to_owned(), Value::from(granted));
    }
    Ok(())
}

/// Reserves for a call that only reads.
pub(crate) async fn reserve_prompt(
    charge: &Charge,
    meter: &mut Meter,
    called: Called<'_>,
) -> Result<(), ModelError> {
    let bid = bid(called.prompt_tokens, called.price(charge)?, 1, 0, 0);
    meter.reserve(charge, bid).await.map(drop)
}

/// Reserves for a call of which it is known what it uses, and that is free.
pub(crate) async fn reserve_exactly(
    charge: &Charge,
    meter: &mut Meter,
    usage: &Usage,
) -> Result<(), ModelError> {
    let bid = bid(usage.input_tokens.saturating_add(usage.output_tokens), Price::FREE, 1, 0, 0);
    meter.reserve(charge, bid).await.map(drop)
}

/// The model of a call that is charged.
pub(crate) struct Called<'a> {
    pub(crate) model: &'a str,
    pub(crate) price: Option<Price>,
    /// An upper bound.
    pub(crate) prompt_tokens: u64,
}

impl Called<'_> {
    pub(crate) fn price(&self, charge: &Charge) -> Result<Price, ModelError> {
        if self.price.is_none() && charge.limits_cost() {
            return Err(ModelError::Invalid {
                message: format!(
                    "the price of `{}` is not known, so a budget in dollars cannot be kept; choose another model, \
                     or have its price put into the configuration",
                    self.model
                ),
                param: "model".to_owned(),
            });
        }
        Ok(self.price.unwrap_or(Price::FREE))
    }
}

pub(crate) fn tokens(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).min(Budget::MAX_TOKENS)
}

/// What a model call may cost: its prompt, and each token of its answer.
pub(crate) fn bid(prompt_tokens: u64, price: Price, choices: i64, least_units: i64, most_units: i64) -> Bid {
    let input_tokens = tokens(prompt_tokens);
    let one_more = Usage { input_tokens: prompt_tokens, output_tokens: 1_000_000, ..Usage::NONE };
    let no_answer = Usage { output_tokens: 0, ..one_more };
    let (with, without) = (price.cost_usd(&one_more), price.cost_usd(&no_answer));
    Bid {
        fixed: Amount { picodollars: picodollars(without), tokens: input_tokens, steps: 1 },
        per_unit: Amount {
            picodollars: picodollars((with - without) / 1_000_000.0 * choices as f64),
            tokens: choices,
            steps: 0,
        },
        least_units,
        most_units: most_units.max(least_units),
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

/// To the millionth of a dollar, without zeros at the end.
fn told_usd(picodollars: i64) -> String {
    let text = format!("{:.6}", dollars(picodollars));
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn store_failed(error: StoreError) -> ModelError {
    tracing::error!(%error, "the ledger could not be used");
    ModelError::Overloaded
}
