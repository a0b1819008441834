//! `/v1/models`, and what a model call used.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A model as `GET /v1/models` shows it: OpenAI's fields and the hub's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelView {
    pub id: String,
    /// Always `model`.
    pub object: String,
    /// Seconds since 1970, as OpenAI has it; 0 where the provider does not say.
    pub created: i64,
    /// The provider's name in the configuration.
    pub owned_by: String,
    pub description: Option<String>,
    /// US dollars per million tokens; null where it is not known.
    pub input_cost: Option<f64>,
    /// US dollars per million tokens; null where it is not known.
    pub output_cost: Option<f64>,
    /// Tokens; null where it is not known.
    pub context_length: Option<u64>,
    /// Of `chat`, `tools`, `vision`, `embeddings`.
    pub capabilities: Vec<String>,
}

/// `GET /v1/models`: OpenAI's shape (`data`) and the reference's (`models`).
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelList {
    /// Always `list`.
    pub object: String,
    pub data: Vec<ModelView>,
    pub models: Vec<ModelView>,
}

/// Tokens and money of one or more model calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// The part of `input_tokens` that the provider read from its cache.
    pub cached_tokens: u64,
    /// The part of `output_tokens` spent on reasoning.
    pub reasoning_tokens: u64,
    /// US dollars; null when the price of some call is not known.
    pub cost_usd: Option<f64>,
}

impl Usage {
    pub const NONE: Usage = Usage {
        input_tokens: 0,
        output_tokens: 0,
        cached_tokens: 0,
        reasoning_tokens: 0,
        cost_usd: Some(0.0),
    };

    /// The sum; its cost is unknown when one of the two is.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cached_tokens: self.cached_tokens.saturating_add(other.cached_tokens),
            reasoning_tokens: self.reasoning_tokens.saturating_add(other.reasoning_tokens),
            cost_usd: self.cost_usd.zip(other.cost_usd).map(|(a, b)| a + b),
        }
    }
}
