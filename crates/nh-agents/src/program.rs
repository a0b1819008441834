//! The engine's [`Program`]: what runs do.

use std::borrow::Cow;
use std::time::Duration;

use nh_engine::program::Performing;
use nh_engine::{ChildRun, Decision, Ending, History, Live, Outcome, Performed, Program, Step, Work};
use nh_memory::Memories;
use nh_models::{Caller, Completion, Ledger, Listener, ModelError, Models, offline};
use nh_store::Store;
use nh_store::runs::RunRecord;
use nh_types::SharedClock;
use nh_types::run::{RunError, RunType};
use serde_json::{Map, Value, json};

use crate::agent::decide::{Calling, RequestedCall};
use crate::agent::messages::Prompt;
use crate::agent::recall::{self, EXTRACT_STEP, RECALL_STEP};
use crate::agent::window::{self, LeftOut};
use crate::agent::{self, MODEL_STEP, TOOL_STEP};
use crate::conversation::Conversation;
use crate::definition::{Definition, PinnedAgent, PinnedRun, PinnedTool, PinnedUse};
use crate::spending::{RunCharges, Spending};
use crate::start;
use crate::tools::{MEMORY_TOOLS, ToolError, Tools, Workshop, function_name};
use crate::workflow::work::WorkflowWork;
use nh_schema as schema;

/// Tries of one model call, and the longest pause between two that a provider
/// may ask for.
const MODEL_TRIES: u32 = 3;
const MODEL_RETRY_MAX_SECONDS: u64 = 20;

/// Calls of one turn that are made; the model is told of the others.
const MAX_CALLS_PER_TURN: usize = 32;

#[derive(Clone)]
pub(crate) struct RunProgram {
    pub(crate) models: Models,
    pub(crate) memories: Memories,
    pub(crate) tools: Tools,
    pub(crate) workshop: Workshop,
    pub(crate) clock: SharedClock,
    pub(crate) ledger: Ledger,
    pub(crate) store: Store,
}

impl Program for RunProgram {
    fn open(&self, run: &RunRecord) -> Box<dyn Work> {
        let (mut program, charges) = (self.clone(), RunCharges::of(run, &self.ledger));
        let definition = Definition::read(&run.definition);
        if let Ok(definition) = &definition {
            program.tools = self.tools.with(&self.workshop, definition.own_tools());
        }
        match definition {
            Ok(Definition::Agent(pinned)) => Box::new(AgentWork { program, charges, pinned }),
            Ok(Definition::Tool(pinned)) => Box::new(ToolWork { program, charges, pinned }),
            Ok(Definition::Workflow(pinned)) => Box::new(WorkflowWork::new(program, charges, pinned)),
            Err(error) => Box::new(Unreadable(RunError::new(
                "internal_error",
                format!("This version of the hub cannot read what the run runs: {error}."),
            ))),
        }
    }
}

/// An agent's turns.
struct AgentWork {
    program: RunProgram,
    charges: RunCharges,
    pinned: PinnedAgent,
}

impl Work for AgentWork {
    fn decide(&self, run: &RunRecord, history: &History) -> Decision {
        if let Some(recall) = recall::before(&self.pinned, &run.scopes, history) {
            return recall;
        }
        let tools = &self.program.tools;
        let calling = |call: &RequestedCall| Calling {
            repeatable: tools.get(&call.tool).is_none_or(|tool| tool.spec().repeatable),
            // What would be refused anyway is no question to a person.
            asks: self.pinned.asks_before(&call.tool) && self.is_acceptable(call),
            is_made: true,
        };
        let decision = agent::decide::decide(&self.pinned, calling, history);
        recall::after(&self.pinned, &run.scopes, history, decision)
    }

    fn perform(&self, run: &RunRecord, history: &History, step: &Step, live: Live) -> Performing {
        match step.kind.as_str() {
            MODEL_STEP => self.program.call_model(run, &self.charges, &self.pinned, history, step, live),
            RECALL_STEP => self.program.recall(run, &self.charges, &self.pinned, step),
            EXTRACT_STEP => self.program.extract(run, &self.charges, &self.pinned, history, step),
            _ => self.program.call_agents_tool(run, &self.charges, &self.pinned, history, step),
        }
    }

    fn name<'n>(&'n self, _: &'n RunRecord) -> &'n str {
        &self.pinned.agent.name
    }

    fn child(&self, run: &RunRecord, _: &History, step: &Step) -> Result<ChildRun, RunError> {
        match self.pinned.run_called(&step.name) {
            Some(called) => child_run(called, step, None, run, self.charges.spending()),
            None => Err(unknown_tool(&self.pinned, &step.name)),
        }
    }
}

impl AgentWork {
    fn is_acceptable(&self, call: &RequestedCall) -> bool {
        if let Some(run) = self.pinned.run_called(&call.tool) {
            return check_input(run, &call.arguments).is_ok();
        }
        let is_offered = self.pinned.tools.contains(&call.tool);
        is_offered && self.program.tools.validate(&call.tool, &call.arguments).is_ok()
    }
}

/// One call of one tool.
struct ToolWork {
    program: RunProgram,
    charges: RunCharges,
    pinned: PinnedTool,
}

impl Work for ToolWork {
    fn decide(&self, run: &RunRecord, history: &History) -> Decision {
        decide_tool_run(&self.pinned, &run.input, history)
    }

    fn perform(&self, run: &RunRecord, _: &History, step: &Step, _: Live) -> Performing {
        self.program.call_tool(run, &self.charges, step)
    }
}

/// A run of which this version cannot read what it runs.
struct Unreadable(RunError);

impl Work for Unreadable {
    fn decide(&self, _: &RunRecord, _: &History) -> Decision {
        Decision::Finish(Ending::Failure(self.0.clone()))
    }

    fn perform(&self, _: &RunRecord, _: &History, _: &Step, _: Live) -> Performing {
        let error = self.0.clone();
        Box::pin(async move { Err(error) })
    }
}

/// The run that a step of `parent` begins; what its target does not take is told
/// to who called it.
pub(crate) fn child_run(
    run: &PinnedRun,
    step: &Step,
    timeout_ms: Option<i64>,
    parent: &RunRecord,
    spending: &Spending,
) -> Result<ChildRun, RunError> {
    check_input(run, &step.arguments)?;
    let own = start::agents_limits(&run.definition);
    let mut definition = run.definition.to_value();
    spending.within(parent.id, own.budget()).put_into(&mut definition);
    let keys = parent.groups.iter().filter(|group| group.name.starts_with("key:"));
    Ok(ChildRun {
        target: run.target.clone(),
        run_type: run.run_type,
        input: step.arguments.clone(),
        definition,
        groups: start::agents_group(&run.definition).into_iter().chain(keys.cloned()).collect(),
        timeout_ms: timeout_ms.into_iter().chain(own.timeout_seconds.map(|seconds| seconds * 1000)).min(),
    })
}

fn check_input(run: &PinnedRun, input: &Value) -> Result<(), RunError> {
    let invalid = |told: String| {
        let message = format!("The input of `{}` is not valid: {told}.", run.target);
        RunError::new("invalid_arguments", message)
    };
    if run.run_type == RunType::Agent {
        return start::check_agent_input(input).map_err(|error| invalid(error.message));
    }
    let validator = schema::compile(&run.input_schema).map_err(&invalid)?;
    let faults = schema::faults(&validator, input);
    if faults.is_empty() { Ok(()) } else { Err(invalid(schema::told("input", &faults))) }
}

fn unknown_tool(pinned: &PinnedAgent, name: &str) -> RunError {
    let runs = pinned.runs.iter().map(|run| run.tool.as_str());
    let tools = pinned.tools.iter().map(|name| function_name(name));
    let offered: Vec<_> = tools.chain(runs.map(Cow::Borrowed)).collect();
    let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
    RunError::new("unknown_tool", format!("There is no tool `{name}`. The tools are: {offered}."))
}

/// A tool run is one step, and its outcome is the run's.
fn decide_tool_run(pinned: &PinnedTool, input: &Value, history: &History) -> Decision {
    let step = Step {
        id: "tool:1".to_owned(),
        kind: TOOL_STEP.to_owned(),
        name: pinned.name.clone(),
        arguments: input.clone(),
        repeatable: pinned.repeatable,
        wait: None,
    };
    match history.step(&step.id).and_then(|record| record.outcome()) {
        None => Decision::Perform(vec![step]),
        Some(Outcome::Failed(error)) => Decision::Finish(Ending::Failure(error.clone())),
        Some(Outcome::Completed(output)) => Decision::Finish(Ending::Success(pinned.result(output).clone())),
    }
}

impl RunProgram {
    pub(crate) fn accepts(&self, used: &PinnedUse, arguments: &Value) -> bool {
        match used {
            PinnedUse::Tool(tool) => self.tools.validate(&tool.name, arguments).is_ok(),
            PinnedUse::Run(run) => check_input(run, arguments).is_ok(),
        }
    }

    fn call_model(
        &self,
        run: &RunRecord,
        charges: &RunCharges,
        pinned: &PinnedAgent,
        history: &History,
        step: &Step,
        live: Live,
    ) -> Performing {
        let mut prompt = Prompt::new(pinned, &self.tools, &run.input, history);
        let (models, tools) = (self.models.clone(), self.tools.clone());
        let caller = charges.caller(run, step.idempotency_key(run.id), self.clock.now());
        let conversation = Conversation::of(run);
        let store = self.store.clone();
        Box::pin(async move {
            if let Some(conversation) = conversation {
                prompt.conversation = conversation.messages(&store, &caller.workspace_id).await?;
            }
            let (mut completion, left_out) =
                ask(&models, &caller, prompt, &live).await.map_err(model_error)?;
            let choice = completion.body.get_mut("choices").and_then(|choices| choices.get_mut(0));
            let choice =
                choice.ok_or_else(|| RunError::new("upstream_error", "The model sent no choice."))?;
            let message = with_tools_names(without_nulls(choice["message"].take()), &tools);
            let mut output = vec![("message", message), ("finish_reason", choice["finish_reason"].take())];
            if !left_out.is_nothing() {
                output.push(("left_out", json!({"messages": left_out.messages, "bytes": left_out.bytes})));
            }
            Ok(Performed { output: Value::from_iter(output), usage: completion.usage })
        })
    }

    fn call_agents_tool(
        &self,
        run: &RunRecord,
        charges: &RunCharges,
        pinned: &PinnedAgent,
        history: &History,
        step: &Step,
    ) -> Performing {
        let place = agent::decide::place_of_call(&step.id);
        let refused = place.and_then(|(turn, index)| agent::refused(history, turn, index));
        let refusal = if refused.is_some() {
            refused
        } else if place.is_some_and(|(_, index)| index >= MAX_CALLS_PER_TURN) {
            Some(RunError::new(
                "too_many_calls",
                format!(
                    "At most {MAX_CALLS_PER_TURN} tools can be called in one turn; call this one in the next."
                ),
            ))
        } else if pinned.tools.contains(&step.name) {
            None
        } else {
            Some(unknown_tool(pinned, &step.name))
        };
        match refusal {
            Some(error) => Box::pin(async move { Err(error) }),
            None => self.call_tool(run, charges, &in_namespace(pinned, step)),
        }
    }

    pub(crate) fn call_tool(&self, run: &RunRecord, charges: &RunCharges, step: &Step) -> Performing {
        let (tools, clock) = (self.tools.clone(), self.clock.clone());
        let key = step.idempotency_key(run.id);
        let charge = charges.step(run, key.clone(), clock.now());
        let caller = charges.caller(run, format!("{key}:embed"), clock.now());
        let (step, run_id, created_by) = (step.clone(), run.id, run.created_by.clone());
        let scopes = run.scopes.clone();
        Box::pin(async move {
            let call = crate::tools::ToolCall {
                arguments: &step.arguments,
                workspace_id: &caller.workspace_id,
                run_id,
                step_id: &step.id,
                created_by: &created_by,
                caller: &caller,
                scopes: &scopes,
                idempotency_key: &key,
                clock: clock.as_ref(),
            };
            // Dropped with the call, however that ends: it then counts.
            let _reservation = match &charge {
                Some(charge) => Some(charge.reserve_step().await.map_err(model_error)?),
                None => None,
            };
            let given = tools.call(&step.name, call).await.map_err(tool_error)?;
            let output = Value::from_iter([("text", Value::from(given.text)), ("value", given.value)]);
            Ok(Performed { output, usage: given.usage })
        })
    }
}

/// The memory tools of an agent that has a namespace of its own mean that one,
/// whatever the model says: it may have read what somebody else wrote.
fn in_namespace(pinned: &PinnedAgent, step: &Step) -> Step {
    let mut step = step.clone();
    if let (Some(namespace), true) =
        (&pinned.agent.memory.namespace, MEMORY_TOOLS.contains(&step.name.as_str()))
        && let Some(arguments) = step.arguments.as_object_mut()
    {
        arguments.insert("namespace".to_owned(), Value::from(namespace.as_str()));
    }
    step
}

/// Asks the model, with as much of the prompt as its window takes. Where nobody
/// says how large that is, the provider's refusal does.
async fn ask(
    models: &Models,
    caller: &Caller,
    mut prompt: Prompt,
    live: &Live,
) -> Result<(Completion, LeftOut), ModelError> {
    let model = prompt.rest["model"].as_str().unwrap_or_default();
    if model == offline::MODEL_ID {
        return Ok((complete(models, caller, prompt.into_body(), live).await?, LeftOut::default()));
    }
    let mut left_out = LeftOut::default();
    if let Some(tokens) = models.context_length(&caller.workspace_id, model).await {
        left_out = window::fit(&mut prompt, window::prompt_tokens_within(tokens));
    }
    let body = prompt.clone().into_body();
    match complete(models, caller, body, live).await {
        Err(ModelError::Rejected { message, .. }) if window::is_too_long(&message) => {}
        answer => return answer.map(|completion| (completion, left_out)),
    }
    let half = window::tokens(&prompt) / 2;
    let more = window::fit(&mut prompt, half);
    let completion = complete(models, caller, prompt.into_body(), live).await?;
    Ok((completion, left_out.plus(more)))
}

/// A model call, tried again while the provider is only busy or down.
async fn complete(
    models: &Models,
    caller: &Caller,
    body: Map<String, Value>,
    live: &Live,
) -> Result<Completion, ModelError> {
    let mut tries = 1;
    let tell = |delta: &Value| live.tell(|| json!({"delta": delta}));
    loop {
        let listener = Listener { is_heard: live.is_heard(), tell: &tell };
        let error = match models.chat_live(caller, &body, &listener).await {
            Ok(completion) => return Ok(completion),
            Err(error) => error,
        };
        let wanted_seconds = error.retry_after_seconds().unwrap_or(1);
        if !error.is_retryable() || tries >= MODEL_TRIES || wanted_seconds > MODEL_RETRY_MAX_SECONDS {
            return Err(error);
        }
        tracing::warn!(%error, tries, "a model call is tried again");
        live.tell(|| json!({"again": true}));
        tokio::time::sleep(Duration::from_secs(wanted_seconds * u64::from(tries))).await;
        tries += 1;
    }
}

/// What the model called `server__tool` is `server.tool` in the journal.
fn with_tools_names(mut message: Value, tools: &Tools) -> Value {
    for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
        let name = call["function"]["name"].as_str().and_then(|function| tools.called(function));
        if let Some(name) = name {
            call["function"]["name"] = Value::from(name);
        }
    }
    message
}

/// The message to send back on the next turn: some providers refuse fields
/// that they sent as null.
fn without_nulls(mut message: Value) -> Value {
    if let Value::Object(fields) = &mut message {
        fields.retain(|name, value| !value.is_null() || name == "content");
    }
    message
}

pub(crate) fn model_error(error: ModelError) -> RunError {
    let error = nh_types::ApiError::from(error);
    RunError::new(error.code.as_str(), error.message)
}

fn tool_error(error: ToolError) -> RunError {
    RunError::new(error.code, error.message)
}
