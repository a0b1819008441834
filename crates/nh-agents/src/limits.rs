//! What runs may be bounded by: the checks on `budget` and `limits`, wherever
//! they stand.

use nh_types::ApiError;
use nh_types::budget::{Budget, RunLimits};

use crate::start::{MAX_TIMEOUT_SECONDS, check_range, invalid};

pub(crate) fn check_budget(field: &str, budget: &Budget) -> Result<(), ApiError> {
    if let Some(usd) = budget.max_cost_usd {
        check_usd(&format!("{field}.max_cost_usd"), usd)?;
    }
    check_range(&format!("{field}.max_tokens"), budget.max_tokens, 1..=Budget::MAX_TOKENS)?;
    check_range(&format!("{field}.max_steps"), budget.max_steps, 1..=Budget::MAX_STEPS)
}

/// `field` is where they stand in the request.
pub fn check_limits(field: &str, limits: &RunLimits) -> Result<(), ApiError> {
    check_budget(field, &limits.budget())?;
    check_range(&format!("{field}.timeout_seconds"), limits.timeout_seconds, 1..=MAX_TIMEOUT_SECONDS)?;
    check_range(&format!("{field}.max_running"), limits.max_running, 1..=RunLimits::MAX_MAX_RUNNING)
}

/// Dollars that a budget can have.
pub fn check_usd(field: &str, usd: f64) -> Result<(), ApiError> {
    let most = Budget::MAX_COST_USD;
    if (0.0..=most).contains(&usd) {
        return Ok(());
    }
    Err(invalid(field, format!("`{field}` is {usd}; it must be from 0 to {most} US dollars")))
}
