//! What the model is shown: the system prompt, the conversation before, the
//! goal or the messages given, and for each turn so far the model's own
//! message, unchanged, followed by the outputs of its tool calls. All of it
//! follows from the run and its journal, so the journal does not repeat it.

use nh_engine::{History, Outcome};
use serde_json::{Map, Value, json};

use super::cut::cut;
use super::decide::{requested_calls, tool_step_id, verdict};
use super::{MODEL_STEP, output, recall};
use crate::approval::Verdict;
use crate::definition::{PinnedAgent, PinnedRun};
use crate::tools::{Tools, function_name};

/// The parts of the next model call.
#[derive(Clone, Debug)]
pub struct Prompt {
    pub system: String,
    /// What was said in the thread before.
    pub conversation: Vec<Value>,
    /// What is remembered that fits the goal.
    pub recalled: Option<Value>,
    /// The goal, or the messages given.
    pub given: Vec<Value>,
    /// The messages of each turn so far.
    pub turns: Vec<Vec<Value>>,
    /// The request without its messages.
    pub rest: Map<String, Value>,
}

impl Prompt {
    pub fn new(agent: &PinnedAgent, tools: &Tools, input: &Value, history: &History) -> Self {
        let mut rest = Map::new();
        rest.insert("model".to_owned(), json!(agent.model_id));
        let offered = agent.tools.iter().filter_map(|name| tools.function(name)).cloned();
        let offered: Vec<Value> = offered.chain(agent.runs.iter().map(run_function)).collect();
        let mut system = agent.agent.system_prompt.clone();
        if let Some(schema) = &agent.agent.output_schema {
            add_paragraph(&mut system, &output::instruction(schema));
            if offered.is_empty() {
                rest.insert("response_format".to_owned(), output::response_format(schema));
            }
        }
        if !offered.is_empty() {
            rest.insert("tools".to_owned(), Value::Array(offered));
        }
        if let Some(temperature) = agent.agent.temperature {
            rest.insert("temperature".to_owned(), json!(temperature));
        }
        let given = match input["messages"].as_array() {
            Some(given) => given.clone(),
            None => vec![json!({"role": "user", "content": input["goal"]})],
        };
        let (conversation, recalled) = (Vec::new(), recall::recalled(history));
        Self { system, conversation, recalled, given, turns: turns(agent, history), rest }
    }

    pub fn into_body(self) -> Map<String, Value> {
        let mut messages = Vec::new();
        if !self.system.is_empty() {
            messages.push(json!({"role": "system", "content": self.system}));
        }
        messages.extend(self.conversation);
        messages.extend(self.recalled);
        messages.extend(self.given);
        messages.extend(self.turns.into_iter().flatten());
        let mut body = self.rest;
        body.insert("messages".to_owned(), Value::Array(messages));
        body
    }
}

pub(super) fn add_paragraph(text: &mut String, paragraph: &str) {
    if !text.is_empty() {
        text.push_str("\n\n");
    }
    text.push_str(paragraph);
}

fn run_function(run: &PinnedRun) -> Value {
    json!({"type": "function", "function": {
        "name": run.tool, "description": run.description, "parameters": run.input_schema,
    }})
}

fn turns(agent: &PinnedAgent, history: &History) -> Vec<Vec<Value>> {
    let turns = history.steps().iter().filter(|record| record.step.kind == MODEL_STEP);
    let turns = turns.enumerate().filter_map(|(turn, record)| match record.outcome()? {
        Outcome::Completed(output) => Some(messages_of(agent, history, turn + 1, &output["message"])),
        Outcome::Failed(_) => None,
    });
    turns.collect()
}

fn messages_of(agent: &PinnedAgent, history: &History, turn: usize, message: &Value) -> Vec<Value> {
    let calls = requested_calls(message);
    // Providers refuse a message that says nothing.
    let is_empty = calls.is_empty() && message["content"].as_str().is_none_or(|text| text.trim().is_empty());
    let mut messages = if is_empty { Vec::new() } else { vec![as_the_model_said(message)] };
    if let Some(schema) = agent.agent.output_schema.as_ref().filter(|_| calls.is_empty())
        && let Err(faults) = output::read(schema, message)
    {
        messages.push(json!({"role": "user", "content": output::complaint(&faults)}));
    }
    for (index, call) in calls.into_iter().enumerate() {
        messages.push(json!({
            "role": "tool",
            "tool_call_id": call.call_id,
            "content": came_of(history, turn, index),
        }));
    }
    messages
}

/// The journal has the tools' own names.
fn as_the_model_said(message: &Value) -> Value {
    let mut message = message.clone();
    for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
        if let Some(name) = call["function"]["name"].as_str() {
            call["function"]["name"] = Value::from(function_name(name));
        }
    }
    message
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
