//! The graph of a workflow's steps, read from its definition.

use std::collections::{BTreeMap, BTreeSet};

use nh_types::workflow::{OnError, WorkflowDefinition, WorkflowStep};
use serde_json::Value;

use super::expression::{Shape, Template};
use crate::target::Target;

pub const MAX_STEPS: usize = 200;
const MAX_ID_CHARS: usize = 64;
const MAX_PARALLEL: i64 = 100;
const DEFAULT_PARALLEL: usize = 4;
const MAX_ATTEMPTS: i64 = 10;
const MAX_BACKOFF_SECONDS: i64 = 3600;
const MAX_TIMEOUT_SECONDS: i64 = 7 * 24 * 3600;

/// What is wrong at one place, such as `steps[2].with.expression`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: String,
    pub message: String,
}

impl Fault {
    pub fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

impl From<(String, String)> for Fault {
    fn from((place, message): (String, String)) -> Self {
        Self { place, message }
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uses {
    Target(Target),
    Sleep,
    Approval,
    Signal,
}

#[derive(Debug)]
pub struct PlannedStep {
    pub id: String,
    pub uses: Uses,
    pub with: Shape,
    /// The places of the steps before it, in the plan.
    pub needs: Vec<usize>,
    pub condition: Option<Template>,
    pub for_each: Option<Shape>,
    pub max_parallel: usize,
    pub max_attempts: u32,
    pub backoff_ms: i64,
    pub timeout_ms: Option<i64>,
    pub on_error: OnError,
    pub requires_approval: bool,
}

/// Steps in an order in which each comes behind those that it needs.
#[derive(Debug)]
pub struct Plan {
    pub steps: Vec<PlannedStep>,
    pub output: Option<Shape>,
}

impl Plan {
    pub fn read(workflow: &WorkflowDefinition) -> Result<Self, Fault> {
        let ids = ids(&workflow.steps)?;
        let mut steps = Vec::with_capacity(workflow.steps.len());
        let mut needs = Vec::with_capacity(workflow.steps.len());
        for (place, step) in workflow.steps.iter().enumerate() {
            let at = format!("steps[{place}]");
            let (step, named) = read_step(step, &at, &ids)?;
            steps.push(step);
            needs.push(named);
        }
        let output = workflow.output.as_ref().map(|output| Shape::parse(output, "output")).transpose()?;
        if let Some(output) = &output {
            named_steps(&output.variables(), "output", false, &ids)?;
        }
        let order = in_order(workflow, &needs)?;
        let new_places: BTreeMap<usize, usize> = order.iter().copied().zip(0..).collect();
        let mut steps: Vec<Option<PlannedStep>> = steps.into_iter().map(Some).collect();
        let steps = order.iter().filter_map(|&old| {
            let mut step = steps[old].take()?;
            step.needs = needs[old].iter().map(|need| new_places[need]).collect();
            Some(step)
        });
        Ok(Self { steps: steps.collect(), output })
    }

    /// The step of which a journal's step is a part: `fetch[2]~3:wait` is of
    /// `fetch`.
    pub fn step_of(&self, journal_id: &str) -> Option<&PlannedStep> {
        let id = journal_id.split(['[', '~', ':']).next()?;
        self.steps.iter().find(|step| step.id == id)
    }

    /// Those that no other step needs.
    pub fn last_steps(&self) -> impl Iterator<Item = &PlannedStep> {
        let needed: BTreeSet<usize> = self.steps.iter().flat_map(|step| step.needs.iter().copied()).collect();
        self.steps.iter().enumerate().filter(move |(place, _)| !needed.contains(place)).map(|(_, step)| step)
    }
}

fn ids(steps: &[WorkflowStep]) -> Result<BTreeMap<&str, usize>, Fault> {
    if !(1..=MAX_STEPS).contains(&steps.len()) {
        let message = format!("there are {} steps; 1 to {MAX_STEPS} fit", steps.len());
        return Err(Fault::new("steps", message));
    }
    let mut ids = BTreeMap::new();
    for (place, step) in steps.iter().enumerate() {
        let at = format!("steps[{place}].id");
        let id = step.id.as_str();
        let shown: String = id.chars().take(80).collect();
        let is_word = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && id.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
            && id.len() <= MAX_ID_CHARS;
        if !is_word {
            let rule = "1 to 64 of letters, digits and `_`, not beginning with a digit";
            return Err(Fault::new(at, format!("`{shown}` is no step id: {rule}")));
        }
        if let Some(first) = ids.insert(id, place) {
            return Err(Fault::new(at, format!("`{shown}` is the id of steps[{first}] already")));
        }
    }
    Ok(ids)
}

/// The step, and the places of those that it needs or names.
fn read_step(
    step: &WorkflowStep,
    at: &str,
    ids: &BTreeMap<&str, usize>,
) -> Result<(PlannedStep, BTreeSet<usize>), Fault> {
    let with = Shape::object(&step.with, &format!("{at}.with"))?;
    let for_each = step.for_each.as_ref().map(|given| read_for_each(given, at)).transpose()?;
    let condition = step.condition.as_deref().map(Template::parse_expression).transpose();
    let condition = condition.map_err(|error| Fault::new(format!("{at}.if"), error))?;

    let mut needs = BTreeSet::new();
    for (place, need) in step.needs.iter().enumerate() {
        let known = ids
            .get(need.as_str())
            .ok_or_else(|| Fault::new(format!("{at}.needs[{place}]"), unknown_step(need, ids)))?;
        needs.insert(*known);
    }
    let is_each = for_each.is_some();
    needs.extend(named_steps(&with.variables(), &format!("{at}.with"), is_each, ids)?);
    if let Some(condition) = &condition {
        needs.extend(named_steps(&condition.variables(), &format!("{at}.if"), false, ids)?);
    }
    if let Some(for_each) = &for_each {
        needs.extend(named_steps(&for_each.variables(), &format!("{at}.for_each"), false, ids)?);
    }
    let number = |field: &str, given: Option<i64>, least: i64, most: i64| match given {
        Some(given) if !(least..=most).contains(&given) => Err(Fault::new(
            format!("{at}.{field}"),
            format!("it is {given}; it must be from {least} to {most}"),
        )),
        given => Ok(given),
    };
    let max_parallel = number("max_parallel", step.max_parallel, 1, MAX_PARALLEL)?;
    if max_parallel.is_some() && !is_each {
        return Err(Fault::new(format!("{at}.max_parallel"), "it goes with `for_each`, which is not there"));
    }
    let attempts = number("retry.max_attempts", step.retry.map(|retry| retry.max_attempts), 1, MAX_ATTEMPTS)?;
    let backoff = step.retry.and_then(|retry| retry.backoff_seconds);
    let backoff = number("retry.backoff_seconds", backoff, 0, MAX_BACKOFF_SECONDS)?;
    let timeout = number("timeout_seconds", step.timeout_seconds, 1, MAX_TIMEOUT_SECONDS)?;
    let planned = PlannedStep {
        id: step.id.clone(),
        uses: uses(step, at)?,
        with,
        needs: Vec::new(),
        condition,
        for_each,
        max_parallel: max_parallel.map_or(DEFAULT_PARALLEL, |most| most.unsigned_abs() as usize),
        max_attempts: attempts.map_or(1, |most| most.unsigned_abs() as u32),
        backoff_ms: backoff.unwrap_or(1) * 1000,
        timeout_ms: timeout.map(|seconds| seconds * 1000),
        on_error: step.on_error,
        requires_approval: step.requires_approval,
    };
    Ok((planned, needs))
}

fn uses(step: &WorkflowStep, at: &str) -> Result<Uses, Fault> {
    let waits = match step.uses.as_str() {
        "sleep" => Uses::Sleep,
        "approval" => Uses::Approval,
        "signal" => Uses::Signal,
        other => {
            return Target::parse(other).map(Uses::Target).ok_or_else(|| {
                let shown: String = other.chars().take(80).collect();
                let rule = "`tool:NAME`, `agent:ID`, `workflow:ID`, `sleep`, `approval` or `signal`";
                Fault::new(format!("{at}.uses"), format!("`{shown}` is nothing to use; it must be {rule}"))
            });
        }
    };
    let out_of_place = [
        ("retry", step.retry.is_some()),
        ("requires_approval", step.requires_approval),
        ("timeout_seconds", step.timeout_seconds.is_some() && waits == Uses::Sleep),
    ];
    match out_of_place.into_iter().find(|(_, given)| *given) {
        Some((field, _)) => {
            Err(Fault::new(format!("{at}.{field}"), format!("a step that uses `{}` has none", step.uses)))
        }
        None => Ok(waits),
    }
}

fn read_for_each(given: &Value, at: &str) -> Result<Shape, Fault> {
    let at = format!("{at}.for_each");
    match given {
        Value::String(text) => {
            Template::parse_expression(text).map(Shape::Text).map_err(|error| Fault::new(at, error))
        }
        Value::Array(_) => Ok(Shape::parse(given, &at)?),
        _ => Err(Fault::new(at, "it must be a list, or an expression that gives one")),
    }
}

/// The steps that expressions name, all of whose variables must be known.
fn named_steps(
    variables: &BTreeSet<String>,
    at: &str,
    is_each: bool,
    ids: &BTreeMap<&str, usize>,
) -> Result<BTreeSet<usize>, Fault> {
    let mut named = BTreeSet::new();
    for variable in variables {
        let mut words = variable.split('.');
        match (words.next().unwrap_or_default(), words.next(), words.next()) {
            ("input", ..) => {}
            ("item" | "index", ..) if is_each => {}
            ("item" | "index", ..) => {
                let message = format!("`{variable}` is there only in the `with` of a step with `for_each`");
                return Err(Fault::new(at, message));
            }
            ("steps", Some(id), field) => {
                let place = ids.get(id).ok_or_else(|| Fault::new(at, unknown_step(id, ids)))?;
                if field.is_some_and(|field| !["output", "error"].contains(&field)) {
                    let message = format!("`{variable}`: a step has an `output` and an `error`");
                    return Err(Fault::new(at, message));
                }
                named.insert(*place);
            }
            _ => {
                let known =
                    "`input`, `steps.ID.output`, `steps.ID.error`, and, with `for_each`, `item` and `index`";
                let message = format!("there is no variable `{variable}`; there are {known}");
                return Err(Fault::new(at, message));
            }
        }
    }
    Ok(named)
}

fn unknown_step(id: &str, ids: &BTreeMap<&str, usize>) -> String {
    let shown: String = id.chars().take(80).collect();
    let known: Vec<_> = ids.keys().take(20).copied().collect();
    format!("there is no step `{shown}`; the steps are {}", known.join(", "))
}

/// The places of the steps, each behind those that it needs, else as written
/// (Kahn's algorithm).
fn in_order(workflow: &WorkflowDefinition, needs: &[BTreeSet<usize>]) -> Result<Vec<usize>, Fault> {
    let mut order: Vec<usize> = Vec::with_capacity(needs.len());
    let mut left: Vec<usize> = (0..needs.len()).collect();
    while !left.is_empty() {
        let free = left.iter().position(|&place| needs[place].iter().all(|need| order.contains(need)));
        match free {
            Some(position) => order.push(left.remove(position)),
            None => {
                let ids: Vec<_> =
                    cycle(&left, needs).iter().map(|&at| workflow.steps[at].id.as_str()).collect();
                let place = format!("steps[{}]", cycle(&left, needs).first().copied().unwrap_or_default());
                let message = format!("these steps wait for each other: {}", ids.join(" → "));
                return Err(Fault::new(place, message));
            }
        }
    }
    Ok(order)
}

/// Of steps that all need one of them: some that need each other in turn.
fn cycle(left: &[usize], needs: &[BTreeSet<usize>]) -> Vec<usize> {
    let mut path: Vec<usize> = left.first().copied().into_iter().collect();
    while let Some(next) = path.last().and_then(|at| needs[*at].iter().find(|need| left.contains(need))) {
        if let Some(start) = path.iter().position(|at| at == next) {
            path.push(*next);
            return path.split_off(start);
        }
        path.push(*next);
    }
    path
}
