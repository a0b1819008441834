//! The checks behind `POST /v1/run`: from a body to a run that the engine can
//! store.

use nh_engine::NewRun;
use nh_store::{Store, agents};
use nh_types::agent::AgentDefinition;
use nh_types::run::{RunType, StartRun};
use nh_types::{AgentId, ApiError, ErrorCode, Scope};
use serde_json::Value;

use crate::definition::{Definition, PinnedAgent, PinnedTool};
use crate::hub::{HubError, RunCaller};
use crate::tools::Tools;

const MAX_METADATA_BYTES: usize = 16 * 1024;
const MAX_TIMEOUT_SECONDS: u32 = 7 * 24 * 3600;
const MAX_MESSAGES: usize = 1000;
pub const MAX_WAIT_SECONDS: u32 = 300;

const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

pub(crate) async fn new_run(
    store: &Store,
    tools: &Tools,
    default_model: String,
    caller: &RunCaller,
    start: StartRun,
) -> Result<NewRun, HubError> {
    check_options(&start)?;
    let (definition, input) = match start.run_type {
        RunType::Agent => {
            check_agent_input(&start.input)?;
            let pinned = pin_agent(store, tools, default_model, caller, &start.target).await?;
            (Definition::Agent(pinned), start.input)
        }
        RunType::Tool => {
            // Arguments left out are none: `{}`.
            let input = if start.input.is_null() { Value::Object(Default::default()) } else { start.input };
            (Definition::Tool(pin_tool(tools, caller, &start.target, &input)?), input)
        }
        RunType::Workflow => {
            let message = "`type` is `workflow`; this version runs `agent` and `tool`.";
            return Err(ApiError::new(ErrorCode::NotAvailable, message).param("type").into());
        }
    };
    Ok(NewRun {
        workspace_id: caller.workspace_id.clone(),
        target: start.target,
        run_type: start.run_type,
        input,
        definition: definition.to_value(),
        scopes: caller.scopes.clone(),
        created_by: caller.created_by.clone(),
        metadata: start.metadata.unwrap_or_default(),
        timeout_ms: start.timeout_seconds.map(|seconds| i64::from(seconds) * 1000),
    })
}

fn check_options(start: &StartRun) -> Result<(), ApiError> {
    let later = [
        ("thread_id", start.thread_id.is_some()),
        ("priority", start.priority.is_some()),
        ("delay_seconds", start.delay_seconds.is_some()),
        ("budget", start.budget.is_some()),
        ("webhook_url", start.webhook_url.is_some()),
    ];
    if let Some((field, _)) = later.into_iter().find(|(_, given)| *given) {
        let message = format!("`{field}` is not available in this version; leave it out.");
        return Err(ApiError::new(ErrorCode::NotAvailable, message).param(field));
    }
    check_range("wait_seconds", start.wait_seconds, MAX_WAIT_SECONDS)?;
    check_range("timeout_seconds", start.timeout_seconds, MAX_TIMEOUT_SECONDS)?;
    let metadata_bytes = start
        .metadata
        .as_ref()
        .and_then(|metadata| serde_json::to_vec(metadata).ok())
        .map_or(0, |json| json.len());
    if metadata_bytes > MAX_METADATA_BYTES {
        return Err(invalid(
            "metadata",
            format!("`metadata` has {metadata_bytes} bytes as JSON; at most {MAX_METADATA_BYTES} fit."),
        ));
    }
    Ok(())
}

fn check_range(field: &str, given: Option<u32>, most: u32) -> Result<(), ApiError> {
    match given {
        Some(value) if !(1..=most).contains(&value) => {
            Err(invalid(field, format!("`{field}` is {value}; it must be from 1 to {most}.")))
        }
        _ => Ok(()),
    }
}

fn check_agent_input(input: &Value) -> Result<(), ApiError> {
    let shape = "an agent's `input` is `{\"goal\": \"…\"}` or `{\"messages\": […]}`";
    let Some(fields) = input.as_object() else {
        return Err(bad_input("input", format!("`input` is {}; {shape}.", kind_of(input))));
    };
    if let Some(unknown) = fields.keys().find(|name| *name != "goal" && *name != "messages") {
        let unknown: String = unknown.chars().take(80).collect();
        return Err(bad_input(
            &format!("input.{unknown}"),
            format!("`input` has a field `{unknown}`; {shape}."),
        ));
    }
    match (fields.get("goal"), fields.get("messages")) {
        (Some(goal), None) => match goal.as_str() {
            Some(text) if !text.trim().is_empty() => Ok(()),
            Some(_) => Err(bad_input(
                "input.goal",
                "`input.goal` is empty; say what the agent should do.".to_owned(),
            )),
            None => {
                Err(bad_input("input.goal", format!("`input.goal` is {}; it must be text.", kind_of(goal))))
            }
        },
        (None, Some(messages)) => check_messages(messages),
        (Some(_), Some(_)) => Err(bad_input("input", format!("`input` has both; {shape}."))),
        (None, None) => Err(bad_input("input", format!("`input` has neither; {shape}."))),
    }
}

fn check_messages(messages: &Value) -> Result<(), ApiError> {
    let list = messages.as_array().filter(|list| (1..=MAX_MESSAGES).contains(&list.len()));
    let Some(list) = list else {
        let message = format!("`input.messages` must be a list of 1 to {MAX_MESSAGES} chat messages.");
        return Err(bad_input("input.messages", message));
    };
    for (index, message) in list.iter().enumerate() {
        if !message["role"].as_str().is_some_and(|role| ROLES.contains(&role)) {
            return Err(bad_input(
                &format!("input.messages[{index}].role"),
                format!("`input.messages[{index}].role` must be one of {}.", ROLES.join(", ")),
            ));
        }
        let content = &message["content"];
        if !(content.is_string() || content.is_array() || message["tool_calls"].is_array()) {
            return Err(bad_input(
                &format!("input.messages[{index}].content"),
                format!("`input.messages[{index}].content` must be text or a list of parts."),
            ));
        }
    }
    Ok(())
}

async fn pin_agent(
    store: &Store,
    tools: &Tools,
    default_model: String,
    caller: &RunCaller,
    target: &str,
) -> Result<PinnedAgent, HubError> {
    let found = match target.parse::<AgentId>() {
        Ok(id) => agents::find(store, &caller.workspace_id, &id).await?,
        Err(_) => None,
    };
    let Some(record) = found else {
        return Err(unknown_target(format!(
            "There is no agent `{}` in this workspace; GET /v1/agents lists them.",
            shortened(target)
        ))
        .into());
    };
    let wanted = &record.definition.tools;
    let every = wanted.iter().any(|name| name == AgentDefinition::EVERY_TOOL);
    let offered = tools.offered_to(&caller.scopes).map(|spec| spec.name.clone());
    Ok(PinnedAgent {
        tools: offered.filter(|name| every || wanted.contains(name)).collect(),
        model_id: record.definition.model_id.clone().unwrap_or(default_model),
        id: record.id,
        version: record.version,
        agent: record.definition,
    })
}

fn pin_tool(
    tools: &Tools,
    caller: &RunCaller,
    target: &str,
    arguments: &Value,
) -> Result<PinnedTool, ApiError> {
    require(caller, Scope::ToolsCall, "run a tool")?;
    let Some(tool) = tools.get(target) else {
        return Err(unknown_target(format!(
            "There is no tool `{}`. The tools are {}.",
            shortened(target),
            tools.names()
        )));
    };
    let spec = tool.spec();
    for scope in &spec.scopes {
        require(caller, *scope, &format!("use the tool `{target}`"))?;
    }
    if let Some(reason) = &spec.unavailable {
        let message = format!("The tool `{target}` is not available: {reason}");
        return Err(ApiError::new(ErrorCode::ComponentUnavailable, message).param("target").retry_after(60));
    }
    if let Err(faults) = tools.validate(target, arguments) {
        let fault = faults.first();
        let path = fault.map(|fault| fault.path.as_str()).unwrap_or_default();
        let message = faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("; ");
        return Err(ApiError::new(
            ErrorCode::InvalidInput,
            format!("`input` does not fit the schema of `{target}`: {message}."),
        )
        .param(format!("input{path}")));
    }
    Ok(PinnedTool {
        name: spec.name.clone(),
        repeatable: spec.repeatable,
        structured: spec.output_schema.is_some(),
    })
}

fn require(caller: &RunCaller, scope: Scope, purpose: &str) -> Result<(), ApiError> {
    if caller.scopes.allows(scope) {
        return Ok(());
    }
    let message = format!("The credential lacks the scope `{scope}`, which it needs to {purpose}.");
    Err(ApiError::new(ErrorCode::MissingScope, message).param(scope.as_str()))
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "missing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

fn unknown_target(message: String) -> ApiError {
    ApiError::new(ErrorCode::UnknownTarget, message).param("target")
}

fn bad_input(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidInput, message).param(param)
}

fn invalid(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidValue, message).param(param)
}
