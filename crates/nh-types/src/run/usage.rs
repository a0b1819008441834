//! What runs used, as the API shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::Usage;

/// What a run's calls of one model used, those of runs within it included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelUse {
    pub model: String,
    pub calls: u64,
    #[serde(flatten)]
    pub usage: RunUsage,
    /// Seconds from their starts to their ends, added up.
    pub seconds: f64,
}

/// What a run's calls of one tool took, those of runs within it included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolUse {
    pub tool: String,
    pub calls: u64,
    /// What they bought: embeddings, of a provider, for what is remembered.
    #[serde(flatten)]
    pub usage: RunUsage,
    /// Seconds from their starts to their ends, added up.
    pub seconds: f64,
}

/// What a run used, in all and by model and tool, runs within it included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunUsageView {
    #[serde(flatten)]
    pub total: RunUsage,
    /// Seconds that its tools took, added up.
    pub compute_seconds: f64,
    pub by_model: Vec<ModelUse>,
    pub by_tool: Vec<ToolUse>,
}

/// What was bought of models, all calls together. A run's fields are written
/// in camelCase where the journal's are in snake_case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunUsage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// The part of `inputTokens` that the provider read from its cache.
    pub cached_tokens: u64,
    /// The part of `outputTokens` spent on reasoning.
    pub reasoning_tokens: u64,
    /// US dollars; null when the price of some call is not known.
    pub cost_usd: Option<f64>,
}

impl From<Usage> for RunUsage {
    fn from(usage: Usage) -> Self {
        let Usage { input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd } = usage;
        Self { input_tokens, output_tokens, cached_tokens, reasoning_tokens, cost_usd }
    }
}
