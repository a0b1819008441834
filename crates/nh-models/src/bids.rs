//! What model calls bid for: as much as they may cost at most.

use nh_store::ledger::picodollars;
use nh_store::ledger::{Amount, Bid};
use nh_store::usage::UsageKind;
use nh_types::budget::Budget;
use nh_types::model::Usage;
use serde_json::{Map, Value};

use crate::ModelError;
use crate::catalogue::Price;
use crate::chat::shown;
use crate::ledger::Charge;
use crate::usage::Meter;

/// Tokens that an answer may have under a budget where the request has no bound
/// of its own.
const DEFAULT_ANSWER_TOKENS: i64 = 4_096;
/// With fewer left no call is made.
const LEAST_ANSWER_TOKENS: i64 = 16;
/// OpenAI's newer name first: it wins where both are given.
const ANSWER_LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];
/// How many answers are asked for.
const CHOICES: &str = "n";
/// OpenAI's own bound. Without one, what calls reserve together is more than a number holds.
const MAX_CHOICES: i64 = 128;

/// Reserves for a chat call and sees to it that its answer keeps to what was
/// granted: of the fields that bound it, only the one that the provider knows
/// is left.
pub(crate) async fn reserve_chat(
    charge: &Charge,
    meter: &mut Meter,
    called: Called<'_>,
    body: &mut Map<String, Value>,
    answer_limit: &str,
) -> Result<(), ModelError> {
    let price = called.price(charge)?;
    let [newer, older] = [count(body, ANSWER_LIMITS[0], None)?, count(body, ANSWER_LIMITS[1], None)?];
    let wanted = newer.or(older).unwrap_or(DEFAULT_ANSWER_TOKENS).min(Budget::MAX_TOKENS);
    let choices = count(body, CHOICES, Some(MAX_CHOICES))?;
    let bid = bid(called.prompt_tokens, price, choices.unwrap_or(1), LEAST_ANSWER_TOKENS.min(wanted), wanted);
    let granted = meter.reserve(charge, bid).await?;
    ANSWER_LIMITS.iter().for_each(|field| drop(body.remove(*field)));
    body.insert(answer_limit.to_owned(), Value::from(granted));
    if let Some(choices) = choices {
        body.insert(CHOICES.to_owned(), Value::from(choices));
    }
    Ok(())
}

/// A number in a request that is charged for: providers must not read another
/// than the ledger does.
fn count(body: &Map<String, Value>, field: &str, most: Option<i64>) -> Result<Option<i64>, ModelError> {
    let Some(given) = body.get(field).filter(|given| !given.is_null()) else { return Ok(None) };
    // A cast from a float saturates.
    let whole = given.as_f64().filter(|number| number.fract() == 0.0).map(|number| number as i64);
    match given.as_i64().or(whole) {
        Some(number) if (1..=most.unwrap_or(i64::MAX)).contains(&number) => Ok(Some(number)),
        _ => {
            let range = most.map_or_else(|| "of at least 1".to_owned(), |most| format!("from 1 to {most}"));
            Err(ModelError::Invalid {
                message: format!("`{field}` is {}; it must be a whole number {range}", shown(given)),
                param: field.to_owned(),
            })
        }
    }
}

/// Reserves for a call that only reads.
pub(crate) async fn reserve_prompt(
    charge: &Charge,
    meter: &mut Meter,
    called: Called<'_>,
) -> Result<(), ModelError> {
    let mut bid = bid(called.prompt_tokens, called.price(charge)?, 1, 0, 0);
    bid.fixed.steps = steps_of(UsageKind::Embeddings);
    meter.reserve(charge, bid).await.map(drop)
}

/// What a call counts as. In a run, embeddings are made for a step that is counted
/// already, and that would wait for itself if they were one more.
pub(crate) const fn steps_of(kind: UsageKind) -> i64 {
    match kind {
        UsageKind::Chat => 1,
        UsageKind::Embeddings | UsageKind::Sandbox | UsageKind::Storage => 0,
    }
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
        fixed: Amount {
            picodollars: picodollars(without),
            tokens: input_tokens,
            steps: steps_of(UsageKind::Chat),
        },
        per_unit: Amount {
            picodollars: picodollars((with - without) / 1_000_000.0 * choices as f64),
            tokens: choices,
            steps: 0,
        },
        least_units,
        most_units: most_units.max(least_units),
    }
}
