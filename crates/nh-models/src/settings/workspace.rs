//! The `[workspace_limits]` section of the configuration.

use nh_types::budget::Budget;
use nh_types::key::ModelLimits;
use nh_types::settings::SettingsFault;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const MAX_REQUESTS: i64 = 1_000_000;

/// What each workspace is held to, all of its keys and runs together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WorkspaceLimits {
    /// US dollars a calendar month (UTC) for model calls and sandboxes. Absent: no bound.
    pub budget_usd: Option<f64>,
    /// Tokens into and out of models in each minute of the clock. Absent: no bound.
    pub tokens_per_minute: Option<i64>,
    /// Requests a minute, of all keys and sessions together, on each node. Absent: no bound.
    pub requests_per_minute: Option<u32>,
    /// Model calls under way at once on each node, streams among them. Absent: no bound.
    pub max_concurrent: Option<i64>,
}

impl WorkspaceLimits {
    /// Every fault, with its place.
    pub fn faults(&self) -> Vec<SettingsFault> {
        let usd = self.budget_usd.filter(|usd| !(0.0..=Budget::MAX_COST_USD).contains(usd)).map(|usd| {
            SettingsFault {
                at: "workspace_limits.budget_usd".to_owned(),
                message: format!("{usd} is not from 0 to {} US dollars", Budget::MAX_COST_USD),
            }
        });
        let numbers = [
            ("tokens_per_minute", self.tokens_per_minute, Budget::MAX_TOKENS),
            ("requests_per_minute", self.requests_per_minute.map(i64::from), MAX_REQUESTS),
            ("max_concurrent", self.max_concurrent, ModelLimits::MAX_CONCURRENT),
        ];
        let numbers = numbers.into_iter().filter_map(|(field, given, most)| {
            let given = given.filter(|given| !(1..=most).contains(given))?;
            let message = format!("{given} is not from 1 to {most}");
            Some(SettingsFault { at: format!("workspace_limits.{field}"), message })
        });
        usd.into_iter().chain(numbers).collect()
    }
}
