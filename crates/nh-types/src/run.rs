//! `/v1/run`: what goes in and out.

mod usage;
mod waits;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::JsonText;
use crate::budget::Budget;
use crate::clock::Timestamp;
use crate::id::RunId;
use crate::patch::present;

pub use usage::{ModelUse, RunUsage, RunUsageView, ToolUse};
pub use waits::{ApproveStep, DecidedStep, DenyStep, SentSignal, SignalRun, WaitKind, WaitView};

/// What a run runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunType {
    Agent,
    Tool,
    Workflow,
}

impl RunType {
    pub const EVERY: [RunType; 3] = [RunType::Agent, RunType::Tool, RunType::Workflow];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Tool => "tool",
            Self::Workflow => "workflow",
        }
    }
}

/// Where a run is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunState {
    Pending,
    Running,
    /// For a timer, an approval, a signal or a decision.
    Waiting,
    Success,
    Failed,
    Cancelled,
}

impl RunState {
    pub const EVERY: [RunState; 6] =
        [Self::Pending, Self::Running, Self::Waiting, Self::Success, Self::Failed, Self::Cancelled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Waiting => "WAITING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The lower-case word that run objects carry beside `state`.
    pub const fn status(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Success | Self::Failed | Self::Cancelled)
    }
}

/// The text is not one of the words that it could be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{given}` is not one of {expected}")]
pub struct UnknownWord {
    pub given: String,
    pub expected: String,
}

pub(crate) fn unknown_word(given: &str, words: impl Iterator<Item = &'static str>) -> UnknownWord {
    UnknownWord { given: given.chars().take(80).collect(), expected: words.collect::<Vec<_>>().join(", ") }
}

impl FromStr for RunState {
    type Err = UnknownWord;

    /// Either case: `RUNNING` or `running`.
    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::EVERY
            .into_iter()
            .find(|state| state.as_str() == text || state.status() == text)
            .ok_or_else(|| unknown_word(text, Self::EVERY.into_iter().map(Self::as_str)))
    }
}

impl FromStr for RunType {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Self::EVERY
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| unknown_word(text, Self::EVERY.into_iter().map(Self::as_str)))
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for RunType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `POST /v1/run`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"target": "agent_default", "type": "agent", "input": {"goal": "What is 17 * 23, and what time is it in Tokyo?"}, "async": true}))]
pub struct StartRun {
    /// An agent's or a workflow's id, or a tool's name.
    pub target: String,
    #[serde(rename = "type")]
    pub run_type: RunType,
    /// Of an agent run `{"goal": "…"}` or `{"messages": […]}`; of a tool run
    /// its arguments; of a workflow run what its `input_schema` says.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub input: Value,
    /// Answer 202 once the run is durably stored instead of waiting for it.
    #[serde(default, rename = "async", skip_serializing_if = "std::ops::Not::not")]
    pub is_async: bool,
    /// How long a run that is not `async` is waited for: 1 to 300, default 300.
    /// Signed, so that -1 is out of range and not of a wrong type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 300)]
    pub wait_seconds: Option<i64>,
    /// The run ends as FAILED, code `timeout`, after so long: 1 to 604800. Time
    /// in the queue counts, a delay does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 604_800)]
    pub timeout_seconds: Option<i64>,
    /// The caller's own; at most 16 KiB as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// The conversation that an agent's run continues, by the client's own
    /// name for it: 1 to 128 characters, made on first use. The run is shown
    /// what succeeded in it before, and begins when the run before it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 128)]
    pub thread_id: Option<String>,
    /// Of the workspace's runs in the queue, those with a greater one are taken
    /// up first: -100 to 100, default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -100, maximum = 100)]
    pub priority: Option<i64>,
    /// The run begins after so long at the earliest: 0 to 2592000 (30 days).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0, maximum = 2_592_000)]
    pub delay_seconds: Option<i64>,
    /// What it may take at most, the runs within it included; then it ends as
    /// FAILED, code `budget_exceeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Told of the run's end by a signed POST: an http or https URL of at most
    /// 2048 characters, without a user name or a password. See
    /// `docs/webhooks.md`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 2048)]
    pub webhook_url: Option<String>,
}

impl StartRun {
    /// With nothing but what is needed.
    pub fn of(run_type: RunType, target: String, input: Value) -> Self {
        Self {
            target,
            run_type,
            input,
            is_async: false,
            wait_seconds: None,
            timeout_seconds: None,
            metadata: None,
            thread_id: None,
            priority: None,
            delay_seconds: None,
            budget: None,
            webhook_url: None,
        }
    }
}

/// `POST /v1/run/{runId}/retry`. What is left out is as it was.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryRun {
    /// As of `POST /v1/run`.
    #[serde(rename = "async")]
    pub is_async: bool,
    #[schema(minimum = 1, maximum = 300)]
    pub wait_seconds: Option<i64>,
    #[schema(minimum = 1, maximum = 604_800)]
    pub timeout_seconds: Option<i64>,
    /// Null: nobody is told of the new run's end.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 2048)]
    pub webhook_url: Option<Option<String>>,
}

/// `POST /v1/run/{runId}/fork`. What is left out is as it was.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"at_step": "model:2", "model_id": "google/gemini-2.5-flash-lite", "async": true}))]
pub struct ForkRun {
    /// The step, as the journal names it, from which on the new run goes its
    /// own way: it takes over what came of the steps before. The first, if it
    /// is left out.
    pub at_step: Option<String>,
    #[schema(value_type = Option<Object>)]
    pub input: Option<Value>,
    /// Of an agent run, as are the four fields that follow. Each needs the scope
    /// `agents:write` too.
    pub model_id: Option<String>,
    pub system_prompt: Option<String>,
    pub tools: Option<Vec<String>>,
    #[schema(minimum = 0.0, maximum = 2.0)]
    pub temperature: Option<f64>,
    #[schema(minimum = 1, maximum = 200)]
    pub max_steps: Option<i64>,
    /// As of `POST /v1/run`.
    #[serde(rename = "async")]
    pub is_async: bool,
    #[schema(minimum = 1, maximum = 300)]
    pub wait_seconds: Option<i64>,
    #[schema(minimum = 1, maximum = 604_800)]
    pub timeout_seconds: Option<i64>,
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// Null: nobody is told of the new run's end.
    #[serde(deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, max_length = 2048)]
    pub webhook_url: Option<Option<String>>,
}

/// What a 202 says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcceptedRun {
    pub run_id: RunId,
    pub status: String,
    pub state: RunState,
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RunError {
    /// A word for programs, such as `timeout` or `max_steps_exceeded`.
    pub code: String,
    pub message: String,
}

impl RunError {
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// A run as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunView {
    pub run_id: RunId,
    pub target: String,
    #[serde(rename = "type")]
    pub run_type: RunType,
    pub state: RunState,
    /// The lower-case word of `state`.
    pub status: String,
    #[schema(value_type = Object)]
    pub input: Value,
    /// Text, or an object under an output schema; null until SUCCESS.
    #[schema(value_type = Option<Object>)]
    pub result: Option<Value>,
    pub error: Option<RunError>,
    /// The tool calls, in order.
    pub events: Vec<ToolCallView>,
    /// Of a fork, what it used itself.
    pub usage: RunUsageView,
    /// What it may take at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Of a run that FAILED or was CANCELLED, what there was until then: an
    /// agent's last words, the outputs of a workflow's steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub partial_result: Option<Value>,
    /// The conversation that it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// The run whose beginning this one shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forked_from: Option<RunId>,
    /// The run that began this one and waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_run_id: Option<RunId>,
    /// Who is told of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<String>,
    /// What it waits for now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting_for: Vec<WaitView>,
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// Some of this is large: writing it as text takes a while.
    #[serde(skip)]
    pub is_large: bool,
}

/// One tool call of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ToolCallView {
    pub tool: String,
    /// The string itself where the tool's only required property is a string,
    /// else the whole object of arguments.
    #[schema(value_type = Object)]
    pub input: Value,
    /// The text that the model saw; null while the call is under way.
    pub output: Option<String>,
    /// The number of the journal event that started the call.
    pub seq: i64,
    #[schema(value_type = Object)]
    pub arguments: Value,
    pub error: Option<RunError>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
}

/// `GET /v1/runs`: runs without their `events`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunList {
    pub runs: Vec<RunSummary>,
    pub next_cursor: Option<String>,
}

/// A run in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    pub run_id: RunId,
    pub target: String,
    #[serde(rename = "type")]
    pub run_type: RunType,
    pub state: RunState,
    pub status: String,
    pub error: Option<RunError>,
    pub usage: RunUsage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_run_id: Option<RunId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// How a journal shows the values in it that are over 256 KiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    /// By what refers to them: the default.
    Refs,
    /// In their places.
    Full,
}

impl FromStr for Values {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        match text {
            "refs" => Ok(Self::Refs),
            "full" => Ok(Self::Full),
            _ => Err(unknown_word(text, ["refs", "full"].into_iter())),
        }
    }
}

/// One row of a run's journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JournalEvent {
    /// Counted per run from 1, without gaps; the id of the SSE frame.
    pub seq: i64,
    /// Such as `run.created`, `step.started`, `step.completed`, `run.succeeded`.
    #[serde(rename = "type")]
    pub kind: String,
    pub at: Timestamp,
    /// What the kind says: see `docs/runs.md`. A value in it that is over 256 KiB
    /// is left out, and `large` says how many bytes it has and where it is.
    #[schema(value_type = Object)]
    pub data: JsonText,
}

/// `GET /v1/run/{runId}/events`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct JournalPage {
    pub events: Vec<JournalEvent>,
    pub next_cursor: Option<String>,
}
