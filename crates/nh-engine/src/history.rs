//! A run's journal, folded: what a program decides by.

use std::collections::BTreeMap;

use nh_store::runs::EventRow;
use nh_types::model::Usage;
use nh_types::run::RunError;
use nh_types::{JsonText, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journal::{Event, Step, UnreadableEvent, Wait, approval_of};
use crate::values::LARGE_BYTES;

/// How a step came out.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Completed(Value),
    Failed(RunError),
}

#[derive(Clone, Debug, PartialEq)]
pub struct StepRecord {
    pub step: Step,
    /// Of the event that started it.
    pub seq: i64,
    pub started_at: Timestamp,
    pub finished: Option<(Timestamp, Outcome)>,
    pub usage: Usage,
    /// What the steps of the run that it began took.
    pub within: Vec<StepsTaken>,
}

/// What all steps of a run of one kind and name took that gave something, those
/// of runs within it included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepsTaken {
    pub kind: String,
    pub name: String,
    pub count: u64,
    pub usage: Usage,
    /// From their starts to their ends.
    pub ms: i64,
}

impl StepRecord {
    pub fn outcome(&self) -> Option<&Outcome> {
        self.finished.as_ref().map(|(_, outcome)| outcome)
    }

    /// When it is over by itself, if it waits.
    pub fn due(&self) -> Option<Timestamp> {
        match self.step.wait.as_ref()? {
            Wait::Sleep { for_ms } => Some(self.started_at.plus_millis(*for_ms)),
            Wait::SleepUntil { at } => Some(*at),
            Wait::Signal { for_ms, .. } => for_ms.map(|ms| self.started_at.plus_millis(ms)),
            Wait::Run { .. } => None,
        }
    }
}

/// A journal, folded: the steps in the order in which they were started.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    steps: Vec<StepRecord>,
    usage: Usage,
    last_seq: i64,
    resumes_in_a_row: u32,
    /// Of events with large values.
    large_bytes: u64,
    forked_from: Option<RunId>,
    /// Of `steps`, the first that was not taken over from another run.
    first_own: usize,
    /// Signals that no step has taken, in the order in which they came: their
    /// names and what they said.
    signals: Vec<(String, JsonText)>,
    /// The step on which the run waits for a decision.
    doubt: Option<String>,
}

impl Default for History {
    fn default() -> Self {
        // A known cost of nothing, which `Usage::default` is not.
        Self {
            steps: Vec::new(),
            usage: Usage::NONE,
            last_seq: 0,
            resumes_in_a_row: 0,
            large_bytes: 0,
            forked_from: None,
            first_own: 0,
            signals: Vec::new(),
            doubt: None,
        }
    }
}

impl History {
    pub fn read(rows: &[EventRow]) -> Result<Self, UnreadableEvent> {
        let mut history = Self::default();
        for row in rows {
            history.apply(row.seq, row.at, &Event::read(row)?);
            history.count_large(row);
        }
        Ok(history)
    }

    /// Counts an event whose whole row has become large.
    pub(crate) fn count_large(&mut self, row: &EventRow) {
        let bytes = row.data.as_str().len();
        if bytes > LARGE_BYTES && row.kind != "run.succeeded" {
            self.large_bytes += bytes as u64;
        }
    }

    /// What its large values came to, the result aside.
    pub fn large_bytes(&self) -> u64 {
        self.large_bytes
    }

    pub(crate) fn apply(&mut self, seq: i64, at: Timestamp, event: &Event) {
        self.last_seq = seq;
        match event {
            Event::StepStarted(step) => {
                self.steps.push(StepRecord {
                    step: step.clone(),
                    seq,
                    started_at: at,
                    finished: None,
                    usage: Usage::NONE,
                    within: Vec::new(),
                });
            }
            Event::StepCompleted { step, output, usage, within } => {
                self.finish(step, at, Outcome::Completed(output.clone()), (*usage, within));
            }
            Event::StepFailed { step, error, usage, within } => {
                self.finish(step, at, Outcome::Failed(error.clone()), (*usage, within));
            }
            Event::SignalReceived { name, data, .. } => self.signals.push((name.clone(), data.clone())),
            Event::Resumed { again } => {
                self.resumes_in_a_row += 1;
                again.iter().for_each(|step| self.settle_doubt(step));
            }
            Event::Forked { from, .. } => {
                self.forked_from = Some(*from);
                // The other run paid for what stands before.
                self.usage = Usage::NONE;
                self.first_own = self.steps.len();
            }
            Event::Waiting { step, .. } => self.doubt = Some(step.clone()),
            Event::Created { .. } | Event::Succeeded { .. } | Event::Failed { .. } | Event::Cancelled {} => {}
        }
    }

    fn finish(&mut self, id: &str, at: Timestamp, outcome: Outcome, took: (Usage, &[StepsTaken])) {
        let (usage, within) = took;
        self.usage = self.usage.plus(usage);
        self.resumes_in_a_row = 0;
        self.settle_doubt(id);
        let record = self.steps.iter_mut().rev().find(|record| record.step.id == id);
        let Some(record) = record else { return };
        if let (Some(Wait::Signal { name, .. }), Outcome::Completed(_)) = (&record.step.wait, &outcome) {
            let taken = self.signals.iter().position(|(waiting, _)| waiting == name);
            taken.map(|place| self.signals.remove(place));
        }
        record.finished = Some((at, outcome));
        (record.usage, record.within) = (usage, within.to_vec());
    }

    /// A decision on a step holds once.
    fn settle_doubt(&mut self, step: &str) {
        if self.doubt.as_deref() == Some(step) {
            self.doubt = None;
            let decision = approval_of(step);
            self.signals.retain(|(name, _)| *name != decision);
        }
    }

    pub fn steps(&self) -> &[StepRecord] {
        &self.steps
    }

    pub fn step(&self, id: &str) -> Option<&StepRecord> {
        self.steps.iter().rev().find(|record| record.step.id == id)
    }

    /// Started, and nothing is recorded of how it came out.
    pub fn in_flight(&self) -> impl Iterator<Item = &StepRecord> {
        self.steps.iter().filter(|record| record.finished.is_none())
    }

    /// Started, with no outcome yet, and to be performed.
    pub fn under_way(&self) -> impl Iterator<Item = &StepRecord> {
        self.in_flight().filter(|record| record.step.wait.is_none())
    }

    /// Started, with no outcome yet, and waiting for something.
    pub fn waiting(&self) -> impl Iterator<Item = &StepRecord> {
        self.in_flight().filter(|record| record.step.wait.is_some())
    }

    /// The step of which nobody knows whether it took effect, while the run
    /// waits for a decision on it.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// The first signal of that name that no step has taken.
    pub(crate) fn signal(&self, name: &str) -> Option<&JsonText> {
        self.signals.iter().find(|(waiting, _)| waiting == name).map(|(_, data)| data)
    }

    /// The run whose beginning this journal shares.
    pub fn forked_from(&self) -> Option<RunId> {
        self.forked_from
    }

    /// Of all completed steps; of a fork, of its own.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The same by the kind and name of the steps.
    pub fn steps_taken(&self) -> Vec<StepsTaken> {
        let mut taken: BTreeMap<(&str, &str), StepsTaken> = BTreeMap::new();
        let mut add = |kind, name, count: u64, usage: Usage, ms: i64| {
            let sum = taken.entry((kind, name)).or_insert_with(|| StepsTaken {
                kind: String::from(kind),
                name: String::from(name),
                count: 0,
                usage: Usage::NONE,
                ms: 0,
            });
            sum.count += count;
            sum.usage = sum.usage.plus(usage);
            sum.ms = sum.ms.saturating_add(ms);
        };
        for record in self.steps.iter().skip(self.first_own) {
            let Some((ended_at, outcome)) = &record.finished else { continue };
            for StepsTaken { kind, name, count, usage, ms } in &record.within {
                add(kind, name, *count, *usage, *ms);
            }
            if record.step.wait.is_none() && matches!(outcome, Outcome::Completed(_)) {
                let ms = ended_at.millis_since(record.started_at).max(0);
                add(&record.step.kind, &record.step.name, 1, record.usage, ms);
            }
        }
        taken.into_values().collect()
    }

    pub fn last_seq(&self) -> i64 {
        self.last_seq
    }

    /// How often the run was taken up since a step last came to an end.
    pub(crate) fn resumes_in_a_row(&self) -> u32 {
        self.resumes_in_a_row
    }

    /// Goes on after `seq`, whatever stands before it.
    pub(crate) fn skip_to(&mut self, seq: i64) {
        self.last_seq = seq;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(id: &str) -> Step {
        Step {
            id: id.into(),
            kind: "tool".into(),
            name: "calculate".into(),
            arguments: json!({"expression": "1+1"}),
            repeatable: true,
            wait: None,
        }
    }

    #[test]
    fn an_unknown_event_is_an_error_that_names_it() {
        let row = EventRow {
            seq: 3,
            kind: "run.vanished".into(),
            at: Timestamp::default(),
            data: json!({}).into(),
        };
        let error = History::read(&[row]).expect_err("unknown");
        assert!(error.to_string().contains("event 3 of type `run.vanished`"), "{error}");
    }

    #[test]
    fn a_history_knows_what_is_in_flight() {
        let at = Timestamp::from_millis(1);
        let rows = [
            Event::StepStarted(step("tool:1")).to_row(1, at),
            Event::StepStarted(step("tool:2")).to_row(2, at),
            Event::StepCompleted {
                step: "tool:1".into(),
                output: json!(2),
                usage: Usage::NONE,
                within: Vec::new(),
            }
            .to_row(3, at),
        ];
        let history = History::read(&rows).expect("readable");
        let open: Vec<_> = history.in_flight().map(|record| record.step.id.as_str()).collect();
        assert_eq!(open, ["tool:2"]);
        assert_eq!(history.last_seq(), 3);
        assert_eq!(history.step("tool:1").and_then(StepRecord::outcome), Some(&Outcome::Completed(json!(2))));
    }
}
