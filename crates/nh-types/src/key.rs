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
    /// US dollars a calendar month (UTC) for model calls, those of its runs
    /// included: from 0, with which nothing may be spent, to 1,000,000.
    #[serde(default)]
    #[schema(minimum = 0.0, maximum = 1_000_000.0)]
    pub budget_usd: Option<f64>,
    /// What each run of the key is held to.
    #[serde(default)]
    pub limits: Option<RunLimits>,
}

/// What a key is held to, as the store keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeyLimits {
    /// A calendar month, in UTC.
    pub budget_usd: Option<f64>,
    /// Each of its runs.
    pub runs: RunLimits,
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
}

/// `GET /v1/keys`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    pub keys: Vec<KeyView>,
    pub next_cursor: Option<String>,
}
