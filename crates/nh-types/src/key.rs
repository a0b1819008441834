//! `/v1/keys`: what goes in and out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::budget::RunLimits;
use crate::clock::Timestamp;
use crate::id::KeyId;
use crate::scope::Scope;

/// `POST /v1/keys`. Scopes are text here, so that an unknown one is a 422 that
/// names it and not a parse error.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Agent Production Key", "scopes": ["chat:write", "run:write", "memories:read"]}))]
pub struct CreateKey {
    /// 1 to 128 characters.
    pub name: String,
    /// At least one.
    pub scopes: Vec<String>,
    /// When the key stops working; in the future.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Requests a minute, 1 to 1,000,000. Signed, so that -1 is out of range
    /// and not of a wrong type.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub rate_limit: Option<i64>,
    /// US dollars a calendar month (UTC) for model calls and sandboxes, those of its runs
    /// included: from 0, with which nothing may be spent, to 1,000,000.
    #[serde(default)]
    #[schema(minimum = 0.0, maximum = 1_000_000.0)]
    pub budget_usd: Option<f64>,
    /// What each run of the key is held to.
    #[serde(default)]
    pub limits: Option<RunLimits>,
    /// What its model calls are held to, also those of its runs.
    #[serde(default)]
    pub model_limits: Option<ModelLimits>,
}

/// What a key is held to, as the store keeps it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyLimits {
    /// A calendar month, in UTC.
    pub budget_usd: Option<f64>,
    /// Each of its runs.
    pub runs: RunLimits,
    #[serde(default)]
    pub models: ModelLimits,
}

/// What model calls are held to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"models": ["fast", "gpt-5-*"], "tokens_per_minute": 100_000, "max_concurrent": 20}))]
pub struct ModelLimits {
    /// The models that may be asked, by their ids or an alias's name; a `*` at the end stands for
    /// any rest. Absent: all. 1 to 100 of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<String>>,
    /// Tokens that a prompt may have at most, as the hub estimates them: 1 to 100,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000_000)]
    pub max_prompt_tokens: Option<i64>,
    /// In and out, in each minute of the clock: 1 to 1,000,000,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    pub tokens_per_minute: Option<i64>,
    /// Calls under way at once on each node, streams among them: 1 to 100,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100_000)]
    pub max_concurrent: Option<i64>,
}

impl ModelLimits {
    pub const MAX_MODELS: usize = 100;
    pub const MAX_PROMPT_TOKENS: i64 = 100_000_000;
    pub const MAX_CONCURRENT: i64 = 100_000;

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether `model` is among those that may be asked.
    pub fn allows(&self, model: &str) -> bool {
        let is_meant = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => model.starts_with(beginning),
            None => model == pattern,
        };
        self.models.as_ref().is_none_or(|models| models.iter().any(is_meant))
    }
}

/// The answer that creates a key: the only one that ever holds it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CreatedKey {
    /// The raw key, shown this once.
    pub key: String,
    #[schema(value_type = i64)]
    pub id: KeyId,
    /// The first 7 characters of the key.
    pub prefix: String,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub rate_limit: Option<u32>,
    pub budget_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "RunLimits::is_empty")]
    pub limits: RunLimits,
    #[serde(default, skip_serializing_if = "is_without_limits")]
    pub model_limits: ModelLimits,
}

/// A key, masked.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    #[schema(value_type = i64)]
    pub id: KeyId,
    pub name: String,
    pub prefix: String,
    pub scopes: Vec<Scope>,
    pub created_at: Timestamp,
    pub last_used_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub rate_limit: Option<u32>,
    pub budget_usd: Option<f64>,
    /// Of `budget_usd`, in this calendar month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spent_usd: Option<f64>,
    #[serde(default, skip_serializing_if = "RunLimits::is_empty")]
    pub limits: RunLimits,
    #[serde(default, skip_serializing_if = "is_without_limits")]
    pub model_limits: ModelLimits,
}

/// `GET /v1/keys`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    pub keys: Vec<KeyView>,
    pub next_cursor: Option<String>,
}

fn is_without_limits(limits: &ModelLimits) -> bool {
    limits.is_empty()
}
