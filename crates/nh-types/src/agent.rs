//! Agents: what goes in and out, and what a run keeps of one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::budget::RunLimits;
use crate::clock::Timestamp;
use crate::id::AgentId;
use crate::patch::{not_null, present};

/// How an agent works. Each change makes a new version of it; a run keeps the
/// version that it started with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentDefinition {
    /// 1 to 128 characters.
    pub name: String,
    pub description: String,
    /// Absent: the hub's default model.
    pub model_id: Option<String>,
    pub system_prompt: String,
    /// Names of tools. `["*"]` is every built-in tool that the run's scopes
    /// allow; `agent:ID` or `workflow:ID` is a run of its own.
    pub tools: Vec<String>,
    /// The tools of which a person approves each call. `["*"]` is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires_approval: Vec<String>,
    /// 0 to 2; absent: the model's own default.
    pub temperature: Option<f64>,
    /// At most this many model calls in a run.
    pub max_steps: u32,
    /// What each of its runs is held to.
    #[serde(default, skip_serializing_if = "RunLimits::is_empty")]
    pub limits: RunLimits,
    /// A JSON Schema of an object, which its answer is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Value>,
    /// How it uses what the workspace remembers.
    #[serde(default, skip_serializing_if = "AgentMemory::is_default")]
    pub memory: AgentMemory,
}

/// How an agent uses what the workspace remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AgentMemory {
    pub mode: MemoryMode,
    /// What is recalled from and extracted to, and the one that the memory tools
    /// reach; absent: `default`, and the tools reach the one that the model names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// About how long what `auto` recalls may be, 50 to 20,000.
    pub max_tokens: u32,
    /// Whether facts are extracted from each run that succeeds, by one more call
    /// of the agent's model, and remembered.
    pub extract: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MemoryMode {
    /// The memory tools are not offered.
    Off,
    /// The memory tools are offered where the agent's tools and the run's scopes
    /// have them.
    #[default]
    OnDemand,
    /// Besides, what fits the goal is put before it.
    Auto,
}

impl Default for AgentMemory {
    fn default() -> Self {
        Self { mode: MemoryMode::default(), namespace: None, max_tokens: 1000, extract: false }
    }
}

impl AgentMemory {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The word alone where it says all.
    pub fn view(&self) -> Value {
        let word = serde_json::to_value(self.mode).unwrap_or_default();
        if *self == (Self { mode: self.mode, ..Self::default() }) {
            return word;
        }
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl AgentDefinition {
    pub const DEFAULT_MAX_STEPS: u32 = 20;
    pub const MAX_MAX_STEPS: u32 = 200;
    pub const EVERY_TOOL: &'static str = "*";

    /// `agent_default` of a new workspace.
    pub fn default_agent() -> Self {
        Self {
            name: "Default agent".to_owned(),
            description: "Answers a goal with every built-in tool that the run's scopes allow.".to_owned(),
            model_id: None,
            system_prompt: "You are a careful assistant. Use the tools where they help, \
                            check what they return, and answer the goal in plain words."
                .to_owned(),
            tools: vec![Self::EVERY_TOOL.to_owned()],
            requires_approval: Vec::new(),
            temperature: None,
            max_steps: Self::DEFAULT_MAX_STEPS,
            limits: RunLimits::default(),
            output_schema: None,
            memory: AgentMemory::default(),
        }
    }
}

/// An agent as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    pub id: AgentId,
    pub name: String,
    pub description: String,
    pub model_id: String,
    pub system_prompt: String,
    pub tools: Vec<String>,
    pub requires_approval: Vec<String>,
    pub temperature: Option<f64>,
    pub max_steps: u32,
    pub limits: RunLimits,
    /// `off`, `on_demand` or `auto`, or an object that says more.
    #[schema(value_type = AgentMemory)]
    pub memory: Value,
    /// Null: it answers with text.
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Value>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub version: u32,
}

/// `POST /v1/agents`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Research Assistant", "system_prompt": "You are a helpful researcher.", "tools": ["web_search", "http_fetch"]}))]
pub struct CreateAgent {
    /// Absent: the hub makes one, `agent_…`.
    #[serde(default)]
    pub id: Option<String>,
    /// 1 to 128 characters.
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    /// Absent: the hub's default model.
    #[serde(default)]
    pub model_id: Option<String>,
    #[serde(default)]
    pub system_prompt: Option<String>,
    /// Absent: every built-in tool that a run's scopes allow (`["*"]`).
    /// `agent:ID` or `workflow:ID` makes a tool of another agent or a workflow:
    /// a call of it is a run of its own.
    #[serde(default)]
    pub tools: Option<Vec<String>>,
    /// The tools of which a person approves, denies or edits each call before
    /// it is made; `["*"]` is all. Absent: none.
    #[serde(default)]
    pub requires_approval: Option<Vec<String>>,
    /// 0 to 2.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// 1 to 200, default 20. Signed, so that -1 is out of range and not of a
    /// wrong type.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 200)]
    pub max_steps: Option<i64>,
    /// What each of its runs is held to, beside its own bounds. Absent: nothing.
    #[serde(default)]
    pub limits: Option<RunLimits>,
    /// `off`, `on_demand` (absent means this) or `auto`; or an object with `mode`,
    /// `namespace`, `max_tokens` and `extract`.
    #[serde(default)]
    #[schema(value_type = Option<AgentMemory>)]
    pub memory: Option<Value>,
    /// A JSON Schema (2020-12) whose `type` is `object`, at most 64 KiB: a run's
    /// result is then an object that fits it. Absent: text.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Value>,
}

/// `PATCH /v1/agents/{id}`: what is absent stays as it is, null puts back what
/// a new agent has. A name cannot be null: nothing stands in for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"system_prompt": "You are a terse researcher."}))]
pub struct ChangeAgent {
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub name: Option<String>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub description: Option<Option<String>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub model_id: Option<Option<String>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub system_prompt: Option<Option<String>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub tools: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    pub requires_approval: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    pub temperature: Option<Option<f64>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 200)]
    pub max_steps: Option<Option<i64>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RunLimits>)]
    pub limits: Option<Option<RunLimits>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<AgentMemory>)]
    pub memory: Option<Option<Value>>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Option<Value>>,
}
