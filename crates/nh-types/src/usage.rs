//! `/v1/usage`: what model calls, sandboxes and stored bytes used and cost.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::id::KeyId;
use crate::run::UnknownWord;

/// What calls are summed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageBy {
    /// In UTC.
    Day,
    Key,
    Provider,
    Model,
    Agent,
    Kind,
}

impl UsageBy {
    pub const EVERY: [UsageBy; 6] =
        [Self::Day, Self::Key, Self::Provider, Self::Model, Self::Agent, Self::Kind];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Key => "key",
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Agent => "agent",
            Self::Kind => "kind",
        }
    }
}

impl FromStr for UsageBy {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::EVERY.into_iter().find(|by| by.as_str() == text).ok_or_else(|| UnknownWord {
            given: text.chars().take(80).collect(),
            expected: "day, key, provider, model, agent, kind".to_owned(),
        })
    }
}

/// What some calls have in common, as far as it was asked for, and what they amount to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageSum {
    /// Such as `2026-11-30`, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The key of the request, or of who started the run. Absent: a session's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<KeyId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The agent whose run made the calls. Absent: no agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// `chat`, `embeddings`, `sandbox` or `storage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Model calls, and sandboxes, each where it was first metered.
    pub calls: i64,
    /// Calls whose tokens are a guess, as the provider did not say.
    pub estimated_calls: i64,
    /// Model calls whose cost is not known, and not in `cost_usd`.
    pub unpriced_calls: i64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// The part of `input_tokens` that providers read from their caches.
    pub cached_tokens: u64,
    /// The part of `output_tokens` spent on reasoning.
    pub reasoning_tokens: u64,
    /// Of sandboxes. Absent: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sandbox_seconds: f64,
    /// What was stored, in gigabytes (10^9 bytes) times hours. Absent: none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub storage_gb_hours: f64,
    /// US dollars: of sandboxes and of what is stored, where the operator gave a price.
    pub cost_usd: f64,
    /// US dollars that answers would have cost which were given again.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub saved_usd: f64,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

/// `GET /v1/usage`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageReport {
    pub from: Timestamp,
    /// Not included.
    pub to: Timestamp,
    pub by: Vec<UsageBy>,
    pub usage: Vec<UsageSum>,
    /// Of all calls, those too that `usage` has no room for.
    pub total: UsageSum,
    /// There is more than `usage` shows: ask for less time, or by less.
    pub is_truncated: bool,
}
