//! What a run keeps of its target, pinned when it is submitted: a later change
//! of an agent or a workflow does not reach it, nor what it begins.

use std::collections::BTreeMap;

use nh_types::agent::AgentDefinition;
use nh_types::run::RunType;
use nh_types::tool::OwnTool;
use nh_types::workflow::WorkflowDefinition;
use nh_types::{AgentId, WorkflowId};

use crate::tools::are_named;
use serde::{Deserialize, Serialize};
use serde_json::Value;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Definition {
    Agent(PinnedAgent),
    Tool(PinnedTool),
    Workflow(PinnedWorkflow),
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
    /// What those of them do that the workspace registered.
    #[serde(default, rename = "code_tools", skip_serializing_if = "<[OwnTool]>::is_empty")]
    pub own_tools: Box<[OwnTool]>,
    /// The agents and workflows offered as tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<PinnedRun>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedTool {
    pub name: String,
    pub repeatable: bool,
    /// Whether the run's result is the tool's structured value (it has an
    /// output schema) or its text.
    pub structured: bool,
    /// What it does, where the workspace registered it.
    #[serde(default, rename = "code", skip_serializing_if = "Option::is_none")]
    pub own: Option<Box<OwnTool>>,
}

/// A run that another may begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedRun {
    /// What a model calls it.
    pub tool: String,
    pub run_type: RunType,
    /// The agent's or the workflow's id.
    pub target: String,
    pub description: String,
    pub input_schema: Value,
    pub definition: Box<Definition>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PinnedWorkflow {
    pub id: WorkflowId,
    pub version: u32,
    pub workflow: WorkflowDefinition,
    /// What its steps use, by their ids; those that wait use nothing.
    pub uses: BTreeMap<String, PinnedUse>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PinnedUse {
    Tool(PinnedTool),
    Run(PinnedRun),
}

impl PinnedAgent {
    /// The agent or workflow that the model calls by this name.
    pub fn run_called(&self, tool: &str) -> Option<&PinnedRun> {
        self.runs.iter().find(|run| run.tool == tool)
    }

    /// Whether a person is asked before this tool is called.
    pub fn asks_before(&self, tool: &str) -> bool {
        let run = self.run_called(tool).map(|run| format!("{}:{}", run.run_type, run.target));
        let asked = &self.agent.requires_approval;
        are_named(asked, tool) || run.is_some_and(|run| asked.contains(&run))
    }
}

impl PinnedTool {
    /// What is left of a tool's output as a result.
    pub fn result<'v>(&self, output: &'v Value) -> &'v Value {
        &output[if self.structured { "value" } else { "text" }]
    }
}

impl Definition {
    /// The tools of the workspace that the run may call, as they were when it was submitted.
    pub(crate) fn own_tools(&self) -> Vec<&OwnTool> {
        match self {
            Definition::Agent(pinned) => pinned.own_tools.iter().collect(),
            Definition::Tool(pinned) => pinned.own.as_deref().into_iter().collect(),
            Definition::Workflow(pinned) => {
                let tools = pinned.uses.values().filter_map(|used| match used {
                    PinnedUse::Tool(tool) => tool.own.as_deref(),
                    PinnedUse::Run(_) => None,
                });
                tools.collect()
            }
        }
    }

    /// As the store keeps it.
    pub fn to_value(&self) -> Value {
        // Serialising cannot fail: every map key is text.
        serde_json::to_value(self).unwrap_or_default()
    }

    pub fn read(value: &Value) -> Result<Self, serde_json::Error> {
        Definition::deserialize(value)
    }
}
