//! Runs as the API shows them, folded from the row and the journal.

use nh_engine::{History, Outcome, StepRecord, StepsTaken, Wait, approval_of};
use nh_store::runs::{Apart, EventReference, EventRow, RunRecord};
use nh_types::run::{
    AcceptedRun, JournalEvent, ModelUse, RunState, RunSummary, RunType, RunUsageView, RunView, ToolCallView,
    ToolUse, WaitKind, WaitView,
};
use nh_types::{JsonText, RunId};
use serde_json::{Map, Value};

use crate::agent::messages::shown;
use crate::agent::recall::{EXTRACT_STEP, RECALL_STEP};
use crate::agent::{MODEL_STEP, TOOL_STEP};
use crate::spending::Spending;
use crate::tools::Tools;
use crate::workflow::decide::RUN_STEP;

/// What a 202 says: a run just stored is pending, whatever became of it since.
pub fn accepted(run_id: RunId) -> AcceptedRun {
    AcceptedRun { run_id, status: RunState::Pending.status().to_owned(), state: RunState::Pending }
}

pub fn run(run: &RunRecord, history: &History, tools: &Tools) -> RunView {
    let calls = history.steps().iter().filter(|record| record.step.kind == TOOL_STEP);
    RunView {
        run_id: run.id,
        target: run.target.clone(),
        run_type: run.run_type,
        state: run.state,
        status: run.state.status().to_owned(),
        input: run.input.clone(),
        result: run.result.clone(),
        error: run.error.clone(),
        events: calls.map(|record| tool_call(record, tools)).collect(),
        // The row learns its usage at the end; the journal knows it all along.
        usage: usage(history),
        budget: Some(Spending::read(&run.definition).own).filter(|budget| !budget.is_empty()),
        partial_result: partial_result(run, history),
        thread_id: run.thread.as_ref().map(|thread| thread.thread_id.clone()),
        forked_from: history.forked_from(),
        parent_run_id: run.parent.as_ref().map(|parent| parent.run_id),
        webhook_url: run.webhook_url.clone(),
        waiting_for: if run.state.is_terminal() { Vec::new() } else { waiting_for(history) },
        metadata: run.metadata.clone(),
        created_at: run.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
        is_large: run.apart != Apart::default() || history.large_bytes() > 0,
    }
}

fn usage(history: &History) -> RunUsageView {
    let taken = history.steps_taken();
    let of_kind = |kind: &'static str| taken.iter().filter(move |steps| steps.kind == kind);
    RunUsageView {
        total: history.usage().into(),
        compute_seconds: of_kind(TOOL_STEP).chain(of_kind(RECALL_STEP)).map(|steps| steps.ms).sum::<i64>()
            as f64
            / 1000.0,
        by_model: by_name(of_kind(MODEL_STEP).chain(of_kind(EXTRACT_STEP)))
            .map(|steps| ModelUse {
                calls: steps.count,
                usage: steps.usage.into(),
                seconds: steps.ms as f64 / 1000.0,
                model: steps.name,
            })
            .collect(),
        by_tool: by_name(of_kind(TOOL_STEP).chain(of_kind(RECALL_STEP)))
            .map(|steps| ToolUse {
                calls: steps.count,
                usage: steps.usage.into(),
                seconds: steps.ms as f64 / 1000.0,
                tool: steps.name,
            })
            .collect(),
    }
}

/// A model or a tool may be called for several kinds of steps.
fn by_name<'s>(taken: impl Iterator<Item = &'s StepsTaken>) -> impl Iterator<Item = StepsTaken> {
    let mut of_names: Vec<StepsTaken> = Vec::new();
    for steps in taken {
        match of_names.iter_mut().find(|known| known.name == steps.name) {
            Some(known) => {
                known.count += steps.count;
                known.ms += steps.ms;
                known.usage = known.usage.plus(steps.usage);
            }
            None => of_names.push(steps.clone()),
        }
    }
    of_names.into_iter()
}

/// What there was when a run came to no result.
fn partial_result(run: &RunRecord, history: &History) -> Option<Value> {
    if !matches!(run.state, RunState::Failed | RunState::Cancelled) {
        return None;
    }
    let completed = history.steps().iter().filter_map(|record| match record.outcome()? {
        Outcome::Completed(output) => Some((record, output)),
        Outcome::Failed(_) => None,
    });
    match run.run_type {
        RunType::Tool => None,
        RunType::Agent => completed
            .filter(|(record, _)| record.step.kind == MODEL_STEP)
            .filter_map(|(_, output)| output["message"]["content"].as_str())
            .rfind(|text| !text.trim().is_empty())
            .map(Value::from),
        RunType::Workflow => {
            let outputs = completed.filter(|(record, _)| matches!(&*record.step.kind, TOOL_STEP | RUN_STEP));
            let outputs =
                outputs.map(|(record, output)| (record.step.id.clone(), came_out(record, output).clone()));
            Some(Value::Object(outputs.collect())).filter(|outputs| outputs != &Value::Object(Map::new()))
        }
    }
}

/// A tool's structured value or its text; of a run, its result.
fn came_out<'a>(record: &StepRecord, output: &'a Value) -> &'a Value {
    if record.step.kind == RUN_STEP {
        return output;
    }
    let parts = [&output["value"], &output["text"]];
    parts.into_iter().find(|part| !part.is_null()).unwrap_or(output)
}

pub fn summary(run: RunRecord) -> RunSummary {
    RunSummary {
        run_id: run.id,
        target: run.target,
        run_type: run.run_type,
        state: run.state,
        status: run.state.status().to_owned(),
        error: run.error,
        usage: run.usage.into(),
        parent_run_id: run.parent.map(|parent| parent.run_id),
        thread_id: run.thread.map(|thread| thread.thread_id),
        metadata: run.metadata,
        created_at: run.created_at,
        started_at: run.started_at,
        finished_at: run.finished_at,
    }
}

/// What is kept apart of an event is told by its size and where it is.
pub fn journal_event(run_id: RunId, row: EventRow) -> JournalEvent {
    let EventRow { seq, kind, at, data } = row;
    let told = EventReference::read(data.as_str()).and_then(|reference| {
        let EventReference { field, bytes, rest } = reference;
        let href = format!("/v1/run/{run_id}/values/{}", reference.name(&kind, seq));
        JsonText::new(format!(r#"{{"large":{{"{field}":{{"bytes":{bytes},"href":"{href}"}}}}{rest}"#)).ok()
    });
    JournalEvent { seq, kind, at, data: told.unwrap_or(data) }
}

/// What has to happen before the run goes on.
pub fn waiting_for(history: &History) -> Vec<WaitView> {
    let doubtful = history.doubt().and_then(|doubt| history.step(doubt));
    let doubtful = doubtful.map(|record| WaitView {
        kind: WaitKind::Decision,
        arguments: record.step.arguments.clone(),
        ..wait(record)
    });
    doubtful.into_iter().chain(history.waiting().map(wait)).collect()
}

fn wait(record: &StepRecord) -> WaitView {
    let step = &record.step;
    let (kind, run_id) = match &step.wait {
        Some(Wait::Signal { name, .. }) if *name == approval_of(&step.id) => (WaitKind::Approval, None),
        Some(Wait::Signal { .. }) | None => (WaitKind::Signal, None),
        Some(Wait::Sleep { .. } | Wait::SleepUntil { .. }) => (WaitKind::Timer, None),
        Some(Wait::Run { run_id }) => (WaitKind::Run, *run_id),
    };
    WaitView {
        step: step.id.clone(),
        kind,
        name: step.name.clone(),
        arguments: if kind == WaitKind::Approval { step.arguments.clone() } else { Value::Null },
        until: record.due(),
        run_id,
        since: record.started_at,
    }
}

fn tool_call(record: &StepRecord, tools: &Tools) -> ToolCallView {
    let arguments = &record.step.arguments;
    let sole = tools.sole_string_argument(&record.step.name).and_then(|name| arguments.get(name));
    let input = sole.filter(|value| value.is_string()).unwrap_or(arguments);
    ToolCallView {
        tool: record.step.name.clone(),
        input: input.clone(),
        output: record.outcome().map(shown),
        seq: record.seq,
        arguments: arguments.clone(),
        error: record.outcome().and_then(|outcome| match outcome {
            Outcome::Failed(error) => Some(error.clone()),
            Outcome::Completed(_) => None,
        }),
        started_at: record.started_at,
        finished_at: record.finished.as_ref().map(|(at, _)| *at),
    }
}
