//! The checks behind `POST /v1/run`: from a body to a run that the engine can
//! store.

use std::ops::RangeInclusive;

use nh_engine::NewRun;
use nh_store::Store;
use nh_store::runs::Group;
use nh_types::budget::RunLimits;
use nh_types::run::{RunType, StartRun};
use nh_types::{ApiError, ErrorCode, Scope};
use serde_json::{Map, Value};

use crate::definition::{Definition, PinnedTool, PinnedWorkflow};
use crate::hub::{HubError, RunCaller};
use crate::limits::check_budget;
use crate::pin::{self, Pinning};
use crate::spending::Spending;
use crate::tools::Tools;
use nh_schema::{self as schema, Fault};

const MAX_METADATA_BYTES: usize = 16 * 1024;
pub(crate) const MAX_TIMEOUT_SECONDS: i64 = 7 * 24 * 3600;
const MAX_DELAY_SECONDS: i64 = 30 * 24 * 3600;
const MAX_PRIORITY: i64 = 100;
const MAX_MESSAGES: usize = 1000;
const MAX_THREAD_CHARS: usize = 128;
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
    let pinning = Pinning { store, tools, default_model, caller };
    let (definition, input) = match start.run_type {
        RunType::Agent => {
            check_agent_input(&start.input)?;
            (Definition::Agent(pinning.agent(&start.target).await?), start.input)
        }
        RunType::Tool => {
            let input = or_nothing(start.input);
            (Definition::Tool(pin_tool(tools, caller, &start.target, &input)?), input)
        }
        RunType::Workflow => {
            let input = or_nothing(start.input);
            let pinned = pinning.workflow(&start.target).await?;
            check_workflow_input(&pinned, &input)?;
            (Definition::Workflow(pinned), input)
        }
    };
    let thread_id = thread_of(start.run_type, start.thread_id, &input)?;
    let own = agents_limits(&definition);
    let budget = start.budget.unwrap_or_default().with(own.budget());
    let timeouts = [start.timeout_seconds, own.timeout_seconds, caller.limits.runs.timeout_seconds];
    let mut pinned = definition.to_value();
    Spending::new(budget, caller).put_into(&mut pinned);
    Ok(NewRun {
        workspace_id: caller.workspace_id.clone(),
        groups: groups(&definition, caller),
        thread_id,
        target: start.target,
        run_type: start.run_type,
        input,
        definition: pinned,
        scopes: caller.scopes.clone(),
        created_by: caller.created_by.clone(),
        metadata: start.metadata.unwrap_or_default(),
        timeout_ms: timeouts.into_iter().flatten().min().map(|seconds| seconds * 1000),
        priority: start.priority.unwrap_or(0),
        delay_ms: start.delay_seconds.unwrap_or(0) * 1000,
        webhook_url: start.webhook_url,
        fork: None,
    })
}

/// The conversation that a run continues: it may stand beside the input or in
/// it.
fn thread_of(run_type: RunType, beside: Option<String>, input: &Value) -> Result<Option<String>, ApiError> {
    let within = if run_type == RunType::Agent { input["thread_id"].as_str() } else { None };
    let (field, thread_id) = match (beside, within) {
        (None, None) => return Ok(None),
        (Some(beside), Some(within)) if beside != within => {
            let message = "`thread_id` and `input.thread_id` differ; give one of them".to_owned();
            return Err(invalid("thread_id", message));
        }
        (Some(beside), _) => ("thread_id", beside),
        (None, Some(within)) => ("input.thread_id", within.to_owned()),
    };
    if run_type != RunType::Agent {
        let message =
            format!("only an agent's run continues a thread, and this is a {run_type}'s; leave it out");
        return Err(invalid(field, message));
    }
    let chars = thread_id.chars().count();
    if !(1..=MAX_THREAD_CHARS).contains(&chars) || thread_id.contains('\0') {
        let message =
            format!("`{field}` has {chars} characters; it must have 1 to {MAX_THREAD_CHARS}, and no NUL");
        return Err(invalid(field, message));
    }
    Ok(Some(thread_id))
}

/// What a run counts against while it is under way.
pub(crate) fn groups(definition: &Definition, caller: &RunCaller) -> Vec<Group> {
    let bound = |most: i64| u32::try_from(most).unwrap_or(u32::MAX);
    let key = caller.key_id().zip(caller.limits.runs.max_running);
    let key = key.map(|(id, most)| Group { name: format!("key:{id}"), most: bound(most) });
    agents_group(definition).into_iter().chain(key).collect()
}

/// The runs of one agent.
pub(crate) fn agents_group(definition: &Definition) -> Option<Group> {
    let Definition::Agent(pinned) = definition else { return None };
    let most = u32::try_from(pinned.agent.limits.max_running?).ok()?;
    Some(Group { name: format!("agent:{}", pinned.id), most })
}

/// What each run of the agent is held to, if it is one.
pub(crate) fn agents_limits(definition: &Definition) -> RunLimits {
    match definition {
        Definition::Agent(pinned) => pinned.agent.limits,
        Definition::Tool(_) | Definition::Workflow(_) => RunLimits::default(),
    }
}

/// Arguments left out are none: `{}`.
fn or_nothing(input: Value) -> Value {
    if input.is_null() { Value::Object(Map::new()) } else { input }
}

fn check_options(start: &StartRun) -> Result<(), ApiError> {
    check_range("wait_seconds", start.wait_seconds, 1..=MAX_WAIT_SECONDS)?;
    check_range("timeout_seconds", start.timeout_seconds, 1..=MAX_TIMEOUT_SECONDS)?;
    check_range("delay_seconds", start.delay_seconds, 0..=MAX_DELAY_SECONDS)?;
    if let Some(budget) = &start.budget {
        check_budget("budget", budget)?;
    }
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
    if let Some(thread) = fields.get("thread_id").filter(|thread| !thread.is_string() && !thread.is_null()) {
        let message = format!("`input.thread_id` is {}; it must be text", kind_of(thread));
        return Err(wrong("input.thread_id", message));
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

/// A tool that is to be run by itself, with arguments that fit.
pub(crate) fn pin_tool(
    tools: &Tools,
    caller: &RunCaller,
    target: &str,
    arguments: &Value,
) -> Result<PinnedTool, ApiError> {
    require(caller, Scope::ToolsCall, "run a tool")?;
    let pinned = pin::tool(tools, caller, target)?;
    match tools.validate(target, arguments) {
        Ok(()) => Ok(pinned),
        Err(faults) => Err(unfit_input(target, &faults)),
    }
}

/// That the input is one that the workflow takes.
pub(crate) fn check_workflow_input(workflow: &PinnedWorkflow, input: &Value) -> Result<(), ApiError> {
    let Some(schema) = &workflow.workflow.input_schema else { return Ok(()) };
    let unusable =
        |error| invalid("target", format!("the workflow's `input_schema` cannot be used: {error}"));
    let validator = schema::compile(schema).map_err(unusable)?;
    let faults = schema::faults(&validator, input);
    if faults.is_empty() { Ok(()) } else { Err(unfit_input(workflow.id.as_str(), &faults)) }
}

fn unfit_input(target: &str, faults: &[Fault]) -> ApiError {
    let message = format!("`input` does not fit the schema of `{target}`: {}", schema::told("input", faults));
    let at = faults.first().map_or_else(|| "input".to_owned(), |fault| schema::place("input", &fault.path));
    bad_input(&at, message)
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

pub(crate) fn unknown_target(message: String) -> ApiError {
    ApiError::new(ErrorCode::UnknownTarget, message).param("target")
}

/// Missing, or of a wrong type.
fn wrong(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message).param(param)
}

pub(crate) fn bad_input(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidInput, message).param(param)
}

pub(crate) fn invalid(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidValue, message).param(param)
}
