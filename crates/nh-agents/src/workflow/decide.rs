//! What a workflow does next: a pure function of its plan and its journal.
//!
//! A step begins when all that it needs is settled; steps that do not need
//! each other run side by side. In the journal the tries of step `fetch` are
//! `fetch`, `fetch~2`, `fetch~3`; its items are `fetch[0]`, `fetch[1]`; what
//! asks a person before it is `fetch:approval`, and the pause before a second
//! try `fetch~2:wait`.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};

use nh_engine::{Decision, Ending, History, Outcome, Step, StepRecord, Wait};
use nh_types::Timestamp;
use nh_types::run::RunError;
use nh_types::workflow::OnError;
use serde_json::Value;

use super::expression::{Context, context, is_true};
use super::plan::{Plan, PlannedStep, Uses};
use crate::agent::TOOL_STEP;
use crate::approval::{self, Verdict};
use crate::definition::PinnedUse;
use crate::spending::BUDGET_EXCEEDED;
use crate::target::Target;

pub const RUN_STEP: &str = "run";
pub const SIGNAL_STEP: &str = "signal";
pub const TIMER_STEP: &str = "timer";

pub const MAX_ITEMS: usize = 1000;
const MAX_SLEEP_SECONDS: f64 = 30.0 * 24.0 * 3600.0;
const MAX_BACKOFF_MS: i64 = 3600 * 1000;

/// What would fail again in the same way.
const NOT_TRIED_AGAIN: [&str; 5] =
    [approval::DENIED, BUDGET_EXCEEDED, "expression_failed", "invalid_arguments", "unknown_tool"];

/// Whether what a step uses takes these arguments.
pub type Accepts<'a> = dyn Fn(&PinnedUse, &Value) -> bool + 'a;

/// Where a step stands.
enum Stand<'a> {
    Open(Vec<Step>),
    Settled { output: Cow<'a, Value>, error: Option<RunError> },
    Failed(RunError),
}

/// `accepts` says whether a tool would take these arguments.
pub fn decide<'a>(
    plan: &'a Plan,
    uses: &'a BTreeMap<String, PinnedUse>,
    accepts: &'a Accepts<'a>,
    input: &'a Value,
    history: &'a History,
) -> Decision {
    let records = history.steps().iter().map(|record| (record.step.id.as_str(), record)).collect();
    let mut scope = Scope::new(input);
    let mut settled = vec![false; plan.steps.len()];
    let mut open = Vec::new();
    for (place, step) in plan.steps.iter().enumerate() {
        if !step.needs.iter().all(|need| settled[*need]) {
            continue;
        }
        let round = Round { step, used: uses.get(&step.id), accepts, records: &records, scope: &scope };
        match round.stand() {
            Stand::Open(steps) => {
                open.extend(steps);
                continue;
            }
            Stand::Settled { output, error } => scope.settle(&step.id, output, error),
            Stand::Failed(error) if step.on_error == OnError::Continue && !round.is_beyond(&error) => {
                scope.settle(&step.id, Cow::Owned(Value::Null), Some(error));
            }
            Stand::Failed(RunError { code, message }) => {
                let message = format!("Step `{}` failed: {message}", step.id);
                return Decision::Finish(Ending::Failure(RunError { code, message }));
            }
        }
        settled[place] = true;
    }
    if settled.iter().all(|settled| *settled) {
        return Decision::Finish(result(plan, &scope));
    }
    Decision::Perform(open)
}

fn result(plan: &Plan, scope: &Scope<'_>) -> Ending {
    let Some(output) = &plan.output else {
        let last = plan.last_steps().map(|step| (step.id.clone(), scope.output(&step.id)));
        return Ending::Success(Value::Object(last.collect()));
    };
    match output.evaluate(&|| scope.context().clone()) {
        Ok(value) => Ending::Success(value),
        Err(error) => Ending::Failure(expression_failed("output", &error)),
    }
}

fn expression_failed(place: &str, error: &str) -> RunError {
    RunError::new("expression_failed", format!("`{place}`: {error}."))
}

/// What expressions see: the input, and the steps that are settled.
struct Scope<'a> {
    input: &'a Value,
    steps: Vec<Settled<'a>>,
    context: OnceCell<Context>,
}

struct Settled<'a> {
    id: &'a str,
    output: Cow<'a, Value>,
    error: Option<RunError>,
}

impl<'a> Scope<'a> {
    fn new(input: &'a Value) -> Self {
        Self { input, steps: Vec::new(), context: OnceCell::new() }
    }

    fn settle(&mut self, id: &'a str, output: Cow<'a, Value>, error: Option<RunError>) {
        self.steps.push(Settled { id, output, error });
        self.context = OnceCell::new();
    }

    fn output(&self, id: &str) -> Value {
        self.steps
            .iter()
            .find(|step| step.id == id)
            .map(|step| Value::clone(&step.output))
            .unwrap_or_default()
    }

    fn context(&self) -> &Context {
        self.context.get_or_init(|| {
            let steps = self.steps.iter().map(|Settled { id, output, error }| {
                let error = serde_json::to_value(error).unwrap_or_default();
                ((*id).to_owned(), Value::from_iter([("output", Value::clone(output)), ("error", error)]))
            });
            let steps = Value::Object(steps.collect());
            context(&Value::from_iter([("input", self.input.clone()), ("steps", steps)]))
        })
    }

    fn context_of(&self, item: Option<Item<'_>>) -> Context {
        let around = self.context();
        let Some(Item { index, value }) = item else { return around.clone() };
        let of = |name: &str| around.get_attr(name).unwrap_or_default();
        Context::from(BTreeMap::from([
            ("input", of("input")),
            ("steps", of("steps")),
            ("item", context(value)),
            ("index", Context::from(index)),
        ]))
    }
}

/// One element of a `for_each`.
#[derive(Clone, Copy)]
struct Item<'a> {
    index: usize,
    value: &'a Value,
}

/// One step in one decision.
struct Round<'r, 'a> {
    step: &'a PlannedStep,
    /// None of a step that waits.
    used: Option<&'a PinnedUse>,
    accepts: &'a Accepts<'a>,
    records: &'r HashMap<&'a str, &'a StepRecord>,
    scope: &'r Scope<'a>,
}

impl<'a> Round<'_, 'a> {
    fn stand(&self) -> Stand<'a> {
        if let Some(condition) = self.step.condition.as_ref().filter(|_| !self.has_begun()) {
            match condition.evaluate(self.scope.context()) {
                Ok(value) if is_true(&value) => {}
                Ok(_) => return Stand::Settled { output: Cow::Owned(Value::Null), error: None },
                Err(error) => return Stand::Failed(expression_failed("if", &error)),
            }
        }
        let Some(for_each) = &self.step.for_each else { return self.one(&self.step.id, None) };
        match for_each.evaluate(&|| self.scope.context().clone()) {
            Ok(Value::Array(items)) if items.len() <= MAX_ITEMS => self.each(&items),
            Ok(Value::Array(items)) => {
                let message = format!("`for_each` has {} items; at most {MAX_ITEMS} fit.", items.len());
                Stand::Failed(RunError::new("too_many_items", message))
            }
            Ok(other) => {
                let shown: String = other.to_string().chars().take(80).collect();
                Stand::Failed(expression_failed("for_each", &format!("it is {shown}, and not a list")))
            }
            Err(error) => Stand::Failed(expression_failed("for_each", &error)),
        }
    }

    /// Whether it is the run's own budget that is spent: nothing goes on then. A
    /// run that the step began may have had one of its own.
    fn is_beyond(&self, error: &RunError) -> bool {
        error.code == BUDGET_EXCEEDED && matches!(self.used, Some(PinnedUse::Tool(_)))
    }

    fn has_begun(&self) -> bool {
        let id = self.step.id.as_str();
        ["", "[0]", ":approval", "[0]:approval"]
            .into_iter()
            .any(|part| self.records.contains_key(format!("{id}{part}").as_str()))
    }

    /// Items begin in their order, so many at once.
    fn each(&self, items: &[Value]) -> Stand<'a> {
        let (mut outputs, mut open, mut running, mut first_error) = (Vec::new(), Vec::new(), 0, None);
        for (index, value) in items.iter().enumerate() {
            if running == self.step.max_parallel {
                break;
            }
            match self.one(&format!("{}[{index}]", self.step.id), Some(Item { index, value })) {
                Stand::Open(steps) => {
                    running += 1;
                    open.extend(steps);
                }
                Stand::Settled { output, .. } => outputs.push(output.into_owned()),
                Stand::Failed(RunError { code, message }) => {
                    let error = RunError { code, message: format!("Item {index}: {message}") };
                    if self.step.on_error == OnError::Fail {
                        return Stand::Failed(error);
                    }
                    first_error.get_or_insert(error);
                    outputs.push(Value::Null);
                }
            }
        }
        if running > 0 {
            return Stand::Open(open);
        }
        Stand::Settled { output: Cow::Owned(Value::Array(outputs)), error: first_error }
    }

    /// The step itself, or one item of it.
    fn one(&self, id: &str, item: Option<Item<'_>>) -> Stand<'a> {
        let mut arguments = None;
        if self.step.requires_approval {
            match self.gate(&format!("{id}:approval"), item) {
                Ok(verdict) => arguments = verdict,
                Err(stand) => return stand,
            }
        }
        let mut attempt = 1;
        loop {
            let attempt_id = if attempt == 1 { id.to_owned() } else { format!("{id}~{attempt}") };
            let Some(record) = self.records.get(attempt_id.as_str()) else {
                if attempt > 1
                    && let Some(pause) = self.pause(&format!("{attempt_id}:wait"), attempt)
                {
                    return Stand::Open(vec![pause]);
                }
                return match self.make(&attempt_id, item, arguments) {
                    Ok(step) => Stand::Open(vec![step]),
                    Err(error) => Stand::Failed(error),
                };
            };
            let error = match record.outcome() {
                None => return Stand::Open(vec![record.step.clone()]),
                Some(Outcome::Completed(output)) => match self.output(output) {
                    Ok(output) => return Stand::Settled { output, error: None },
                    Err(error) => error,
                },
                Some(Outcome::Failed(error)) => error.clone(),
            };
            if attempt >= self.step.max_attempts || NOT_TRIED_AGAIN.contains(&error.code.as_str()) {
                return Stand::Failed(error);
            }
            attempt += 1;
        }
    }

    /// What a person decided: the arguments that were put in place of the
    /// step's own, if any.
    fn gate(&self, id: &str, item: Option<Item<'_>>) -> Result<Option<Value>, Stand<'a>> {
        let Some(record) = self.records.get(id) else {
            let shown = self.arguments(item).map_err(Stand::Failed)?;
            // What would be refused anyway is no question to a person.
            if self.used.is_some_and(|used| !(self.accepts)(used, &shown)) {
                return Ok(None);
            }
            let name = match &self.step.uses {
                Uses::Target(target) => target.to_string(),
                _ => self.step.id.clone(),
            };
            return Err(Stand::Open(vec![approval::step(id, &name, shown, None)]));
        };
        match record.outcome() {
            None => Err(Stand::Open(vec![record.step.clone()])),
            Some(outcome) => match Verdict::read(outcome) {
                Verdict::Approved { arguments } => Ok(arguments),
                Verdict::Denied(error) => Err(Stand::Failed(error)),
            },
        }
    }

    /// The pause before another try, unless it is over.
    fn pause(&self, id: &str, attempt: u32) -> Option<Step> {
        let for_ms = self.step.backoff_ms.saturating_mul(1 << (attempt - 2).min(20)).min(MAX_BACKOFF_MS);
        if for_ms == 0 {
            return None;
        }
        match self.records.get(id) {
            Some(record) => record.finished.is_none().then(|| record.step.clone()),
            None => Some(waiting(id, TIMER_STEP, "retry", Value::Null, Wait::Sleep { for_ms })),
        }
    }

    fn arguments(&self, item: Option<Item<'_>>) -> Result<Value, RunError> {
        let context = OnceCell::new();
        let context = || context.get_or_init(|| self.scope.context_of(item)).clone();
        let evaluated = self.step.with.evaluate(&context);
        evaluated.map_err(|error| expression_failed("with", &error))
    }

    fn make(&self, id: &str, item: Option<Item<'_>>, edited: Option<Value>) -> Result<Step, RunError> {
        let arguments = edited.map_or_else(|| self.arguments(item), Ok)?;
        let for_ms = self.step.timeout_ms;
        match &self.step.uses {
            Uses::Target(Target::Tool(name)) => Ok(Step {
                id: id.to_owned(),
                kind: TOOL_STEP.to_owned(),
                name: name.clone(),
                arguments,
                repeatable: matches!(self.used, Some(PinnedUse::Tool(tool)) if tool.repeatable),
                wait: None,
            }),
            Uses::Target(target) => {
                Ok(waiting(id, RUN_STEP, target.name(), arguments, Wait::Run { run_id: None }))
            }
            Uses::Sleep => {
                let wait = sleep(&arguments)?;
                Ok(waiting(id, TIMER_STEP, "sleep", arguments, wait))
            }
            Uses::Approval => Ok(approval::step(id, &self.step.id, arguments, for_ms)),
            Uses::Signal => {
                let name = signal_name(&arguments)?;
                let wait = Wait::Signal { name: name.clone(), for_ms };
                Ok(waiting(id, SIGNAL_STEP, &name, Value::Null, wait))
            }
        }
    }

    /// What the step gives to those behind it.
    fn output(&self, output: &'a Value) -> Result<Cow<'a, Value>, RunError> {
        let given = match (&self.step.uses, self.used) {
            (Uses::Approval, _) => match Verdict::read(&Outcome::Completed(output.clone())) {
                Verdict::Approved { .. } => output,
                Verdict::Denied(error) => return Err(error),
            },
            (_, Some(PinnedUse::Tool(tool))) => tool.result(output),
            _ => output,
        };
        Ok(Cow::Borrowed(given))
    }
}

fn waiting(id: &str, kind: &str, name: &str, arguments: Value, wait: Wait) -> Step {
    Step {
        id: id.to_owned(),
        kind: kind.to_owned(),
        name: name.to_owned(),
        arguments,
        repeatable: true,
        wait: Some(wait),
    }
}

/// `{"seconds": 60}` or `{"until": "2026-02-06T12:00:00Z"}`.
fn sleep(given: &Value) -> Result<Wait, RunError> {
    let wrong = |message: String| RunError::new("invalid_arguments", message);
    match (&given["seconds"], &given["until"]) {
        (seconds, Value::Null) => match seconds.as_f64() {
            Some(seconds) if (0.0..=MAX_SLEEP_SECONDS).contains(&seconds) => {
                Ok(Wait::Sleep { for_ms: (seconds * 1000.0) as i64 })
            }
            _ => Err(wrong(format!(
                "`seconds` is {seconds}; it must be a number from 0 to {MAX_SLEEP_SECONDS}."
            ))),
        },
        (Value::Null, Value::String(until)) => match Timestamp::parse(until) {
            Ok(at) => Ok(Wait::SleepUntil { at }),
            Err(_) => Err(wrong(format!("`until` is `{until}`; it must be like 2026-02-06T12:00:00Z."))),
        },
        _ => Err(wrong("A sleep is given `seconds` or `until`, and not both.".to_owned())),
    }
}

fn signal_name(given: &Value) -> Result<String, RunError> {
    match &given["name"] {
        Value::String(name) if approval::is_signal_name(name) => Ok(name.clone()),
        name => {
            let message =
                format!("`name` is {name}; it must be 1 to 128 of letters, digits, `_`, `-` and `.`.");
            Err(RunError::new("invalid_arguments", message))
        }
    }
}
