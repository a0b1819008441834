//! From a target's name to all that a run of it needs, read once when the run
//! is submitted: the agents and workflows that it may begin, and theirs.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use nh_store::{Store, agents, workflows};
use nh_types::agent::{AgentDefinition, MemoryMode};
use nh_types::tool::OwnTool;
use nh_types::{AgentId, ApiError, ErrorCode, Scope, ScopeSet, WorkflowId};
use serde_json::{Value, json};

use crate::definition::{Definition, PinnedAgent, PinnedRun, PinnedTool, PinnedUse, PinnedWorkflow};
use crate::hub::{HubError, RunCaller};
use crate::start::{require, shortened, unknown_target};
use crate::target::Target;
use crate::tools::{MEMORY_TOOLS, Tools, are_named};

/// Runs within runs.
const MAX_DEPTH: usize = 5;
/// What models may call: providers refuse longer names.
const MAX_FUNCTION_NAME: usize = 64;

pub(crate) struct Pinning<'a> {
    pub(crate) store: &'a Store,
    pub(crate) tools: &'a Tools,
    pub(crate) default_model: String,
    pub(crate) caller: &'a RunCaller,
}

type Pinned<'p, T> = Pin<Box<dyn Future<Output = Result<T, HubError>> + Send + 'p>>;

impl Pinning<'_> {
    pub(crate) async fn agent(&self, target: &str) -> Result<PinnedAgent, HubError> {
        match target.parse() {
            Ok(id) => self.agent_within(id, Vec::new()).await,
            Err(_) => Err(no_agent(target).into()),
        }
    }

    pub(crate) async fn workflow(&self, target: &str) -> Result<PinnedWorkflow, HubError> {
        match target.parse() {
            Ok(id) => self.workflow_within(id, Vec::new()).await,
            Err(_) => Err(no_workflow(target).into()),
        }
    }

    /// `around` are the targets that led here.
    fn agent_within(&self, id: AgentId, around: Vec<String>) -> Pinned<'_, PinnedAgent> {
        Box::pin(async move {
            let found = agents::current(self.store, &self.caller.workspace_id, &id).await?;
            let record = found.ok_or_else(|| no_agent(id.as_str()))?;
            let around = deeper(around, &Target::Agent(id))?;
            let mut runs: Vec<PinnedRun> = Vec::new();
            for target in record.definition.tools.iter().filter_map(|name| Target::of_run(name)) {
                let mut run = self.run(&target, around.clone()).await?;
                run.tool = function_name(&target, &runs);
                runs.push(run);
            }
            let tools = agents_tools(self.tools, &record.definition, &self.caller.scopes);
            Ok(PinnedAgent {
                own_tools: own_of(self.tools, &tools),
                tools,
                runs,
                model_id: record.definition.model_id.clone().unwrap_or_else(|| self.default_model.clone()),
                id: record.id.clone(),
                version: record.version,
                agent: record.definition.clone(),
            })
        })
    }

    fn workflow_within(&self, id: WorkflowId, around: Vec<String>) -> Pinned<'_, PinnedWorkflow> {
        Box::pin(async move {
            let found = workflows::current(self.store, &self.caller.workspace_id, &id).await?;
            let record = found.ok_or_else(|| no_workflow(id.as_str()))?;
            let around = deeper(around, &Target::Workflow(id))?;
            let mut uses = BTreeMap::new();
            for step in &record.definition.steps {
                let Some(target) = Target::parse(&step.uses) else { continue };
                let used = match &target {
                    // Its arguments are whatever the workflow's maker wrote, as
                    // those of a tool run are its caller's.
                    Target::Tool(name) => {
                        require(self.caller, Scope::ToolsCall, "run a workflow with tool steps")?;
                        PinnedUse::Tool(tool(self.tools, self.caller, name)?)
                    }
                    _ => PinnedUse::Run(self.run(&target, around.clone()).await?),
                };
                uses.insert(step.id.clone(), used);
            }
            Ok(PinnedWorkflow {
                id: record.id.clone(),
                version: record.version,
                workflow: record.definition.clone(),
                uses,
            })
        })
    }

    /// A run that one of a target's steps may begin.
    async fn run(&self, target: &Target, around: Vec<String>) -> Result<PinnedRun, HubError> {
        let (description, input_schema, definition) = match target {
            Target::Agent(id) => {
                let pinned = self.agent_within(id.clone(), around).await?;
                let (name, about) = (&pinned.agent.name, &pinned.agent.description);
                (described(name, about), agent_schema(), Definition::Agent(pinned))
            }
            Target::Workflow(id) => {
                let pinned = self.workflow_within(id.clone(), around).await?;
                let schema =
                    pinned.workflow.input_schema.clone().unwrap_or_else(|| json!({"type": "object"}));
                let (name, about) = (&pinned.workflow.name, &pinned.workflow.description);
                (described(name, about), schema, Definition::Workflow(pinned))
            }
            Target::Tool(name) => return Err(unknown_target(format!("`tool:{name}` is no run")).into()),
        };
        Ok(PinnedRun {
            tool: function_name(target, &[]),
            run_type: target.run_type(),
            target: target.name().to_owned(),
            description,
            input_schema,
            definition: Box::new(definition),
        })
    }
}

/// A tool that a run may call: it works, and the scopes allow it.
pub(crate) fn tool(tools: &Tools, caller: &RunCaller, name: &str) -> Result<PinnedTool, ApiError> {
    let Some(tool) = tools.get(name) else {
        return Err(unknown_target(format!(
            "there is no tool `{}`; the tools are {}",
            shortened(name),
            tools.names()
        )));
    };
    let spec = tool.spec();
    for scope in &spec.scopes {
        require(caller, *scope, &format!("use the tool `{name}`"))?;
    }
    if let Some(reason) = tool.unavailable() {
        let message = format!("the tool `{name}` is not available: {reason}");
        return Err(ApiError::new(ErrorCode::ComponentUnavailable, message).param("target").retry_after(60));
    }
    Ok(PinnedTool {
        name: spec.name.clone(),
        repeatable: spec.repeatable,
        structured: spec.output_schema.is_some(),
        own: tool.own().cloned().map(Box::new),
    })
}

/// The tools that work, that the agent may use and that the scopes allow.
pub(crate) fn offered(tools: &Tools, wanted: &[String], scopes: &ScopeSet) -> Vec<String> {
    let offered = tools.offered_to(scopes).map(|spec| spec.name.clone());
    offered.filter(|name| are_named(wanted, name)).collect()
}

/// The same, without the memory tools where the agent's memory is off.
pub(crate) fn agents_tools(tools: &Tools, agent: &AgentDefinition, scopes: &ScopeSet) -> Vec<String> {
    let mut offered = offered(tools, &agent.tools, scopes);
    if agent.memory.mode == MemoryMode::Off {
        offered.retain(|name| !MEMORY_TOOLS.contains(&name.as_str()));
    }
    offered
}

/// What those do that the workspace registered.
pub(crate) fn own_of(tools: &Tools, names: &[String]) -> Box<[OwnTool]> {
    names.iter().filter_map(|name| tools.get(name)?.own().cloned()).collect()
}

/// What an agent that is a tool, or a step, is given.
pub(crate) fn agent_schema() -> Value {
    json!({
        "type": "object",
        "properties": {"goal": {"type": "string", "minLength": 1,
            "description": "What it should do, with all that it needs to know for that"}},
        "required": ["goal"],
        "additionalProperties": false,
    })
}

fn deeper(mut around: Vec<String>, target: &Target) -> Result<Vec<String>, ApiError> {
    around.push(target.to_string());
    if around.len() > MAX_DEPTH {
        let message =
            format!("runs begin runs more than {MAX_DEPTH} deep: {}; cut the chain", around.join(" → "));
        return Err(ApiError::new(ErrorCode::InvalidValue, message).param("target"));
    }
    Ok(around)
}

fn described(name: &str, description: &str) -> String {
    if description.is_empty() { name.to_owned() } else { format!("{name}: {description}") }
}

/// Such as `run_agent_researcher`; with a number behind it where another has
/// that name.
fn function_name(target: &Target, others: &[PinnedRun]) -> String {
    let kind = target.run_type();
    let prefix = format!("{kind}_");
    let id = target.name().strip_prefix(&prefix).unwrap_or(target.name()).replace('.', "_");
    let name: String = format!("run_{kind}_{id}").chars().take(MAX_FUNCTION_NAME - 4).collect();
    let is_taken = |name: &str| others.iter().any(|other| other.tool == name);
    if !is_taken(&name) {
        return name;
    }
    let numbered = (2..).map(|number| format!("{name}_{number}"));
    numbered.take(1000).find(|name| !is_taken(name)).unwrap_or(name)
}

fn no_agent(target: &str) -> ApiError {
    unknown_target(format!(
        "there is no agent `{}` in this workspace; GET /v1/agents lists them",
        shortened(target)
    ))
}

fn no_workflow(target: &str) -> ApiError {
    unknown_target(format!(
        "there is no workflow `{}` in this workspace; GET /v1/workflows lists them",
        shortened(target)
    ))
}
