//! `/v1/webhooks`: what the hub tells others of the ends of runs, and how that
//! went.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::{InvalidId, RunId};
use crate::run::{RunState, RunSummary, UnknownWord, unknown_word};

/// A delivery, and the `webhook-id` that all its tries carry: `msg_` and the
/// run's id without hyphens, because a run ends once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct DeliveryId(RunId);

impl DeliveryId {
    pub fn of(run_id: RunId) -> Self {
        Self(run_id)
    }

    pub fn run_id(self) -> RunId {
        self.0
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "msg_{}", self.0.0.simple())
    }
}

impl FromStr for DeliveryId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let id = text.strip_prefix("msg_").and_then(|id| Uuid::parse_str(id).ok());
        id.map(|id| Self(RunId(id))).filter(|id| id.to_string() == text).ok_or_else(|| InvalidId {
            given: text.chars().take(80).collect(),
            expected: "a delivery id (`msg_` and 32 of 0-9a-f)",
        })
    }
}

impl TryFrom<String> for DeliveryId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<DeliveryId> for String {
    fn from(id: DeliveryId) -> String {
        id.to_string()
    }
}

/// Where a delivery is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It is tried, or will be.
    Pending,
    /// A 2xx came.
    Delivered,
    /// It is not tried again, unless somebody asks for it.
    Failed,
}

impl DeliveryState {
    pub const EVERY: [DeliveryState; 3] = [Self::Pending, Self::Delivered, Self::Failed];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
        }
    }
}

impl FromStr for DeliveryState {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::EVERY
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| unknown_word(text, Self::EVERY.into_iter().map(Self::as_str)))
    }
}

impl fmt::Display for DeliveryState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The type of the event that a run's end is.
pub const fn event_type(ended_as: RunState) -> &'static str {
    match ended_as {
        RunState::Success => "run.succeeded",
        RunState::Cancelled => "run.cancelled",
        RunState::Failed | RunState::Pending | RunState::Running | RunState::Waiting => "run.failed",
    }
}

/// The body of a delivery.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookEvent {
    /// `run.succeeded`, `run.failed` or `run.cancelled`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When the run ended.
    pub timestamp: Timestamp,
    pub data: WebhookRun,
}

/// The run as a delivery tells it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WebhookRun {
    #[serde(flatten)]
    pub run: RunSummary,
    /// Null unless the run succeeded.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    /// The result is larger than 64 KiB and left out: `GET /v1/run/{runId}` has
    /// it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub result_omitted: bool,
}

/// A delivery as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// The `webhook-id` of all its tries.
    pub id: DeliveryId,
    pub run_id: RunId,
    /// `run.succeeded`, `run.failed` or `run.cancelled`.
    #[serde(rename = "type")]
    pub event_type: String,
    pub url: String,
    pub state: DeliveryState,
    pub attempt_count: i64,
    /// When it is tried next; while a try is under way, when that is given up
    /// for lost.
    pub next_attempt_at: Option<Timestamp>,
    /// Of the last try; null: there was no answer.
    pub last_status_code: Option<u16>,
    /// Why the last try failed.
    pub last_error: Option<String>,
    /// When the run ended.
    pub created_at: Timestamp,
}

/// `GET /v1/webhooks/deliveries/{id}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryDetail {
    #[serde(flatten)]
    pub delivery: DeliveryView,
    /// The last 50, in order.
    pub attempts: Vec<AttemptView>,
}

/// One try of a delivery.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AttemptView {
    pub at: Timestamp,
    pub duration_ms: i64,
    /// Null: there was no answer.
    pub status_code: Option<u16>,
    /// Null: it was delivered.
    pub error: Option<String>,
    /// The first 1024 bytes of an answer that was no 2xx.
    pub response: Option<String>,
}

/// `GET /v1/webhooks/deliveries`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryList {
    pub deliveries: Vec<DeliveryView>,
    pub next_cursor: Option<String>,
}

/// `POST /v1/webhooks/secret/rotate`. It has no fields yet, and no body at all
/// is right too.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecret {}

/// The answer that makes a signing secret: the only one that ever holds it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RotatedSecret {
    /// `whsec_` and 32 random bytes in base64, shown this once.
    pub secret: String,
    pub created_at: Timestamp,
    /// Until when the one before signs too; null: there was none.
    pub previous_expires_at: Option<Timestamp>,
}

/// `GET /v1/webhooks/secret`: never the secret itself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// When the current secret was made; null: there is none yet.
    pub created_at: Option<Timestamp>,
    /// Those before it that still sign.
    pub previous: Vec<PreviousSecret>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PreviousSecret {
    pub created_at: Timestamp,
    pub expires_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_named_by_its_run_in_one_way_only() {
        let run_id: RunId = "019b0000-0000-7000-8000-00000000000a".parse().expect("a run");
        let id = DeliveryId::of(run_id);
        assert_eq!(id.to_string(), "msg_019b0000000070008000 00000000000a".replace(' ', ""));
        assert_eq!(id.to_string().parse(), Ok(id));
        let hyphens = format!("msg_{run_id}");
        for bad in
            ["msg_", "msg_x", run_id.to_string().as_str(), hyphens.as_str(), &id.to_string().to_uppercase()]
        {
            assert!(bad.parse::<DeliveryId>().is_err(), "{bad}");
        }
    }
}
