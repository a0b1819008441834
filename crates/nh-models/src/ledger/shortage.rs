//! What does not fit, in words.

use nh_store::ledger::{Dimension, Shortage};
use nh_types::{ApiError, ErrorCode, Rate, Timestamp};

use super::Account;
use crate::ModelError;

const PICODOLLARS: f64 = 1e12;
const MINUTE_MS: i64 = 60_000;

pub(super) fn dollars(picodollars: i64) -> f64 {
    picodollars as f64 / PICODOLLARS
}

pub(super) fn exceeded(account: &Account, shortage: &Shortage) -> ModelError {
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

pub(super) fn ms_to_next_minute(now: Timestamp) -> u128 {
    (MINUTE_MS - now.as_millis().rem_euclid(MINUTE_MS)).unsigned_abs().into()
}

/// The limit of a minute. What no minute holds is not to be asked again.
pub(super) fn limited(account: &Account, shortage: &Shortage, now: Timestamp) -> ModelError {
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
