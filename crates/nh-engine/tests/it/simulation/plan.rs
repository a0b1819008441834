//! What the runs of a simulation do: made by chance, written as JSON in the
//! run's input, and carried out by [`PlanProgram`].
//!
//! `{"rounds": [[WHAT, …], …], "eager": false}`: the steps of a round go side by
//! side. WHAT is `work 15` (it takes 15 ms), `once 15` (it may not be repeated),
//! `fail 15`, `flaky 2 15` (it fails twice before it works, and is tried again),
//! `sleep 100`, `until 100` (after the run was made), `signal go`, `signal go
//! 500` (for so long at most), or `{"child": PLAN}`. An eager run fails with its
//! first step that fails, any other when the round is over. The result is the
//! list of what the steps gave.

use std::sync::Arc;
use std::time::Duration;

use nh_engine::program::Performing;
use nh_engine::{ChildRun, Decision, Ending, History, Live, Outcome, Performed, Program, Step, Wait, Work};
use nh_store::runs::{Group, RunRecord};
use nh_types::RunId;
use nh_types::model::Usage;
use nh_types::run::{RunError, RunType};
use serde_json::{Value, json};

use super::dice::Dice;
use super::world::World;

/// The names of signals that plans wait for.
pub(super) const SIGNALS: [&str; 3] = ["go", "stop", "more"];

pub(super) fn any_plan(dice: &Dice, depth: u64) -> Value {
    let rounds = dice.between(if depth == 0 { 1 } else { 0 }, 3 - depth.min(2));
    let rounds: Vec<Value> = (0..rounds)
        .map(|_| (0..dice.between(1, 3)).map(|_| any_step(dice, depth)).collect::<Vec<_>>().into())
        .collect();
    json!({ "rounds": rounds, "eager": dice.happens(200) })
}

fn any_step(dice: &Dice, depth: u64) -> Value {
    let slow = dice.happens(60);
    let ms = if slow { dice.between(1000, 15_000) } else { dice.between(0, 60) };
    let name = SIGNALS[dice.below(3) as usize];
    match dice.below(100) {
        0..40 => json!(format!("work {ms}")),
        40..52 => json!(format!("once {ms}")),
        52..56 => json!(format!("fail {ms}")),
        56..64 => json!(format!("flaky {} {ms}", dice.between(1, 2))),
        64..72 => json!(format!("sleep {}", dice.between(0, 1500))),
        72..76 => json!(format!("until {}", dice.between(0, 3000))),
        76..84 => json!(format!("signal {name}")),
        84..90 => json!(format!("signal {name} {}", dice.between(1, 2500))),
        _ if depth < 2 => json!({ "child": any_plan(dice, depth + 1) }),
        _ => json!(format!("work {ms}")),
    }
}

pub(super) fn rounds(plan: &Value) -> impl Iterator<Item = &Vec<Value>> {
    plan["rounds"].as_array().into_iter().flatten().filter_map(Value::as_array)
}

pub(super) fn has_child(plan: &Value) -> bool {
    rounds(plan).flatten().any(Value::is_object)
}

/// What a step that is performed gives.
pub(super) fn output(run: RunId, step: &str) -> Value {
    json!(format!("{run} did {step}"))
}

pub(super) struct PlanProgram {
    pub(super) machine: usize,
    pub(super) world: Arc<World>,
}

impl Program for PlanProgram {
    fn open(&self, _: &RunRecord) -> Box<dyn Work> {
        Box::new(Self { machine: self.machine, world: self.world.clone() })
    }
}

/// How far a step of the plan has come.
enum Progress {
    Open(Step),
    Done(Value),
    Failed(RunError),
}

impl Work for PlanProgram {
    fn decide(&self, run: &RunRecord, history: &History) -> Decision {
        let mut outputs = Vec::new();
        for (round, whats) in rounds(&run.input).enumerate() {
            let (mut open, mut failed) = (Vec::new(), None);
            for (place, what) in whats.iter().enumerate() {
                match progress(run, history, &format!("{round}.{place}"), what) {
                    Progress::Open(step) => open.push(step),
                    Progress::Done(output) => outputs.push(output),
                    Progress::Failed(error) => failed = failed.or(Some(error)),
                }
            }
            match failed {
                Some(error) if open.is_empty() || run.input["eager"] == true => {
                    return Decision::Finish(Ending::Failure(error));
                }
                _ if !open.is_empty() => return Decision::Perform(open),
                _ => {}
            }
        }
        Decision::Finish(Ending::Success(outputs.into()))
    }

    fn perform(&self, run: &RunRecord, _: &History, step: &Step, _: Live) -> Performing {
        let (world, machine, run, step) = (self.world.clone(), self.machine, run.clone(), step.clone());
        Box::pin(async move {
            let performing = world.begin(machine, &run, &step);
            let words: Vec<&str> = step.name.split(' ').collect();
            let ms = words.last().and_then(|ms| ms.parse().ok()).unwrap_or(0);
            if ms > 0 {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            performing.end();
            let attempt: u64 = step.id.split_once('~').map_or(0, |(_, attempt)| attempt.parse().unwrap());
            let fails = match words.as_slice() {
                ["fail", ..] => true,
                ["flaky", times, ..] => attempt < times.parse().unwrap(),
                _ => false,
            };
            if fails {
                return Err(RunError::new("no_luck", step.id));
            }
            let usage = Usage { input_tokens: 1, ..Usage::NONE };
            Ok(Performed { output: output(run.id, &step.id), usage })
        })
    }

    fn child(&self, run: &RunRecord, _: &History, step: &Step) -> Result<ChildRun, RunError> {
        let groups = match step.arguments["child"]["grouped"] == true {
            true => run.groups.clone(),
            false => Vec::<Group>::new(),
        };
        Ok(ChildRun {
            target: "plan".to_owned(),
            run_type: RunType::Tool,
            input: step.arguments["child"].clone(),
            definition: json!({}),
            timeout_ms: None,
            groups,
        })
    }
}

fn progress(run: &RunRecord, history: &History, id: &str, what: &Value) -> Progress {
    let words: Vec<&str> = what.as_str().unwrap_or("child").split(' ').collect();
    let tries = if words[0] == "flaky" { words[1].parse().unwrap() } else { 0 };
    for attempt in 0..=tries {
        let id = if attempt == 0 { id.to_owned() } else { format!("{id}~{attempt}") };
        match history.step(&id).and_then(|record| record.outcome()) {
            None => return Progress::Open(step(run, id, what, &words)),
            Some(Outcome::Completed(output)) => return Progress::Done(output.clone()),
            Some(Outcome::Failed(error)) if attempt == tries => return Progress::Failed(error.clone()),
            Some(Outcome::Failed(_)) => {}
        }
    }
    unreachable!("the last attempt was looked at")
}

fn step(run: &RunRecord, id: String, what: &Value, words: &[&str]) -> Step {
    let wait = match words {
        ["child"] => Some(Wait::Run { run_id: None }),
        ["sleep", ms] => Some(Wait::Sleep { for_ms: ms.parse().unwrap() }),
        ["until", ms] => Some(Wait::SleepUntil { at: run.created_at.plus_millis(ms.parse().unwrap()) }),
        ["signal", name, rest @ ..] => Some(Wait::Signal {
            name: (*name).to_owned(),
            for_ms: rest.first().map(|ms| ms.parse().unwrap()),
        }),
        _ => None,
    };
    Step {
        id,
        kind: "plan".to_owned(),
        name: words.join(" "),
        arguments: if words == ["child"] { what.clone() } else { Value::Null },
        repeatable: words[0] != "once",
        wait,
    }
}
