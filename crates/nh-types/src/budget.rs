//! What runs, agents and keys may spend.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a run may take at most, its children included. What is absent has no
/// bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"max_cost_usd": 0.5, "max_tokens": 200_000, "max_steps": 50}))]
pub struct Budget {
    /// US dollars: 0 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.0, maximum = 1_000_000.0)]
    pub max_cost_usd: Option<f64>,
    /// Tokens in and out of models: 1 to 1,000,000,000,000. Signed, so that -1
    /// is out of range and not of a wrong type.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub max_tokens: Option<i64>,
    /// Model calls and tool calls together: 1 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_steps: Option<i64>,
}

impl Budget {
    pub const MAX_COST_USD: f64 = 1_000_000.0;
    pub const MAX_TOKENS: i64 = 1_000_000_000_000;
    pub const MAX_STEPS: i64 = 1_000_000;

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The stricter of each bound.
    pub fn with(self, other: Budget) -> Budget {
        let least = |a: Option<i64>, b: Option<i64>| a.into_iter().chain(b).min();
        let costs = self.max_cost_usd.into_iter().chain(other.max_cost_usd);
        Budget {
            max_cost_usd: costs.min_by(f64::total_cmp),
            max_tokens: least(self.max_tokens, other.max_tokens),
            max_steps: least(self.max_steps, other.max_steps),
        }
    }
}

/// What each run of an agent, or of a key, is held to, beside its own bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"max_cost_usd": 0.5, "timeout_seconds": 600}))]
pub struct RunLimits {
    /// US dollars: 0 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0.0, maximum = 1_000_000.0)]
    pub max_cost_usd: Option<f64>,
    /// Tokens in and out of models: 1 to 1,000,000,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub max_tokens: Option<i64>,
    /// Model calls and tool calls together: 1 to 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub max_steps: Option<i64>,
    /// The run ends as FAILED, code `timeout`, after so long: 1 to 604800.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 604_800)]
    pub timeout_seconds: Option<i64>,
    /// Runs under way at once; further ones wait in the queue: 1 to 10,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    pub max_running: Option<i64>,
}

impl RunLimits {
    pub const MAX_MAX_RUNNING: i64 = 10_000;

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub fn budget(&self) -> Budget {
        Budget { max_cost_usd: self.max_cost_usd, max_tokens: self.max_tokens, max_steps: self.max_steps }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_bound_holds() {
        let a = Budget { max_cost_usd: Some(2.0), max_tokens: Some(10), max_steps: None };
        let b = Budget { max_cost_usd: Some(1.0), max_tokens: None, max_steps: Some(3) };
        let both = Budget { max_cost_usd: Some(1.0), max_tokens: Some(10), max_steps: Some(3) };
        assert_eq!((a.with(b), b.with(a)), (both, both));
        assert!(Budget::default().is_empty() && !both.is_empty());
    }
}
