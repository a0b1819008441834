//! What a run keeps of its target, pinned when it is submitted: a later change
//! of the agent does not reach it.

use nh_types::AgentId;
use nh_types::agent::AgentDefinition;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Definition {
    Agent(PinnedAgent),
    Tool(PinnedTool),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedAgent {
    pub id: AgentId,
    pub version: u32,
    pub agent: AgentDefinition,
    /// The model in use: the agent's own, or the hub's default at that time.
    pub model_id: String,
    /// The tools offered: the agent's, as far as they were available and the
    /// run's scopes allowed them.
    pub tools: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedTool {
    pub name: String,
    pub repeatable: bool,
    /// Whether the run's result is the tool's structured value (it has an
    /// output schema) or its text.
    pub structured: bool,
}

impl Definition {
    /// As the store keeps it.
    pub fn to_value(&self) -> Value {
        // Serialising cannot fail: every map key is text.
        serde_json::to_value(self).unwrap_or_default()
    }

    pub fn read(value: &Value) -> Result<Self, serde_json::Error> {
        Definition::deserialize(value)
    }
}
