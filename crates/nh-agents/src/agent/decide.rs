//! What an agent does next: a pure function of its definition and its journal.
//!
//! A turn is one model call and the tool calls that it asked for. The calls of
//! a turn run side by side; when all of them have an outcome, the next turn
//! begins. A call of a tool that wants approval waits for a person first, and
//! one of an agent or a workflow is a run of its own. An answer without tool
//! calls ends the run, if it fits the agent's output schema; else the model is
//! told why not, and answers again.

use nh_engine::{Decision, Ending, History, Outcome, Step, StepRecord, Wait};
use nh_types::run::RunError;
use serde_json::Value;

use super::{MODEL_STEP, TOOL_STEP, output, repeats};
use crate::approval::{self, Verdict};
use crate::definition::PinnedAgent;

/// The code of a run whose agent made all the model calls that it may.
pub const MAX_STEPS_EXCEEDED: &str = "max_steps_exceeded";

/// What a model's message asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedCall {
    /// The provider's id of the call, sent back with its output.
    pub call_id: String,
    pub tool: String,
    /// The parsed arguments; the raw text when it is not JSON.
    pub arguments: Value,
}

/// How a tool is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Calling {
    /// A call in flight at a crash may be made again.
    pub repeatable: bool,
    /// A person is asked first.
    pub asks: bool,
    /// It is made, and not only told that it is not.
    pub is_made: bool,
}

impl Calling {
    const TOLD: Self = Self { repeatable: true, asks: false, is_made: false };
}

/// `calling` says how each call is made.
pub fn decide(
    agent: &PinnedAgent,
    calling: impl Fn(&RequestedCall) -> Calling,
    history: &History,
) -> Decision {
    let Some(last) = last_model_step(history) else { return Decision::Perform(vec![model_step(agent, 1)]) };
    let message = match last.outcome() {
        None => return Decision::Perform(vec![last.step.clone()]),
        Some(Outcome::Failed(error)) => return Decision::Finish(Ending::Failure(error.clone())),
        Some(Outcome::Completed(output)) => &output["message"],
    };
    let calls = requested_calls(message);
    let turn = turns(history);
    if calls.is_empty() {
        let ending = match &agent.agent.output_schema {
            None => answer(message),
            Some(schema) => match output::read(schema, message) {
                Ok(value) => Ending::Success(value),
                Err(_) if message["refusal"].is_null() && may_repair(agent, history) => {
                    return Decision::Perform(vec![model_step(agent, turn + 1)]);
                }
                Err(faults) => output::failure(message, &faults),
            },
        };
        return Decision::Finish(ending);
    }
    if let Some(error) = repeats::circles(history, turn, &calls) {
        return Decision::Finish(Ending::Failure(error));
    }
    let mut open = false;
    let mut steps = Vec::new();
    for (index, call) in calls.into_iter().enumerate() {
        let is_refused = repeats::refused(history, turn, index).is_some();
        let how = if is_refused { Calling::TOLD } else { calling(&call) };
        let Some(step) = next_of_call(agent, turn, index, call, how, history) else { continue };
        open |= history.step(&step.id).is_none_or(|record| record.finished.is_none());
        steps.push(step);
    }
    if open {
        return Decision::Perform(steps);
    }
    if turn >= agent.agent.max_steps as usize {
        return Decision::Finish(Ending::Failure(RunError::new(
            MAX_STEPS_EXCEEDED,
            format!("The agent made {turn} model calls, its `max_steps`, without coming to an answer."),
        )));
    }
    Decision::Perform(vec![model_step(agent, turn + 1)])
}

/// The question to a person, or the call itself; None of a call that was
/// denied.
fn next_of_call(
    agent: &PinnedAgent,
    turn: usize,
    index: usize,
    call: RequestedCall,
    how: Calling,
    history: &History,
) -> Option<Step> {
    let mut arguments = call.arguments;
    if how.asks {
        let id = approval_step_id(turn, index);
        match verdict(history, turn, index) {
            None => return Some(approval::step(&id, &call.tool, arguments, None)),
            Some(Verdict::Denied(_)) => return None,
            Some(Verdict::Approved { arguments: edited }) => arguments = edited.unwrap_or(arguments),
        }
    }
    Some(Step {
        id: tool_step_id(turn, index),
        kind: TOOL_STEP.to_owned(),
        repeatable: how.repeatable,
        wait: agent.run_called(&call.tool).filter(|_| how.is_made).map(|_| Wait::Run { run_id: None }),
        name: call.tool,
        arguments,
    })
}

/// What a person said to call `index` (from 0) of turn `turn` (from 1).
pub fn verdict(history: &History, turn: usize, index: usize) -> Option<Verdict> {
    history.step(&approval_step_id(turn, index))?.outcome().map(Verdict::read)
}

fn approval_step_id(turn: usize, index: usize) -> String {
    format!("approval:{turn}.{}", index + 1)
}

/// The id of the step that makes call `index` (from 0) of turn `turn` (from 1).
pub fn tool_step_id(turn: usize, index: usize) -> String {
    format!("tool:{turn}.{}", index + 1)
}

/// The turn (from 1) and the place in it (from 0) of the call that a step makes.
pub fn place_of_call(step_id: &str) -> Option<(usize, usize)> {
    let (turn, number) = step_id.strip_prefix("tool:")?.split_once('.')?;
    Some((turn.parse().ok()?, number.parse::<usize>().ok()?.checked_sub(1)?))
}

fn model_step(agent: &PinnedAgent, turn: usize) -> Step {
    Step {
        id: format!("model:{turn}"),
        kind: MODEL_STEP.to_owned(),
        name: agent.model_id.clone(),
        arguments: Value::Null,
        repeatable: true,
        wait: None,
    }
}

fn last_model_step(history: &History) -> Option<&StepRecord> {
    history.steps().iter().rev().find(|record| record.step.kind == MODEL_STEP)
}

fn turns(history: &History) -> usize {
    history.steps().iter().filter(|record| record.step.kind == MODEL_STEP).count()
}

/// Whether the model may answer once more: each answer so far did not fit.
fn may_repair(agent: &PinnedAgent, history: &History) -> bool {
    let answers = history.steps().iter().filter(|record| match record.outcome() {
        Some(Outcome::Completed(output)) if record.step.kind == MODEL_STEP => {
            requested_calls(&output["message"]).is_empty()
        }
        _ => false,
    });
    answers.count() <= output::MAX_REPAIRS && turns(history) < agent.agent.max_steps as usize
}

fn answer(message: &Value) -> Ending {
    match message["content"].as_str().or_else(|| message["refusal"].as_str()) {
        Some(text) => Ending::Success(Value::String(text.to_owned())),
        None => Ending::Failure(RunError::new(
            "empty_answer",
            "The model answered with neither text nor a tool call.",
        )),
    }
}

pub fn requested_calls(message: &Value) -> Vec<RequestedCall> {
    let calls = message["tool_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
    calls
        .iter()
        .map(|call| {
            let text = call["function"]["arguments"].as_str().unwrap_or_default();
            // Some models send nothing for a tool without arguments.
            let text = if text.trim().is_empty() { "{}" } else { text };
            RequestedCall {
                call_id: call["id"].as_str().unwrap_or_default().to_owned(),
                tool: call["function"]["name"].as_str().unwrap_or_default().to_owned(),
                arguments: serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
            }
        })
        .collect()
}
