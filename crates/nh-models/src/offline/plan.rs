//! From a goal and the calls made so far to what comes next.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::answer;
use super::arguments::fill;
use super::choose::{Choice, choose};
use super::clauses::{self, refers_back};
use super::conversation::{Conversation, Done};
use super::toolbox::{Role, Tool};
use super::{places, words};

/// Calls in one answer.
const MAX_CALLS: usize = 16;

/// What the planner says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reply {
    Calls(Vec<PlannedCall>),
    Text(String),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PlannedCall {
    pub(super) tool: String,
    pub(super) arguments: Map<String, Value>,
}

/// One clause of the goal, and what is to be done about it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    Call {
        clause: String,
        call: PlannedCall,
    },
    /// Its arguments come out of what the step before it brings.
    Later {
        clause: String,
        tool: usize,
    },
    /// Nothing can be done; why.
    Cannot {
        clause: String,
        reason: String,
    },
}

impl Step {
    fn clause(&self) -> &str {
        match self {
            Self::Call { clause, .. } | Self::Later { clause, .. } | Self::Cannot { clause, .. } => clause,
        }
    }
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Output { tool: String, text: String },
    Cannot(String),
}

pub(super) fn reply(talk: &Conversation) -> Reply {
    let steps = plan(&talk.goal, &talk.tools);
    match follow(&steps, talk) {
        Next::Calls(calls) => Reply::Calls(calls),
        Next::Over(outcomes) => {
            let told: Vec<_> = steps.iter().map(Step::clause).zip(outcomes).collect();
            Reply::Text(answer::write(&talk.goal, &told, &talk.tools))
        }
        // The calls are not the ones that this planner would have made.
        Next::Strange => Reply::Text(answer::of_calls(&talk.done)),
    }
}

/// The steps of a goal, the same at every turn.
fn plan(goal: &str, tools: &[Arc<Tool>]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for clause in clauses::split(goal, tools) {
        let step = step(&clause, tools, &steps);
        let calls = steps.iter().filter(|step| !matches!(step, Step::Cannot { .. })).count();
        steps.push(match step {
            Step::Call { clause, .. } | Step::Later { clause, .. } if calls >= MAX_CALLS => {
                Step::Cannot { clause, reason: format!("I make at most {MAX_CALLS} calls for one goal") }
            }
            step => step,
        });
    }
    steps
}

fn step(clause: &clauses::Clause, tools: &[Arc<Tool>], before: &[Step]) -> Step {
    let text = clause.text.clone();
    match choose(&clause.text, clause.inherited, tools) {
        Choice::Call { tool, .. } => {
            let follows = before.iter().any(|step| !matches!(step, Step::Cannot { .. }));
            let Some(placed) = with_place(&tools[tool], &text, before) else {
                let reason = "I do not know which place “there” is".to_owned();
                return Step::Cannot { clause: text, reason };
            };
            match fill(&tools[tool], &placed, None) {
                Ok(arguments) if !(follows && refers_back(&text) && is_borrowed(&tools[tool], &text)) => {
                    Step::Call {
                        clause: text,
                        call: PlannedCall { tool: tools[tool].name.clone(), arguments },
                    }
                }
                _ if follows && refers_back(&text) => Step::Later { clause: text, tool },
                Ok(arguments) => Step::Call {
                    clause: text,
                    call: PlannedCall { tool: tools[tool].name.clone(), arguments },
                },
                Err(reason) => Step::Cannot { clause: text, reason },
            }
        }
        Choice::Ambiguous(several) => {
            let names: Vec<String> = several.iter().map(|tool| format!("`{}`", tools[*tool].name)).collect();
            let reason = format!("{} fit it equally well; say which one is meant", names.join(" and "));
            Step::Cannot { clause: text, reason }
        }
        Choice::Lacks(tool, role) => {
            let what = match role {
                Role::Url => "a web address (https://…)",
                _ => "an expression such as 17 * 23",
            };
            let reason =
                format!("`{}` would fit, but it needs {what}, which I cannot find in it", tools[tool].name);
            Step::Cannot { clause: text, reason }
        }
        Choice::Nothing => Step::Cannot { clause: text, reason: String::new() },
    }
}

/// The clause with the place that its "there" means, the last one named before.
/// None when none was.
fn with_place(tool: &Tool, clause: &str, before: &[Step]) -> Option<String> {
    let says_there = words::words(clause).iter().any(|word| word.text.eq_ignore_ascii_case("there"));
    if !says_there || !tool.has(Role::Zone) || places::find(clause).is_some() {
        return Some(clause.to_owned());
    }
    let place = before.iter().rev().find_map(|step| places::find(step.clause()))?;
    Some(format!("{clause} in {}", place.zone))
}

/// Whether what the clause lacks a word for ("multiply the result by 2") is the
/// earlier step's output.
fn is_borrowed(tool: &Tool, clause: &str) -> bool {
    let lower = clause.to_lowercase();
    let speaks_of_result = ["result", "answer", " it ", "that number", " that "]
        .iter()
        .any(|word| format!(" {lower} ").contains(word));
    tool.has(Role::Expression) && speaks_of_result
}

enum Next {
    Calls(Vec<PlannedCall>),
    Over(Vec<Outcome>),
    Strange,
}

/// Lays the calls made so far beside the plan: first every step that was ready
/// at once, in order, then those that waited for an earlier one.
fn follow(steps: &[Step], talk: &Conversation) -> Next {
    let mut done = talk.done.iter();
    let mut outcomes: Vec<Option<Outcome>> = vec![None; steps.len()];
    let mut wanted = Vec::new();
    for (step, outcome) in steps.iter().zip(&mut outcomes) {
        match step {
            Step::Call { call, .. } => match done.next() {
                Some(made) if made.tool == call.tool => *outcome = Some(outcome_of(made)),
                Some(_) => return Next::Strange,
                None => wanted.push(call.clone()),
            },
            Step::Cannot { reason, .. } => *outcome = Some(Outcome::Cannot(reason.clone())),
            Step::Later { .. } => {}
        }
    }
    if !wanted.is_empty() {
        if !talk.may_call_several {
            wanted.truncate(1);
        }
        return Next::Calls(wanted);
    }
    for at in 0..steps.len() {
        let Step::Later { clause, tool } = &steps[at] else { continue };
        let tool = &talk.tools[*tool];
        outcomes[at] = Some(match later(tool, clause, &outcomes[..at]) {
            Err(reason) => Outcome::Cannot(reason),
            Ok(arguments) => match done.next() {
                Some(made) if made.tool == tool.name => outcome_of(made),
                Some(_) => return Next::Strange,
                None => return Next::Calls(vec![PlannedCall { tool: tool.name.clone(), arguments }]),
            },
        });
    }
    if done.next().is_some() {
        return Next::Strange;
    }
    Next::Over(outcomes.into_iter().flatten().collect())
}

fn outcome_of(made: &Done) -> Outcome {
    Outcome::Output { tool: made.tool.clone(), text: made.output.clone().unwrap_or_default() }
}

fn later(tool: &Tool, clause: &str, before: &[Option<Outcome>]) -> Result<Map<String, Value>, String> {
    let source = before.iter().rev().flatten().find_map(|outcome| match outcome {
        Outcome::Output { text, .. } => Some(text.as_str()),
        Outcome::Cannot(_) => None,
    });
    match source {
        Some(source) if answer::error_in(source).is_none() => fill(tool, clause, Some(source)),
        _ => Err("the step that it builds on brought nothing".to_owned()),
    }
}
