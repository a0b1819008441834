//! The spans of a run, for OpenTelemetry. They belong to the run's own trace,
//! which is its id, and hang on its root span. That one is made by whoever writes
//! the run's end, and so once; what drives the run before that, in whichever
//! process, names it by the run's id.

use nh_store::runs::RunRecord;
use nh_types::run::{RunError, RunType};
use nh_types::span::TARGET;
use tracing::field::Empty;
use tracing::{Level, Span};

use crate::history::StepRecord;
use crate::journal::{Step, Wait};
use crate::meters::wait_word;

/// Whether anybody wants spans.
pub(crate) fn are_wanted() -> bool {
    tracing::enabled!(target: TARGET, Level::INFO)
}

/// All of a run that has ended. `name` is what people call its target.
pub(crate) fn ended(run: &RunRecord, name: &str) {
    let operation = match run.run_type {
        RunType::Agent => Some("invoke_agent"),
        RunType::Workflow => Some("invoke_workflow"),
        RunType::Tool => None,
    };
    let named = operation.map(|_| name);
    let error = run.error.as_ref().map(|error| error.code.as_str());
    let _ended_at_once = tracing::info_span!(
        target: TARGET, "run",
        trace.run = run.id.0.as_u128(),
        trace.is_root = true,
        trace.started_ms = run.created_at.as_millis(),
        trace.linked_run = run.parent.as_ref().map(|parent| parent.run_id.0.as_u128()),
        otel.name = format_args!("{} {name}", operation.unwrap_or("run")),
        gen_ai.operation.name = operation,
        gen_ai.agent.id = named.map(|_| run.target.as_str()),
        gen_ai.agent.name = named,
        gen_ai.conversation.id = run.thread.as_ref().map(|thread| thread.thread_id.as_str()),
        gen_ai.usage.input_tokens = run.usage.input_tokens,
        gen_ai.usage.output_tokens = run.usage.output_tokens,
        neuralhub.cost_usd = run.usage.cost_usd,
        neuralhub.run.type = run.run_type.as_str(),
        neuralhub.run.state = run.state.as_str(),
        error.type = error,
    );
}

/// One process's time with a run. It is linked to the request that started the
/// run, where it follows from it at once.
pub(crate) fn drive(run: &RunRecord) -> Span {
    let span = tracing::info_span!(
        target: TARGET, parent: None, "drive",
        trace.run = run.id.0.as_u128(),
        trace.linked_run = run.parent.as_ref().map(|parent| parent.run_id.0.as_u128()),
        neuralhub.run.type = run.run_type.as_str(),
        neuralhub.run.target = run.target,
        neuralhub.run.epoch = run.epoch,
    );
    if !span.is_disabled() {
        span.follows_from(Span::current());
    }
    span
}

/// One try of a step.
pub(crate) fn step(step: &Step) -> Span {
    tracing::info_span!(
        target: TARGET, "step",
        otel.name = format_args!("step {}", step.kind),
        neuralhub.step.id = step.id,
        neuralhub.step.kind = step.kind,
        error.type = Empty,
    )
}

/// A step that waited, from its start to its end, whoever drove the run then.
pub(crate) fn waited(run: &RunRecord, record: &StepRecord, error: Option<&RunError>) {
    let child = match record.step.wait {
        Some(Wait::Run { run_id }) => run_id,
        _ => None,
    };
    let _ended_at_once = tracing::info_span!(
        target: TARGET, parent: None, "wait",
        trace.run = run.id.0.as_u128(),
        trace.linked_run = child.map(|child| child.0.as_u128()),
        trace.started_ms = record.started_at.as_millis(),
        otel.name = format_args!("wait {}", wait_word(record).unwrap_or_default()),
        neuralhub.step.id = record.step.id,
        neuralhub.step.kind = record.step.kind,
        error.type = error.map(|error| error.code.as_str()),
    );
}
