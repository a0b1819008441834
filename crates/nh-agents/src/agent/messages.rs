//! What the model is shown: the system prompt, the goal or the messages given,
//! and for each turn so far the model's own message, unchanged, followed by
//! the outputs of its tool calls. All of it follows from the run and its
//! journal, so the journal does not repeat it.

use nh_engine::{History, Outcome};
use serde_json::{Map, Value, json};

use super::MODEL_STEP;
use super::decide::{requested_calls, tool_step_id};
use crate::definition::PinnedAgent;
use crate::tools::Tools;

/// The body of the next model call.
pub fn request(agent: &PinnedAgent, tools: &Tools, input: &Value, history: &History) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(agent.model_id));
    body.insert("messages".to_owned(), Value::Array(messages(agent, input, history)));
    let offered: Vec<Value> = agent.tools.iter().filter_map(|name| tools.function(name)).cloned().collect();
    if !offered.is_empty() {
        body.insert("tools".to_owned(), Value::Array(offered));
    }
    if let Some(temperature) = agent.agent.temperature {
        body.insert("temperature".to_owned(), json!(temperature));
    }
    body
}

fn messages(agent: &PinnedAgent, input: &Value, history: &History) -> Vec<Value> {
    let mut messages = Vec::new();
    if !agent.agent.system_prompt.is_empty() {
        messages.push(json!({"role": "system", "content": agent.agent.system_prompt}));
    }
    match input["messages"].as_array() {
        Some(given) => messages.extend(given.iter().cloned()),
        None => messages.push(json!({"role": "user", "content": input["goal"]})),
    }
    let turns = history.steps().iter().filter(|record| record.step.kind == MODEL_STEP);
    for (turn, record) in turns.enumerate() {
        let Some(Outcome::Completed(output)) = record.outcome() else { continue };
        messages.push(output["message"].clone());
        for (index, call) in requested_calls(&output["message"]).into_iter().enumerate() {
            let outcome = history.step(&tool_step_id(turn + 1, index)).and_then(|record| record.outcome());
            messages.push(json!({
                "role": "tool",
                "tool_call_id": call.call_id,
                "content": outcome.map(shown).unwrap_or_default(),
            }));
        }
    }
    messages
}

/// What the model sees of a tool call's outcome.
pub fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed(output) => output["text"].as_str().unwrap_or_default().to_owned(),
        Outcome::Failed(error) => format!("Error ({}): {}", error.code, error.message),
    }
}
