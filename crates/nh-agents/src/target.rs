use std::fmt;

use nh_types::run::RunType;
use nh_types::{AgentId, WorkflowId};

/// What a step of a workflow, or a tool of an agent, names: `tool:NAME`,
/// `agent:ID` or `workflow:ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Tool(String),
    Agent(AgentId),
    Workflow(WorkflowId),
}

impl Target {
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        match kind {
            "tool" => Some(Self::Tool(name.to_owned())),
            "agent" => name.parse().ok().map(Self::Agent),
            "workflow" => name.parse().ok().map(Self::Workflow),
            _ => None,
        }
    }

    /// What an agent calls as a tool although it is a run of its own.
    pub fn of_run(text: &str) -> Option<Self> {
        Self::parse(text).filter(|target| target.run_type() != RunType::Tool)
    }

    pub fn run_type(&self) -> RunType {
        match self {
            Self::Tool(_) => RunType::Tool,
            Self::Agent(_) => RunType::Agent,
            Self::Workflow(_) => RunType::Workflow,
        }
    }

    /// The name or the id alone.
    pub fn name(&self) -> &str {
        match self {
            Self::Tool(name) => name,
            Self::Agent(id) => id.as_str(),
            Self::Workflow(id) => id.as_str(),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.run_type(), self.name())
    }
}
