//! What the model is shown: the system prompt, the goal or the messages given,
//! and for each turn so far the model's own message, unchanged, followed by
//! the outputs of its tool calls. All of it follows from the run and its
//! journal, so the journal does not repeat it.

use nh_engine::{History, Outcome};
use serde_json::{Map, Value, json};

use super::MODEL_STEP;
use super::cut::cut;
use super::decide::{requested_calls, tool_step_id, verdict};
use crate::approval::Verdict;
use crate::definition::{PinnedAgent, PinnedRun};
use crate::tools::Tools;

/// The body of the next model call.
pub fn request(agent: &PinnedAgent, tools: &Tools, input: &Value, history: &History) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("model".to_owned(), json!(agent.model_id));
    body.insert("messages".to_owned(), Value::Array(messages(agent, input, history)));
    let offered = agent.tools.iter().filter_map(|name| tools.function(name)).cloned();
    let offered: Vec<Value> = offered.chain(agent.runs.iter().map(run_function)).collect();
    if !offered.is_empty() {
        body.insert("tools".to_owned(), Value::Array(offered));
    }
    if let Some(temperature) = agent.agent.temperature {
        body.insert("temperature".to_owned(), json!(temperature));
    }
    body
}

/// Puts the conversation so far behind the system prompt.
pub fn put_before(body: &mut Map<String, Value>, conversation: Vec<Value>) {
    let Some(messages) = body.get_mut("messages").and_then(Value::as_array_mut) else { return };
    let place = messages.iter().position(|message| message["role"] != "system").unwrap_or(messages.len());
    messages.splice(place..place, conversation);
}

fn run_function(run: &PinnedRun) -> Value {
    json!({"type": "function", "function": {
        "name": run.tool, "description": run.description, "parameters": run.input_schema,
    }})
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
            messages.push(json!({
                "role": "tool",
                "tool_call_id": call.call_id,
                "content": came_of(history, turn + 1, index),
            }));
        }
    }
    messages
}

/// What the model sees of a call: its outcome, and what a person made of it.
fn came_of(history: &History, turn: usize, index: usize) -> String {
    let verdict = verdict(history, turn, index);
    if let Some(Verdict::Denied(error)) = verdict {
        return shown(&Outcome::Failed(error));
    }
    let outcome = history.step(&tool_step_id(turn, index)).and_then(|record| record.outcome());
    let shown = outcome.map(shown).unwrap_or_default();
    match verdict {
        Some(Verdict::Approved { arguments: Some(arguments) }) => {
            let arguments = cut(&arguments.to_string());
            format!("(A person had it called with {arguments} instead.)\n{shown}")
        }
        _ => shown,
    }
}

/// What the model sees of the outcome of a tool, or of a run that is one.
pub fn shown(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Completed(Value::String(text)) => cut(text),
        Outcome::Completed(output) => match output["text"].as_str() {
            Some(text) => cut(text),
            None => cut(&output.to_string()),
        },
        Outcome::Failed(error) => format!("Error ({}): {}", error.code, error.message),
    }
}
