//! What may stand in an agent: the checks behind `POST` and
//! `PATCH /v1/agents`.

use nh_store::agents::AgentRecord;
use nh_types::agent::{AgentDefinition, AgentMemory, AgentView, ChangeAgent, CreateAgent, MemoryMode};
use nh_types::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::limits::check_limits;
use crate::target::Target;
use crate::tools::{Tools, are_named};
use nh_schema as schema;

const MAX_NAME_CHARS: usize = 128;
const MAX_DESCRIPTION_CHARS: usize = 4096;
const MAX_PROMPT_BYTES: usize = 256 * 1024;
const MAX_TOOLS: usize = 128;
const RECALL_TOKENS: std::ops::RangeInclusive<u32> = 50..=20_000;
const MAX_SCHEMA_BYTES: usize = 64 * 1024;

pub fn create(new: CreateAgent, tools: &Tools) -> Result<AgentDefinition, ApiError> {
    let definition = AgentDefinition {
        name: new.name,
        description: new.description.unwrap_or_default(),
        model_id: new.model_id,
        system_prompt: new.system_prompt.unwrap_or_default(),
        tools: new.tools.unwrap_or_else(every_tool),
        requires_approval: new.requires_approval.unwrap_or_default(),
        temperature: new.temperature,
        max_steps: max_steps(new.max_steps)?,
        limits: new.limits.unwrap_or_default(),
        output_schema: new.output_schema,
        memory: memory(new.memory)?,
    };
    check(definition, tools)
}

/// `now` with the change made to it.
pub fn change(
    now: &AgentDefinition,
    change: ChangeAgent,
    tools: &Tools,
) -> Result<AgentDefinition, ApiError> {
    let text = |change: Option<Option<String>>, now: &String| {
        change.map_or_else(|| now.clone(), Option::unwrap_or_default)
    };
    let definition = AgentDefinition {
        name: change.name.unwrap_or_else(|| now.name.clone()),
        description: text(change.description, &now.description),
        model_id: change.model_id.unwrap_or_else(|| now.model_id.clone()),
        system_prompt: text(change.system_prompt, &now.system_prompt),
        tools: change.tools.map_or_else(|| now.tools.clone(), |tools| tools.unwrap_or_else(every_tool)),
        requires_approval: change
            .requires_approval
            .map_or_else(|| now.requires_approval.clone(), Option::unwrap_or_default),
        temperature: change.temperature.unwrap_or(now.temperature),
        max_steps: change.max_steps.map_or(Ok(now.max_steps), max_steps)?,
        limits: change.limits.map_or(now.limits, Option::unwrap_or_default),
        output_schema: change.output_schema.unwrap_or_else(|| now.output_schema.clone()),
        memory: change.memory.map_or_else(|| Ok(now.memory.clone()), memory)?,
    };
    check(definition, tools)
}

fn every_tool() -> Vec<String> {
    vec![AgentDefinition::EVERY_TOOL.to_owned()]
}

fn max_steps(given: Option<i64>) -> Result<u32, ApiError> {
    let Some(given) = given else { return Ok(AgentDefinition::DEFAULT_MAX_STEPS) };
    let most = AgentDefinition::MAX_MAX_STEPS;
    u32::try_from(given)
        .ok()
        .filter(|steps| (1..=most).contains(steps))
        .ok_or_else(|| invalid("max_steps", format!("`max_steps` is {given}; it must be from 1 to {most}")))
}

pub fn view(record: AgentRecord, default_model: &str) -> AgentView {
    let AgentDefinition {
        name,
        description,
        model_id,
        system_prompt,
        tools,
        requires_approval,
        temperature,
        max_steps,
        limits,
        output_schema,
        memory,
    } = record.definition;
    AgentView {
        id: record.id,
        name,
        description,
        model_id: model_id.unwrap_or_else(|| default_model.to_owned()),
        system_prompt,
        tools,
        requires_approval,
        temperature,
        max_steps,
        limits,
        memory: memory.view(),
        output_schema,
        created_at: record.created_at,
        updated_at: record.updated_at,
        version: record.version,
    }
}

/// A word, or an object that says more.
fn memory(given: Option<Value>) -> Result<AgentMemory, ApiError> {
    let given = match given {
        None | Some(Value::Null) => return Ok(AgentMemory::default()),
        Some(word @ Value::String(_)) => json!({"mode": word}),
        Some(object) => object,
    };
    let memory = AgentMemory::deserialize(&given).map_err(|error| {
        let message = format!(
            "`memory` must be \"off\", \"on_demand\" or \"auto\", or an object with `mode`, `namespace`, \
             `max_tokens` and `extract`: {error}"
        );
        invalid("memory", message)
    })?;
    if !RECALL_TOKENS.contains(&memory.max_tokens) {
        let (least, most) = RECALL_TOKENS.into_inner();
        let message = format!("`memory.max_tokens` is {}; it must be {least} to {most}", memory.max_tokens);
        return Err(invalid("memory.max_tokens", message));
    }
    if let Some(name) = &memory.namespace {
        let checked = nh_memory::namespaces(Some(name.clone()))?;
        if checked.is_none() {
            let message = "`memory.namespace` is `*`; name one, which the agent also writes to".to_owned();
            return Err(invalid("memory.namespace", message));
        }
    }
    if memory.mode == MemoryMode::Off && memory.extract {
        let message = "`memory.extract` remembers, and `memory.mode` is `off`; choose `on_demand` or `auto`";
        return Err(invalid("memory.extract", message.to_owned()));
    }
    Ok(memory)
}

fn check(agent: AgentDefinition, tools: &Tools) -> Result<AgentDefinition, ApiError> {
    check_chars("name", &agent.name, 1, MAX_NAME_CHARS)?;
    check_chars("description", &agent.description, 0, MAX_DESCRIPTION_CHARS)?;
    if let Some(model_id) = &agent.model_id {
        check_chars("model_id", model_id, 1, 256)?;
    }
    if agent.system_prompt.len() > MAX_PROMPT_BYTES {
        return Err(invalid(
            "system_prompt",
            format!(
                "`system_prompt` has {} bytes; at most {MAX_PROMPT_BYTES} fit",
                agent.system_prompt.len()
            ),
        ));
    }
    if agent.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        let given = agent.temperature.unwrap_or_default();
        return Err(invalid("temperature", format!("`temperature` is {given}; it must be from 0 to 2")));
    }
    check_limits("limits", &agent.limits)?;
    check_tools("tools", &agent.tools, tools)?;
    check_tools("requires_approval", &agent.requires_approval, tools)?;
    check_output_schema(agent.output_schema.as_ref())?;
    Ok(agent)
}

fn check_output_schema(schema: Option<&Value>) -> Result<(), ApiError> {
    let Some(schema) = schema else { return Ok(()) };
    let refused = |told: String| Err(invalid("output_schema", format!("`output_schema` {told}")));
    let bytes = schema.to_string().len();
    if bytes > MAX_SCHEMA_BYTES {
        return refused(format!("has {bytes} bytes as JSON; at most {MAX_SCHEMA_BYTES} fit"));
    }
    if schema["type"] != "object" {
        return refused("must be a JSON Schema whose `type` is `object`: a result is one".to_owned());
    }
    match schema::compile(schema) {
        Ok(_) => Ok(()),
        Err(told) => refused(format!("is no JSON Schema: {told}")),
    }
}

/// That a run tool's target is there is checked where the store is at hand.
fn check_tools(field: &str, names: &[String], tools: &Tools) -> Result<(), ApiError> {
    if names.len() > MAX_TOOLS {
        let message = format!("`{field}` names {} tools; at most {MAX_TOOLS} fit", names.len());
        return Err(invalid(field, message));
    }
    for (index, name) in names.iter().enumerate() {
        let is_known = name == AgentDefinition::EVERY_TOOL
            || tools.list().any(|tool| are_named(std::slice::from_ref(name), &tool.spec().name))
            || Target::of_run(name).is_some();
        if !is_known {
            return Err(invalid(
                &format!("{field}[{index}]"),
                format!(
                    "there is no tool `{}`; the tools are {}; `*` stands for all that a run's scopes allow, \
                     `SERVER.*` for all of an MCP server, and `agent:ID` or `workflow:ID` for a run of its own",
                    name.chars().take(80).collect::<String>(),
                    tools.names(),
                ),
            ));
        }
    }
    Ok(())
}

fn check_chars(field: &str, text: &str, least: usize, most: usize) -> Result<(), ApiError> {
    let chars = text.chars().count();
    if (least..=most).contains(&chars) && !text.contains('\0') {
        return Ok(());
    }
    Err(invalid(
        field,
        format!("`{field}` has {chars} characters; it must have {least} to {most}, and no NUL"),
    ))
}

fn invalid(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidValue, message).param(param)
}
