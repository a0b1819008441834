//! What a plan must have come to: computed from the plan and from what the
//! world knows, without the engine.

use std::collections::BTreeMap;

use nh_engine::{Event, Outcome, StepsTaken};
use nh_store::runs::{EventRow, RunRecord};
use nh_types::run::RunState;
use nh_types::{RunId, Timestamp};
use serde_json::{Value, json};

use super::plan::{output, rounds};
use super::world::{Asked, World, row_step};

/// A step as the journal has it.
struct Told {
    seq: i64,
    at: Timestamp,
    child: Option<RunId>,
    outcome: Option<(i64, Timestamp, Outcome)>,
    input_tokens: u64,
}

struct Model<'t> {
    world: &'t World,
    run: &'t RunRecord,
    by_id: &'t BTreeMap<RunId, &'t RunRecord>,
    children: &'t BTreeMap<(RunId, String), Vec<&'t RunRecord>>,
    steps: BTreeMap<String, Told>,
    /// How often it was taken up since a step last ended.
    resumed: u32,
    faults: Vec<String>,
}

/// What a plan gives.
enum Expected {
    Success(Vec<Value>),
    /// With one of these codes.
    Failure(Vec<String>),
    /// A step has no outcome.
    Open,
}

pub(super) fn faults_of(
    world: &World,
    run: &RunRecord,
    journal: &[EventRow],
    by_id: &BTreeMap<RunId, &RunRecord>,
    children: &BTreeMap<(RunId, String), Vec<&RunRecord>>,
) -> Vec<String> {
    let mut model =
        Model { world, run, by_id, children, steps: BTreeMap::new(), resumed: 0, faults: Vec::new() };
    model.read(journal);
    let expected = model.expect_all();
    model.check_end(&expected);
    model.check_family();
    model.faults
}

impl Model<'_> {
    fn holds(&mut self, is_true: bool, what: impl FnOnce() -> String) {
        if !is_true {
            self.faults.push(what());
        }
    }

    /// Folds the journal, and checks that it is one.
    fn read(&mut self, journal: &[EventRow]) {
        let mut words = BTreeMap::new();
        for (row, seq) in journal.iter().zip(1..) {
            self.holds(row.seq == seq, || format!("event {} stands where {seq} should", row.seq));
            let is_end = ["run.succeeded", "run.failed", "run.cancelled"].contains(&row.kind.as_str());
            let is_last = seq == journal.len() as i64;
            self.holds(is_end == is_last, || format!("`{}` is event {seq} of {}", row.kind, journal.len()));
            self.holds((row.kind == "run.created") == (seq == 1), || {
                format!("`{}` is event {seq}", row.kind)
            });
            match Event::read(row).expect("a readable event") {
                Event::StepStarted(step) => {
                    let child = match step.wait {
                        Some(nh_engine::Wait::Run { run_id }) => run_id,
                        _ => None,
                    };
                    let told = Told { seq, at: row.at, child, outcome: None, input_tokens: 0 };
                    let before = self.steps.insert(step.id.clone(), told);
                    self.holds(before.is_none(), || format!("step {} is started twice", step.id));
                }
                Event::StepCompleted { output, usage, within, .. } => {
                    self.ends(row, Outcome::Completed(output), usage.input_tokens, &within);
                }
                Event::StepFailed { error, usage, within, .. } => {
                    self.ends(row, Outcome::Failed(error), usage.input_tokens, &within);
                }
                Event::SignalReceived { data, .. } => {
                    let before = words.insert(data.as_str().to_owned(), seq);
                    let is_decision = data.as_str().contains("approved");
                    self.holds(before.is_none() || is_decision, || {
                        format!("{} is heard twice", data.as_str())
                    });
                }
                Event::Resumed { .. } => self.resumed += 1,
                _ => {}
            }
        }
        let last = journal.last().map_or("", |row| row.kind.as_str());
        let state = match last {
            "run.succeeded" => RunState::Success,
            "run.failed" => RunState::Failed,
            _ => RunState::Cancelled,
        };
        self.holds(state == self.run.state, || format!("is {:?} after `{last}`", self.run.state));
    }

    fn ends(&mut self, row: &EventRow, outcome: Outcome, input_tokens: u64, within: &[StepsTaken]) {
        let id = row_step(row).unwrap_or_default();
        let Some(step) = self.steps.get_mut(&id) else {
            return self.faults.push(format!("step {id} ends and was not started"));
        };
        self.resumed = 0;
        let again = step.outcome.replace((row.seq, row.at, outcome)).is_some();
        step.input_tokens = input_tokens;
        let counted: u64 = within.iter().map(|taken| taken.usage.input_tokens).sum();
        let is_child = step.child.is_some();
        self.holds(!again, || format!("step {id} ends twice"));
        self.holds(!is_child || counted == input_tokens, || {
            format!("step {id} took {input_tokens} tokens, and {counted} within it")
        });
    }

    /// Goes through the plan, round by round.
    fn expect_all(&mut self) -> Expected {
        let plan = self.run.input.clone();
        let (mut outputs, mut known, mut last_end) = (Vec::new(), 0, 0);
        let mut expected = None;
        for (round, whats) in rounds(&plan).enumerate() {
            let (mut codes, mut is_open, mut ends) = (Vec::new(), false, last_end);
            for (place, what) in whats.iter().enumerate() {
                let ids = self.attempts(&format!("{round}.{place}"), what);
                known += ids.len();
                for id in &ids {
                    let seq = self.steps[id].seq;
                    let is_after = seq > last_end && expected.is_none();
                    self.holds(is_after, || {
                        format!("step {id} is started before the round before it is over")
                    });
                    self.check_outcome(id, what);
                    ends = ends.max(self.steps[id].outcome.as_ref().map_or(0, |(seq, ..)| *seq));
                }
                match ids.last().and_then(|id| self.steps[id].outcome.as_ref()) {
                    None => is_open = true,
                    Some((.., Outcome::Completed(output))) => outputs.push(output.clone()),
                    Some((.., Outcome::Failed(error))) if self.is_final(&ids, what) => {
                        codes.push(error.code.clone());
                    }
                    Some(_) => is_open = true,
                }
            }
            last_end = ends;
            if !codes.is_empty() && (!is_open || plan["eager"] == true) {
                // The first in the round's order, unless it is too eager for that.
                codes.truncate(if plan["eager"] == true { codes.len() } else { 1 });
                expected = expected.or(Some(Expected::Failure(codes)));
            } else if is_open {
                expected = expected.or(Some(Expected::Open));
            }
        }
        let all = self.steps.len();
        self.holds(all == known, || format!("{all} steps were started, of which the plan knows {known}"));
        expected.unwrap_or(Expected::Success(outputs))
    }

    /// The started attempts of a step of the plan.
    fn attempts(&self, id: &str, what: &Value) -> Vec<String> {
        let mut ids = vec![id.to_owned()];
        ids.extend((1..=tries(what)).map(|attempt| format!("{id}~{attempt}")));
        ids.retain(|id| self.steps.contains_key(id));
        ids
    }

    fn is_final(&self, ids: &[String], what: &Value) -> bool {
        ids.len() > tries(what)
    }

    /// Whether a step may have ended so.
    fn check_outcome(&mut self, id: &str, what: &Value) {
        let step = &self.steps[id];
        let Some((_, at, outcome)) = step.outcome.clone() else { return };
        let due = |ms: &str| step.at.plus_millis(ms.parse().unwrap()) <= at;
        let words: Vec<&str> = what.as_str().unwrap_or("child").split(' ').collect();
        let key = format!("{}:{id}", self.run.id);
        let is_done = self.world.facts().effects.get(&key).is_some_and(|effect| effect.ended > 0);
        let gave = |value: &Value| outcome == Outcome::Completed(value.clone());
        let failed = |code: &str| matches!(&outcome, Outcome::Failed(error) if error.code == code);
        let attempt: usize = id.split_once('~').map_or(0, |(_, attempt)| attempt.parse().unwrap());
        let is_right = match words.as_slice() {
            ["work", _] => is_done && gave(&output(self.run.id, id)),
            ["once", _] if failed("outcome_unknown") => self.asked(|asked| asked.denied.contains_key(id)),
            ["once", _] => is_done && gave(&output(self.run.id, id)),
            ["fail", _] => is_done && failed("no_luck"),
            ["flaky", ..] if attempt < tries(what) => is_done && failed("no_luck"),
            ["flaky", ..] => is_done && gave(&output(self.run.id, id)),
            ["sleep", ms] => gave(&Value::Null) && due(ms),
            ["until", ms] => gave(&Value::Null) && self.run.created_at.plus_millis(ms.parse().unwrap()) <= at,
            ["signal", _, ms] if failed("timeout") => due(ms),
            ["signal", name, ..] => self.was_told(name, &outcome),
            _ => self.is_end_of_child(id, &outcome),
        };
        self.holds(is_right, || format!("step {id} `{what}` ended so: {outcome:?}"));
    }

    fn asked<T>(&self, read: impl FnOnce(&Asked) -> T) -> T {
        self.world.asked(self.run.id, |asked| read(asked))
    }

    /// A word that was said to the run, and that no other step has taken.
    fn was_told(&self, name: &str, outcome: &Outcome) -> bool {
        let Outcome::Completed(word) = outcome else { return false };
        let ends = self.steps.values().filter_map(|step| step.outcome.as_ref());
        let taken = ends.filter(|(.., other)| other == outcome).count();
        let said = |asked: &Asked| {
            asked.signals.get(name).is_some_and(|words| words.iter().any(|one| json!(one) == *word))
        };
        taken == 1 && self.asked(said)
    }

    fn is_end_of_child(&self, id: &str, outcome: &Outcome) -> bool {
        let child = self.steps[id].child.and_then(|child| self.by_id.get(&child));
        let Some(child) = child else { return false };
        let is_paid = self.steps[id].input_tokens == child.usage.input_tokens;
        is_paid
            && match (outcome, child.state) {
                (Outcome::Completed(output), RunState::Success) => Some(output) == child.result.as_ref(),
                (Outcome::Failed(error), RunState::Failed) => {
                    child.error.as_ref().is_some_and(|of_child| of_child.code == error.code)
                }
                (Outcome::Failed(error), RunState::Cancelled) => error.code == "cancelled",
                _ => false,
            }
    }

    /// Whether the run ended as its plan and its fate say.
    fn check_end(&mut self, expected: &Expected) {
        let code = self.run.error.as_ref().map(|error| error.code.as_str());
        let may_have_died = {
            let facts = self.world.facts();
            facts.crashes > 0 || !facts.lapsed.is_empty()
        };
        let is_cancelled = self.asked(|asked| !asked.cancels.is_empty());
        let is_right = match (self.run.state, expected) {
            (RunState::Success, Expected::Success(outputs)) => {
                self.run.result == Some(outputs.clone().into())
            }
            (RunState::Failed, _) if code == Some("timeout") && self.run.timeout_ms.is_some() => true,
            (RunState::Failed, _) if code == Some("crash_loop") => {
                may_have_died && (self.resumed >= 5 || self.has_child_that_failed_with("crash_loop"))
            }
            (RunState::Failed, Expected::Failure(codes)) => {
                codes.iter().any(|one| Some(one.as_str()) == code)
            }
            (RunState::Cancelled, _) => is_cancelled || self.was_cancelled_by_its_parent(),
            _ => false,
        };
        let (state, error) = (self.run.state, self.run.error.clone());
        self.holds(is_right, || format!("ended as {state:?} with {error:?}"));
        let done =
            |step: &&Told| matches!(step.outcome, Some((.., Outcome::Completed(_)))) || step.child.is_some();
        let used: u64 = self.steps.values().filter(done).map(|step| step.input_tokens).sum();
        let told = self.run.usage.input_tokens;
        self.holds(told == used, || format!("used {told} tokens, and its steps {used}"));
    }

    fn has_child_that_failed_with(&self, code: &str) -> bool {
        let children = self.steps.values().filter_map(|step| self.by_id.get(&step.child?));
        children.filter_map(|child| child.error.as_ref()).any(|error| error.code == code)
    }

    fn was_cancelled_by_its_parent(&self) -> bool {
        let parent = self.run.parent.as_ref().and_then(|parent| self.by_id.get(&parent.run_id));
        parent.is_some_and(|parent| matches!(parent.state, RunState::Failed | RunState::Cancelled))
    }

    /// A run that a step begins is there exactly once, and knows it.
    fn check_family(&mut self) {
        let begun: Vec<(String, RunId)> =
            self.steps.iter().filter_map(|(id, step)| Some((id.clone(), step.child?))).collect();
        for (step, child) in begun {
            let known = self.children.get(&(self.run.id, step.clone()));
            let is_one = known.is_some_and(|known| known.len() == 1 && known[0].id == child);
            self.holds(is_one, || format!("step {step} began run {child}, which is not its only child"));
        }
        let Some(parent) = self.run.parent.clone() else { return };
        self.holds(self.by_id.contains_key(&parent.run_id), || {
            format!("its parent {} is gone", parent.run_id)
        });
    }
}

/// How often a step of the plan is tried again.
fn tries(what: &Value) -> usize {
    let mut words = what.as_str().unwrap_or_default().split(' ');
    match words.next() {
        Some("flaky") => words.next().map_or(0, |tries| tries.parse().unwrap()),
        _ => 0,
    }
}
