//! The checks behind a retry and a fork: from a run that was to a new one that
//! the engine can store.

use nh_engine::{Engine, EngineError, Fork, ForkError, NewRun};
use nh_store::runs::{EventRow, RunRecord};
use nh_types::agent::ChangeAgent;
use nh_types::run::{ForkRun, RetryRun, RunState};
use nh_types::{ApiError, ErrorCode, RunId, Scope};
use serde_json::Value;

use crate::agent::decide::MAX_STEPS_EXCEEDED;
use crate::conversation::Conversation;
use crate::definition::{Definition, PinnedAgent};
use crate::hub::{HubError, RunCaller};
use crate::spending::Spending;
use crate::start::{
    self, bad_input, check_agent_input, check_metadata, check_range, check_workflow_input, pin_tool, require,
    shortened,
};
use crate::tools::Tools;
use crate::{agents, pin};

/// Steps that an error names.
const MAX_STEPS_TOLD: usize = 20;

/// A run that goes on from where `run_id` failed or was cancelled.
pub(crate) async fn retried(
    engine: &Engine,
    tools: &Tools,
    caller: &RunCaller,
    run_id: RunId,
    retry: RetryRun,
) -> Result<NewRun, HubError> {
    let (run, journal) = original(engine, caller, run_id).await?;
    if !matches!(run.state, RunState::Failed | RunState::Cancelled) {
        let help = if run.state == RunState::Success { "fork it" } else { "cancel it first, or fork it" };
        let message =
            format!("the run is {}; only one that is FAILED or CANCELLED can be retried: {help}", run.state);
        return Err(ApiError::new(ErrorCode::Conflict, message).param("runId").into());
    }
    if run.error.as_ref().is_some_and(|error| error.code == MAX_STEPS_EXCEEDED) {
        let message = "the run used up its `max_steps`, and would again; fork it with a greater one";
        return Err(ApiError::new(ErrorCode::Conflict, message).param("runId").into());
    }
    let run_failed = run.state == RunState::Failed;
    let fork = Fork::at_failure(run_id, &journal, run_failed).map_err(EngineError::from)?;
    let fork_run = ForkRun {
        wait_seconds: retry.wait_seconds,
        timeout_seconds: retry.timeout_seconds,
        webhook_url: retry.webhook_url,
        ..ForkRun::default()
    };
    let thread_id = run.thread.as_ref().map(|thread| thread.thread_id.clone());
    let conversation = Conversation::of(&run);
    let mut new = again(tools, caller, run, fork_run, fork)?;
    match (&thread_id, conversation) {
        (None, Some(forked)) => forked.put_into(&mut new.definition),
        // It takes its turn at the thread's end.
        _ => new.thread_id = thread_id,
    }
    Ok(new)
}

/// A run that shares the beginning of `run_id` and then goes its own way.
pub(crate) async fn forked(
    engine: &Engine,
    tools: &Tools,
    caller: &RunCaller,
    run_id: RunId,
    fork_run: ForkRun,
) -> Result<NewRun, HubError> {
    let (run, journal) = original(engine, caller, run_id).await?;
    if changes_of_an_agent(&fork_run).is_some() {
        // An agent's model and tools are what a key without this scope is held to.
        require(caller, Scope::AgentsWrite, "run with another model, prompt or tool set than the agent's")?;
    }
    let fork = Fork::at_step(run_id, &journal, fork_run.at_step.as_deref()).map_err(|error| match error {
        ForkError::UnknownStep { step, known } => HubError::from(unknown_step(&step, &known)),
        ForkError::Unreadable(error) => EngineError::from(error).into(),
    })?;
    let conversation = Conversation::of(&run);
    let mut new = again(tools, caller, run, fork_run, fork)?;
    if let Some(conversation) = conversation {
        conversation.put_into(&mut new.definition);
    }
    Ok(new)
}

async fn original(
    engine: &Engine,
    caller: &RunCaller,
    run_id: RunId,
) -> Result<(RunRecord, Vec<EventRow>), HubError> {
    let Some(run) = engine.find(&caller.workspace_id, run_id).await? else {
        let message = format!("there is no run `{run_id}` in this workspace");
        return Err(ApiError::new(ErrorCode::NotFound, message).into());
    };
    let journal = engine.journal(&caller.workspace_id, run_id).await?;
    Ok((run, journal))
}

fn unknown_step(step: &str, known: &[String]) -> ApiError {
    let told = known.iter().take(MAX_STEPS_TOLD).map(String::as_str).collect::<Vec<_>>().join(", ");
    let told = if known.is_empty() { "it has none yet".to_owned() } else { format!("its steps are {told}") };
    bad_input("at_step", format!("the run has no step `{}`; {told}", shortened(step)))
}

/// The run once more, with the changes and what it takes over. It may do no
/// more than the old one, and no more than who asks.
fn again(
    tools: &Tools,
    caller: &RunCaller,
    run: RunRecord,
    changes: ForkRun,
    fork: Fork,
) -> Result<NewRun, HubError> {
    check_range("wait_seconds", changes.wait_seconds, 1..=start::MAX_WAIT_SECONDS)?;
    check_range("timeout_seconds", changes.timeout_seconds, 1..=start::MAX_TIMEOUT_SECONDS)?;
    check_metadata(changes.metadata.as_ref())?;
    let caller = RunCaller { scopes: run.scopes.shared_with(&caller.scopes), ..caller.clone() };
    let definition = Definition::read(&run.definition).map_err(|error| {
        let message = format!("this version of the hub cannot read what the run ran: {error}");
        ApiError::new(ErrorCode::Conflict, message).param("runId")
    })?;
    let spending = Spending::new(Spending::read(&run.definition).own, &caller);
    let own_ms = changes.timeout_seconds.map(|seconds| seconds * 1000).or(run.timeout_ms);
    let metadata = changes.metadata.clone().unwrap_or(run.metadata);
    let webhook_url = changes.webhook_url.clone().unwrap_or(run.webhook_url);
    let input = changes.input.clone().unwrap_or(run.input);
    let definition = match definition {
        Definition::Agent(pinned) => Definition::Agent(changed(pinned, changes, &input, tools, &caller)?),
        Definition::Tool(pinned) => {
            if let Some(field) = changes_of_an_agent(&changes) {
                let message = format!("the run is of a tool, which has no `{field}`; leave it out");
                return Err(bad_input(field, message).into());
            }
            Definition::Tool(pin_tool(tools, &caller, &pinned.name, &input)?)
        }
        Definition::Workflow(pinned) => {
            if let Some(field) = changes_of_an_agent(&changes) {
                let message = format!("the run is of a workflow, which has no `{field}`; leave it out");
                return Err(bad_input(field, message).into());
            }
            check_workflow_input(&pinned, &input)?;
            Definition::Workflow(pinned)
        }
    };
    let bounds = [start::agents_limits(&definition), caller.limits.runs];
    let bounds_ms =
        bounds.into_iter().filter_map(|limits| limits.timeout_seconds.map(|seconds| seconds * 1000));
    let timeout_ms = own_ms.into_iter().chain(bounds_ms).min();
    let mut pinned = definition.to_value();
    spending.put_into(&mut pinned);
    Ok(NewRun {
        groups: start::groups(&definition, &caller),
        thread_id: None,
        workspace_id: run.workspace_id,
        target: run.target,
        run_type: run.run_type,
        input,
        definition: pinned,
        scopes: caller.scopes,
        created_by: caller.created_by,
        metadata,
        timeout_ms,
        priority: run.priority,
        delay_ms: 0,
        webhook_url,
        fork: Some(fork),
    })
}

/// What the old run pinned, with the changes made to it.
fn changed(
    pinned: PinnedAgent,
    changes: ForkRun,
    input: &Value,
    tools: &Tools,
    caller: &RunCaller,
) -> Result<PinnedAgent, ApiError> {
    check_agent_input(input)?;
    let change = ChangeAgent {
        model_id: changes.model_id.map(Some),
        system_prompt: changes.system_prompt.map(Some),
        tools: changes.tools.map(Some),
        temperature: changes.temperature.map(Some),
        max_steps: changes.max_steps.map(Some),
        ..ChangeAgent::default()
    };
    let model_id = change.model_id.clone().flatten().unwrap_or(pinned.model_id);
    let agent = agents::change(&pinned.agent, change, tools)?;
    let offered = pin::agents_tools(tools, &agent, &caller.scopes);
    let own_tools = pin::own_of(tools, &offered);
    Ok(PinnedAgent { agent, model_id, tools: offered, own_tools, ..pinned })
}

/// The first field given that changes what the agent is.
fn changes_of_an_agent(changes: &ForkRun) -> Option<&'static str> {
    let given = [
        ("model_id", changes.model_id.is_some()),
        ("system_prompt", changes.system_prompt.is_some()),
        ("tools", changes.tools.is_some()),
        ("temperature", changes.temperature.is_some()),
        ("max_steps", changes.max_steps.is_some()),
    ];
    given.into_iter().find(|(_, is_given)| *is_given).map(|(field, _)| field)
}
