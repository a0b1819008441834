//! What the planner needs to know of a chat request.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::toolbox::{Tool, Toolbox};
use crate::ModelError;

/// More text than this is not read.
const MAX_GOAL_CHARS: usize = 4_000;
const MAX_TOOLS: usize = 256;
/// Of one tool's schema as JSON. Filling it takes the words of the goal for
/// each property, on a thread that others wait for.
const MAX_SCHEMA_BYTES: usize = 32 * 1024;
/// In one tool's schema. References that each name the next one twice double
/// the work at every step.
const MAX_REFERENCES: usize = 24;
const REFERENCES: [&str; 3] = ["\"$ref\":", "\"$dynamicRef\":", "\"$recursiveRef\":"];

/// A call that was made since the last word of the user, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    pub(super) tool: String,
    /// None when the conversation holds no answer to the call.
    pub(super) output: Option<String>,
}

/// A chat request, read.
pub(super) struct Conversation {
    pub(super) goal: String,
    pub(super) tools: Vec<Arc<Tool>>,
    pub(super) done: Vec<Done>,
    /// `parallel_tool_calls` is not false.
    pub(super) may_call_several: bool,
    /// The answer is to be a JSON object with its text in this field.
    pub(super) json_field: Option<String>,
}

impl Conversation {
    pub(super) fn read(body: &Map<String, Value>, toolbox: &Toolbox) -> Result<Self, ModelError> {
        let messages = body.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let asked =
            messages.iter().rposition(|message| message.get("role").is_some_and(|role| role == "user"));
        let goal = asked.map(|at| text_of(&messages[at])).unwrap_or_default();
        let since = asked.map_or(messages, |at| &messages[at + 1..]);
        Ok(Self {
            goal: goal.chars().take(MAX_GOAL_CHARS).collect(),
            tools: tools(body, toolbox)?,
            done: calls(since),
            may_call_several: body.get("parallel_tool_calls") != Some(&Value::Bool(false)),
            json_field: json_field(body)?,
        })
    }
}

/// The tools that may be called: `tool_choice` can forbid all or name one.
fn tools(body: &Map<String, Value>, toolbox: &Toolbox) -> Result<Vec<Arc<Tool>>, ModelError> {
    let offered = body.get("tools").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut tools = Vec::new();
    for (index, offer) in offered.iter().enumerate() {
        tools.extend(read(index, offer, toolbox)?);
    }
    match body.get("tool_choice") {
        Some(Value::String(word)) if word == "none" => Ok(Vec::new()),
        Some(Value::Object(choice)) => {
            let Some(name) = choice.get("function").and_then(|function| function.get("name")?.as_str())
            else {
                return Ok(within_bound(tools));
            };
            let mut chosen = within_bound(tools);
            chosen.retain(|tool| tool.name == name);
            if chosen.is_empty() {
                return Err(ModelError::Invalid {
                    message: format!("`tool_choice` names `{name}`, which is not among `tools`"),
                    param: "tool_choice".to_owned(),
                });
            }
            Ok(chosen)
        }
        _ => Ok(within_bound(tools)),
    }
}

fn within_bound(mut tools: Vec<Arc<Tool>>) -> Vec<Arc<Tool>> {
    tools.truncate(MAX_TOOLS);
    tools
}

/// None when the offer is no function.
fn read(index: usize, offer: &Value, toolbox: &Toolbox) -> Result<Option<Arc<Tool>>, ModelError> {
    if let Some(known) = toolbox.find(offer) {
        return Ok(Some(known));
    }
    check_size(index, offer)?;
    let tool = Tool::read(offer).map(Arc::new);
    if let Some(tool) = &tool {
        toolbox.keep(offer, tool);
    }
    Ok(tool)
}

fn json_field(body: &Map<String, Value>) -> Result<Option<String>, ModelError> {
    let Some(format) = body.get("response_format") else { return Ok(None) };
    match format.get("type").and_then(Value::as_str) {
        Some("json_object") => Ok(Some("answer".to_owned())),
        Some("json_schema") => match only_text(&format["json_schema"]["schema"]) {
            Some(field) => Ok(Some(field)),
            None => Err(ModelError::Invalid {
                message: format!(
                    "`{}` answers only in schemas of an object whose one required property is a text; \
                     choose another model, or leave `response_format` out",
                    super::MODEL_ID
                ),
                param: "response_format".to_owned(),
            }),
        },
        _ => Ok(None),
    }
}

/// The one property that an object must have, if it may be any text.
fn only_text(schema: &Value) -> Option<String> {
    let required = schema["required"].as_array()?;
    let [Value::String(field)] = required.as_slice() else { return None };
    let property = schema["properties"][field.as_str()].as_object()?;
    let is_any_text = property.get("type")? == "string"
        && property.keys().all(|key| matches!(key.as_str(), "type" | "description" | "title"));
    is_any_text.then(|| field.clone())
}

/// The calls in their order, each with the first answer to its id after it.
fn calls(messages: &[Value]) -> Vec<Done> {
    fn field<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
        value.get(name).and_then(Value::as_str)
    }
    let mut answers: HashMap<Option<&str>, &Value> = HashMap::new();
    let mut done = Vec::new();
    for message in messages.iter().rev() {
        let made = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        for call in made.iter().rev() {
            let tool = call.get("function").and_then(|function| field(function, "name")).unwrap_or_default();
            let output = answers.get(&field(call, "id")).map(|answer| text_of(answer));
            done.push(Done { tool: tool.to_owned(), output });
        }
        if field(message, "role") == Some("tool") {
            answers.insert(field(message, "tool_call_id"), message);
        }
    }
    done.reverse();
    done
}

fn check_size(index: usize, offer: &Value) -> Result<(), ModelError> {
    let Some(schema) = offer.get("function").and_then(|function| function.get("parameters")) else {
        return Ok(());
    };
    let text = schema.to_string();
    let references: usize = REFERENCES.iter().map(|keyword| text.matches(keyword).count()).sum();
    let fault = match (text.len(), references) {
        (bytes, _) if bytes > MAX_SCHEMA_BYTES => {
            format!("has {bytes} bytes as JSON; `{}` reads at most {MAX_SCHEMA_BYTES}", super::MODEL_ID)
        }
        (_, many) if many > MAX_REFERENCES => {
            format!("holds {many} references; `{}` follows at most {MAX_REFERENCES}", super::MODEL_ID)
        }
        _ => return Ok(()),
    };
    let param = format!("tools[{index}].function.parameters");
    Err(ModelError::Invalid { message: format!("`{param}` {fault}"), param })
}

/// A message's content, a text or a list of parts.
fn text_of(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.as_str().or_else(|| part.get("text")?.as_str()));
            texts.collect::<Vec<_>>().join("\n")
        }
        _ => String::new(),
    }
}
