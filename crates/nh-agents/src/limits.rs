//! What runs may be bounded by: the checks on `budget` and `limits`, wherever
//! they stand.

use nh_types::ApiError;
use nh_types::budget::{Budget, RunLimits};
use nh_types::key::ModelLimits;

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

/// `field` is where they stand in the request.
pub fn check_model_limits(field: &str, limits: &ModelLimits) -> Result<(), ApiError> {
    if let Some(models) = &limits.models {
        let at = format!("{field}.models");
        let (count, most) = (models.len(), ModelLimits::MAX_MODELS);
        if !(1..=most).contains(&count) {
            let message = format!("`{at}` has {count} models; it must have 1 to {most}, or be left out");
            return Err(invalid(&at, message));
        }
        if let Some(place) = models.iter().position(|model| !(1..=256).contains(&model.len())) {
            let at = format!("{at}[{place}]");
            let message =
                format!("`{at}` must be a model's id of 1 to 256 bytes, or the beginning of some and `*`");
            return Err(invalid(&at, message));
        }
    }
    check_range(
        &format!("{field}.max_prompt_tokens"),
        limits.max_prompt_tokens,
        1..=ModelLimits::MAX_PROMPT_TOKENS,
    )?;
    check_range(&format!("{field}.tokens_per_minute"), limits.tokens_per_minute, 1..=Budget::MAX_TOKENS)?;
    check_range(&format!("{field}.max_concurrent"), limits.max_concurrent, 1..=ModelLimits::MAX_CONCURRENT)
}

/// Dollars that a budget can have.
pub fn check_usd(field: &str, usd: f64) -> Result<(), ApiError> {
    let most = Budget::MAX_COST_USD;
    if (0.0..=most).contains(&usd) {
        return Ok(());
    }
    Err(invalid(field, format!("`{field}` is {usd}; it must be from 0 to {most} US dollars")))
}
