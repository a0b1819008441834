//! What the engine counts of steps and waits, for Prometheus. The handles are
//! made once: to look one up for each event would cost more than to count it.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use metrics::{Counter, Histogram, counter, histogram};

use crate::history::StepRecord;
use crate::journal::{Wait, approval_of};

/// Programs name few kinds of steps; this bounds the series if one does not.
const MAX_KINDS: usize = 32;
const OTHER: &str = "other";

#[derive(Default)]
pub(crate) struct Meters {
    steps: RwLock<Vec<(String, Arc<StepMeter>)>>,
    /// By the place in [`WAITS`].
    waits: [OnceLock<WaitMeter>; WAITS.len()],
}

const WAITS: [&str; 4] = ["sleep", "signal", "approval", "run"];

pub(crate) struct StepMeter {
    completed: Counter,
    failed: Counter,
    dropped: Counter,
    seconds: Histogram,
}

struct WaitMeter {
    completed: Counter,
    failed: Counter,
    seconds: Histogram,
}

/// A step that is being performed. Dropped without an end it was cancelled, or
/// given back at a stop.
pub(crate) struct Performance {
    meter: Arc<StepMeter>,
    began: Instant,
    is_over: bool,
}

impl Meters {
    /// Counts a step from here to its end.
    pub(crate) fn begin_step(&self, kind: &str) -> Performance {
        Performance { meter: self.step(kind), began: Instant::now(), is_over: false }
    }

    fn step(&self, kind: &str) -> Arc<StepMeter> {
        let find = |meters: &[(String, Arc<StepMeter>)], kind: &str| {
            meters.iter().find(|(known, _)| known == kind).map(|(_, meter)| meter.clone())
        };
        if let Some(meter) = find(&self.steps.read().unwrap_or_else(PoisonError::into_inner), kind) {
            return meter;
        }
        let mut steps = self.steps.write().unwrap_or_else(PoisonError::into_inner);
        let kind = if steps.len() < MAX_KINDS { kind } else { OTHER };
        if let Some(meter) = find(&steps, kind) {
            return meter;
        }
        let meter = Arc::new(StepMeter::new(kind));
        steps.push((kind.to_owned(), meter.clone()));
        meter
    }

    /// Counts a step that waited and whose end is known now.
    pub(crate) fn end_wait(&self, record: &StepRecord, ms: i64, is_failed: bool) {
        let Some(kind) = wait_kind(record) else { return };
        let meter = self.waits[kind].get_or_init(|| WaitMeter::new(WAITS[kind]));
        if is_failed { &meter.failed } else { &meter.completed }.increment(1);
        meter.seconds.record(ms.max(0) as f64 / 1000.0);
    }
}

/// What a step waits for, in a word.
pub(crate) fn wait_word(record: &StepRecord) -> Option<&'static str> {
    wait_kind(record).map(|kind| WAITS[kind])
}

fn wait_kind(record: &StepRecord) -> Option<usize> {
    Some(match record.step.wait.as_ref()? {
        Wait::Sleep { .. } | Wait::SleepUntil { .. } => 0,
        Wait::Signal { name, .. } if *name == approval_of(&record.step.id) => 2,
        Wait::Signal { .. } => 1,
        Wait::Run { .. } => 3,
    })
}

impl StepMeter {
    fn new(kind: &str) -> Self {
        let ended = |outcome: &'static str| counter!("neuralhub_steps_total", "kind" => kind.to_owned(), "outcome" => outcome);
        Self {
            completed: ended("completed"),
            failed: ended("failed"),
            dropped: ended("dropped"),
            seconds: histogram!("neuralhub_step_seconds", "kind" => kind.to_owned()),
        }
    }
}

impl WaitMeter {
    fn new(kind: &'static str) -> Self {
        let ended =
            |outcome: &'static str| counter!("neuralhub_waits_total", "kind" => kind, "outcome" => outcome);
        Self {
            completed: ended("completed"),
            failed: ended("failed"),
            seconds: histogram!("neuralhub_wait_seconds", "kind" => kind),
        }
    }
}

impl Performance {
    pub(crate) fn end(mut self, is_failed: bool) {
        self.is_over = true;
        if is_failed { &self.meter.failed } else { &self.meter.completed }.increment(1);
        self.meter.seconds.record(self.began.elapsed());
    }
}

impl Drop for Performance {
    fn drop(&mut self) {
        if !self.is_over {
            self.meter.dropped.increment(1);
        }
    }
}
