//! `tools` and `tool_choice`.

use serde_json::{Map, Value, json};

use super::{text, wrong};
use crate::ModelError;

/// Without tools a provider may refuse what is said of them.
pub(super) fn put(chat: &mut Map<String, Value>, body: &Map<String, Value>) -> Result<(), ModelError> {
    let mut tools = match body.get("tools") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(tools)) => {
            let made = tools.iter().enumerate().map(|(place, tool)| function(tool, place));
            made.collect::<Result<Vec<_>, _>>()?
        }
        given => return Err(wrong("tools", given, "it must be a list of tools")),
    };
    let choice = choice(body.get("tool_choice").unwrap_or(&Value::Null), &mut tools)?;
    if tools.is_empty() {
        return Ok(());
    }
    chat.insert("tools".to_owned(), Value::Array(tools));
    let several = body.get("parallel_tool_calls").cloned().unwrap_or_default();
    for (field, value) in [("tool_choice", choice), ("parallel_tool_calls", several)] {
        if !value.is_null() {
            chat.insert(field.to_owned(), value);
        }
    }
    Ok(())
}

fn function(tool: &Value, place: usize) -> Result<Value, ModelError> {
    let at = format!("tools[{place}]");
    let remedy = match tool["type"].as_str().unwrap_or_default() {
        "function" => {
            let mut function = Map::from_iter([("name".to_owned(), Value::from(text(tool, "name", &at)?))]);
            for field in ["description", "parameters", "strict"] {
                if let Some(value) = tool.get(field).filter(|value| !value.is_null()) {
                    function.insert(field.to_owned(), value.clone());
                }
            }
            return Ok(json!({"type": "function", "function": function}));
        }
        "custom" => "give a function with one property, a text, instead",
        _ => {
            "tools of the type `function` are all that a response can have here: give a function that you \
             run yourself, or let an agent with tools do the work, at POST /v1/run"
        }
    };
    Err(wrong(&format!("{at}.type"), tool.get("type"), remedy))
}

/// The chat's `tool_choice`. Where some tools are allowed, the others are not shown to the model:
/// few providers know more than one name.
fn choice(choice: &Value, tools: &mut Vec<Value>) -> Result<Value, ModelError> {
    match choice["type"].as_str().unwrap_or_default() {
        "function" => {
            let name = text(choice, "name", "tool_choice")?;
            Ok(json!({"type": "function", "function": {"name": name}}))
        }
        "allowed_tools" => {
            let allowed = choice["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
            tools.retain(|tool| allowed.iter().any(|one| one["name"] == tool["function"]["name"]));
            match tools.is_empty() {
                true => {
                    let remedy = "it must name at least one of `tools`";
                    Err(wrong("tool_choice.tools", choice.get("tools"), remedy))
                }
                false => Ok(choice["mode"].clone()),
            }
        }
        _ if choice.is_null() || choice.is_string() => Ok(choice.clone()),
        _ => {
            let remedy =
                "it must be \"auto\", \"none\", \"required\", or of the type function or allowed_tools";
            Err(wrong("tool_choice", Some(choice), remedy))
        }
    }
}
