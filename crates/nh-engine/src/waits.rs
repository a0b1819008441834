//! What becomes of the steps that wait: pure functions of the journal, the
//! time, and the words that came.

use nh_store::runs::{RunRecord, SignalRow};
use nh_types::model::Usage;
use nh_types::run::{RunError, RunState};
use nh_types::{JsonText, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::history::{History, StepRecord, StepsTaken};
use crate::journal::{Event, Wait, approval_of};

/// What a run that ended tells the one that waits for it.
#[derive(Debug, Serialize, Deserialize)]
struct ChildEnd {
    state: RunState,
    result: Option<Value>,
    error: Option<RunError>,
    usage: Usage,
    #[serde(default)]
    within: Vec<StepsTaken>,
}

/// The name of the signal that a run's end is, and its id: it comes once.
fn end_of(run_id: RunId) -> String {
    format!("run:{run_id}")
}

/// What is said to the run that waits for this one, which has ended.
pub(crate) fn child_ended(run: &RunRecord, history: &History, at: Timestamp) -> SignalRow {
    let end = ChildEnd {
        state: run.state,
        result: run.result.clone(),
        error: run.error.clone(),
        usage: run.usage,
        within: history.steps_taken(),
    };
    let data = serde_json::to_value(&end).unwrap_or_default().into();
    let name = end_of(run.id);
    SignalRow { id: name.clone(), sent_by: name.clone(), name, at, data, large: None }
}

/// What a signal is to a run: the end of the step that waits for it, or a word
/// kept for one that will.
pub(crate) fn received(history: &History, signal: &SignalRow) -> Event {
    let mut waiting = history.waiting();
    let step = waiting.find(|record| wanted(record).is_some_and(|name| name == signal.name));
    match step {
        Some(record) if history.signal(&signal.name).is_none() => outcome(record, &signal.data),
        _ => Event::SignalReceived {
            name: signal.name.clone(),
            data: signal.data.clone(),
            by: signal.sent_by.clone(),
        },
    }
}

/// The next step whose wait is over, as the event that ends it.
pub(crate) fn over(history: &History, now: Timestamp) -> Option<Event> {
    history.waiting().find_map(|record| {
        if let Some(data) = wanted(record).and_then(|name| history.signal(&name)) {
            return Some(outcome(record, data));
        }
        record.due().filter(|at| *at <= now).map(|_| timed_out(record))
    })
}

/// When the next wait is over, whatever else comes.
pub(crate) fn next_due(history: &History) -> Option<Timestamp> {
    history.waiting().filter_map(StepRecord::due).min()
}

fn wanted(record: &StepRecord) -> Option<String> {
    match record.step.wait.as_ref()? {
        Wait::Signal { name, .. } => Some(name.clone()),
        Wait::Run { run_id } => run_id.map(end_of),
        Wait::Sleep { .. } | Wait::SleepUntil { .. } => None,
    }
}

fn timed_out(record: &StepRecord) -> Event {
    let step = record.step.id.clone();
    match &record.step.wait {
        Some(Wait::Signal { name, .. }) => {
            let message = format!("Nothing came for `{name}` in time.");
            Event::StepFailed {
                step,
                error: RunError::new("timeout", message),
                usage: Usage::NONE,
                within: Vec::new(),
            }
        }
        _ => Event::StepCompleted { step, output: Value::Null, usage: Usage::NONE, within: Vec::new() },
    }
}

/// How a step ends with the word that it waited for.
fn outcome(record: &StepRecord, data: &JsonText) -> Event {
    let step = record.step.id.clone();
    if !matches!(record.step.wait, Some(Wait::Run { .. })) {
        let output = data.read().unwrap_or_default();
        return Event::StepCompleted { step, output, usage: Usage::NONE, within: Vec::new() };
    }
    match data.read::<ChildEnd>() {
        Ok(ChildEnd { state: RunState::Success, result, usage, within, .. }) => {
            Event::StepCompleted { step, output: result.unwrap_or_default(), usage, within }
        }
        Ok(ChildEnd { error, usage, within, .. }) => {
            let cancelled = || RunError::new("cancelled", "The run that this step began was cancelled.");
            Event::StepFailed { step, error: error.unwrap_or_else(cancelled), usage, within }
        }
        Err(error) => {
            let message = format!("The end of the run that this step began is unreadable: {error}.");
            Event::StepFailed {
                step,
                error: RunError::new("internal_error", message),
                usage: Usage::NONE,
                within: Vec::new(),
            }
        }
    }
}

/// Whether a step of which nobody knows whether it took effect is to be done
/// again; None: nobody has decided.
pub(crate) fn decision(history: &History, step: &str) -> Option<bool> {
    let data: Value = history.signal(&approval_of(step))?.read().unwrap_or_default();
    Some(data["approved"] == Value::Bool(true))
}

pub(crate) fn denied(step: String) -> Event {
    let message = "The hub stopped while this step was under way, and it was decided not to do it again.";
    Event::StepFailed {
        step,
        error: RunError::new("outcome_unknown", message),
        usage: Usage::NONE,
        within: Vec::new(),
    }
}
