//! The checks behind `POST /v1/run`: from a body to a run that the engine can
//! store.

use std::ops::RangeInclusive;

use nh_engine::NewRun;
use nh_store::{Store, agents};
use nh_types::agent::AgentDefinition;
use nh_types::run::{RunType, StartRun};
use nh_types::{AgentId, ApiError, ErrorCode, Scope, ScopeSet};
use serde_json::{Map, Value};

use crate::definition::{Definition, PinnedAgent, PinnedTool};
use crate::hub::{HubError, RunCaller};
use crate::tools::Tools;

const MAX_METADATA_BYTES: usize = 16 * 1024;
pub(crate) const MAX_TIMEOUT_SECONDS: i64 = 7 * 24 * 3600;
const MAX_DELAY_SECONDS: i64 = 30 * 24 * 3600;
const MAX_PRIORITY: i64 = 100;
const MAX_MESSAGES: usize = 1000;
pub const MAX_WAIT_SECONDS: i64 = 300;

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
            let message = "`type` is `workflow`; this version runs `agent` and `tool`";
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
        timeout_ms: start.timeout_seconds.map(|seconds| seconds * 1000),
        priority: start.priority.unwrap_or(0),
        delay_ms: start.delay_seconds.unwrap_or(0) * 1000,
        fork: None,
    })
}

fn check_options(start: &StartRun) -> Result<(), ApiError> {
    let later = [
        ("thread_id", start.thread_id.is_some()),
        ("budget", start.budget.is_some()),
        ("webhook_url", start.webhook_url.is_some()),
    ];
    if let Some((field, _)) = later.into_iter().find(|(_, given)| *given) {
        let message = format!("`{field}` is not available in this version; leave it out");
        return Err(ApiError::new(ErrorCode::NotAvailable, message).param(field));
    }
    check_range("wait_seconds", start.wait_seconds, 1..=MAX_WAIT_SECONDS)?;
    check_range("timeout_seconds", start.timeout_seconds, 1..=MAX_TIMEOUT_SECONDS)?;
    check_range("delay_seconds", start.delay_seconds, 0..=MAX_DELAY_SECONDS)?;
    check_range("priority", start.priority, -MAX_PRIORITY..=MAX_PRIORITY)?;
    check_metadata(start.metadata.as_ref())
}

pub(crate) fn check_metadata(metadata: Option<&Map<String, Value>>) -> Result<(), ApiError> {
    let bytes = metadata.and_then(|metadata| serde_json::to_vec(metadata).ok()).map_or(0, |json| json.len());
    if bytes > MAX_METADATA_BYTES {
        let message = format!("`metadata` has {bytes} bytes as JSON; at most {MAX_METADATA_BYTES} fit");
        return Err(invalid("metadata", message));
    }
    Ok(())
}

pub(crate) fn check_range(
    field: &str,
    given: Option<i64>,
    range: RangeInclusive<i64>,
) -> Result<(), ApiError> {
    match given {
        Some(value) if !range.contains(&value) => {
            let (least, most) = range.into_inner();
            Err(invalid(field, format!("`{field}` is {value}; it must be from {least} to {most}")))
        }
        _ => Ok(()),
    }
}

const AGENT_INPUT: &str = "an agent's `input` is `{\"goal\": \"…\"}` or `{\"messages\": […]}`";

/// Unlike a tool's arguments this shape is the API's own, so what is missing or
/// of a wrong type in it is what it is elsewhere in a body: a 400.
pub(crate) fn check_agent_input(input: &Value) -> Result<(), ApiError> {
    let Some(fields) = input.as_object() else {
        return Err(wrong("input", format!("`input` is {}; {AGENT_INPUT}", kind_of(input))));
    };
    if fields.get("thread_id").is_some_and(|thread| !thread.is_null()) {
        let message = "`input.thread_id` is not available in this version; leave it out";
        return Err(ApiError::new(ErrorCode::NotAvailable, message).param("input.thread_id"));
    }
    let known = ["goal", "messages", "thread_id"];
    if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        let unknown = shortened(unknown);
        let message = format!("`input` has a field `{unknown}`; {AGENT_INPUT}");
        return Err(ApiError::new(ErrorCode::UnknownField, message).param(format!("input.{unknown}")));
    }
    match (fields.get("goal"), fields.get("messages")) {
        (Some(Value::String(text)), None) if text.trim().is_empty() => {
            Err(bad_input("input.goal", "`input.goal` is empty; say what the agent should do".to_owned()))
        }
        (Some(Value::String(_)), None) => Ok(()),
        (Some(goal), None) => {
            Err(wrong("input.goal", format!("`input.goal` is {}; it must be text", kind_of(goal))))
        }
        (None, Some(messages)) => check_messages(messages),
        (Some(_), Some(_)) => Err(bad_input("input", format!("`input` has both; {AGENT_INPUT}"))),
        (None, None) => {
            Err(wrong("input.goal", format!("`input` has no `goal` and no `messages`; {AGENT_INPUT}")))
        }
    }
}

fn check_messages(messages: &Value) -> Result<(), ApiError> {
    let Some(list) = messages.as_array() else {
        let given = kind_of(messages);
        return Err(wrong("input.messages", format!("`input.messages` is {given}; it must be a list")));
    };
    if !(1..=MAX_MESSAGES).contains(&list.len()) {
        let message = format!("`input.messages` has {} messages; 1 to {MAX_MESSAGES} fit", list.len());
        return Err(bad_input("input.messages", message));
    }
    list.iter().enumerate().try_for_each(|(index, message)| check_message(index, message))
}

fn check_message(index: usize, message: &Value) -> Result<(), ApiError> {
    let at = format!("input.messages[{index}]");
    if !message.is_object() {
        let shape = "`{\"role\": \"user\", \"content\": \"…\"}`";
        return Err(wrong(&at, format!("`{at}` is {}; a message is {shape}", kind_of(message))));
    }
    let (role_at, roles) = (format!("{at}.role"), ROLES.join(", "));
    match &message["role"] {
        Value::String(role) if ROLES.contains(&role.as_str()) => {}
        Value::String(role) => {
            let message = format!("`{role_at}` is `{}`; it must be one of {roles}", shortened(role));
            return Err(bad_input(&role_at, message));
        }
        other => {
            let message = format!("`{role_at}` is {}; it must be one of {roles}", kind_of(other));
            return Err(wrong(&role_at, message));
        }
    }
    let content = &message["content"];
    if content.is_string() || content.is_array() || message["tool_calls"].is_array() {
        return Ok(());
    }
    let at = format!("{at}.content");
    Err(wrong(&at, format!("`{at}` is {}; it must be text or a list of parts", kind_of(content))))
}

async fn pin_agent(
    store: &Store,
    tools: &Tools,
    default_model: String,
    caller: &RunCaller,
    target: &str,
) -> Result<PinnedAgent, HubError> {
    let found = match target.parse::<AgentId>() {
        Ok(id) => agents::current(store, &caller.workspace_id, &id).await?,
        Err(_) => None,
    };
    let Some(record) = found else {
        return Err(unknown_target(format!(
            "there is no agent `{}` in this workspace; GET /v1/agents lists them",
            shortened(target)
        ))
        .into());
    };
    Ok(PinnedAgent {
        tools: offered(tools, &record.definition.tools, &caller.scopes),
        model_id: record.definition.model_id.clone().unwrap_or(default_model),
        id: record.id.clone(),
        version: record.version,
        agent: record.definition.clone(),
    })
}

/// The tools that work, that the agent may use and that the scopes allow.
pub(crate) fn offered(tools: &Tools, wanted: &[String], scopes: &ScopeSet) -> Vec<String> {
    let every = wanted.iter().any(|name| name == AgentDefinition::EVERY_TOOL);
    let offered = tools.offered_to(scopes).map(|spec| spec.name.clone());
    offered.filter(|name| every || wanted.contains(name)).collect()
}

pub(crate) fn pin_tool(
    tools: &Tools,
    caller: &RunCaller,
    target: &str,
    arguments: &Value,
) -> Result<PinnedTool, ApiError> {
    require(caller, Scope::ToolsCall, "run a tool")?;
    let Some(tool) = tools.get(target) else {
        return Err(unknown_target(format!(
            "there is no tool `{}`; the tools are {}",
            shortened(target),
            tools.names()
        )));
    };
    let spec = tool.spec();
    for scope in &spec.scopes {
        require(caller, *scope, &format!("use the tool `{target}`"))?;
    }
    if let Some(reason) = &spec.unavailable {
        let message = format!("the tool `{target}` is not available: {reason}");
        return Err(ApiError::new(ErrorCode::ComponentUnavailable, message).param("target").retry_after(60));
    }
    if let Err(faults) = tools.validate(target, arguments) {
        let told: Vec<_> =
            faults.iter().map(|fault| format!("`{}`: {}", field(&fault.path), fault.message)).collect();
        let message = format!("`input` does not fit the schema of `{target}`: {}", told.join("; "));
        let at = faults.first().map_or_else(|| "input".to_owned(), |fault| field(&fault.path));
        return Err(bad_input(&at, message));
    }
    Ok(PinnedTool {
        name: spec.name.clone(),
        repeatable: spec.repeatable,
        structured: spec.output_schema.is_some(),
    })
}

pub(crate) fn require(caller: &RunCaller, scope: Scope, purpose: &str) -> Result<(), ApiError> {
    if caller.scopes.allows(scope) {
        return Ok(());
    }
    let message = format!("the credential lacks the scope `{scope}`, which it needs to {purpose}");
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

pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

fn unknown_target(message: String) -> ApiError {
    ApiError::new(ErrorCode::UnknownTarget, message).param("target")
}

/// A place in a tool's arguments, written as fields are elsewhere.
fn field(pointer: &str) -> String {
    pointer.split('/').skip(1).fold("input".to_owned(), |path, step| match step.parse::<usize>() {
        Ok(index) => format!("{path}[{index}]"),
        Err(_) => format!("{path}.{}", step.replace("~1", "/").replace("~0", "~")),
    })
}

/// Missing, or of a wrong type.
fn wrong(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message).param(param)
}

pub(crate) fn bad_input(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidInput, message).param(param)
}

fn invalid(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidValue, message).param(param)
}
