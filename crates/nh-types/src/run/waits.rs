//! What a run waits for, and what it is told.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::id::RunId;

/// `POST /v1/run/{runId}/signal`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "payment", "data": {"amount": 391}}))]
pub struct SignalRun {
    /// What a step waits for: 1 to 128 of a-z, A-Z, 0-9, `_`, `-` and `.`.
    pub name: String,
    /// What the step gives as its output: any JSON, at most 64 KiB.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub data: Value,
    /// The sender's own, 1 to 128 of the same characters: a second signal with
    /// it changes nothing. Absent: the hub makes one.
    #[serde(default)]
    pub id: Option<String>,
}

/// What becomes of a signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SentSignal {
    pub run_id: RunId,
    pub signal_id: String,
    /// `accepted`, or `repeated` when one with this id came before.
    pub status: String,
}

/// `POST /v1/run/{runId}/approve`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"comment": "looks right"}))]
pub struct ApproveStep {
    /// The step that waits, as `waitingFor` names it; absent: the only one.
    pub step: Option<String>,
    /// Of a tool call: make it with these arguments instead.
    #[schema(value_type = Option<Object>)]
    pub arguments: Option<Map<String, Value>>,
    /// At most 4096 characters.
    pub comment: Option<String>,
}

/// `POST /v1/run/{runId}/deny`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"comment": "not on a Friday"}))]
pub struct DenyStep {
    /// The step that waits, as `waitingFor` names it; absent: the only one.
    pub step: Option<String>,
    /// What the agent is told; at most 4096 characters.
    pub comment: Option<String>,
}

/// What was decided of a step that waited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecidedStep {
    pub run_id: RunId,
    pub step: String,
    pub approved: bool,
}

/// Something that a run waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaitView {
    pub step: String,
    #[serde(rename = "for")]
    pub kind: WaitKind,
    /// Of an approval the tool, of a signal its name, of a run its target.
    pub name: String,
    /// Of an approval: what the tool would be called with, or what the workflow
    /// shows.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Option<Object>)]
    pub arguments: Value,
    /// When the wait ends by itself.
    pub until: Option<Timestamp>,
    /// The run that is waited for.
    pub run_id: Option<RunId>,
    pub since: Timestamp,
}

/// What kind of thing a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WaitKind {
    /// `POST …/approve` or `…/deny`.
    Approval,
    /// The same, on a step of which nobody knows whether it took effect.
    Decision,
    Signal,
    Timer,
    Run,
}
