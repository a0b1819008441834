//! What a new run takes over of another's journal.

use std::collections::BTreeSet;

use nh_store::runs::EventRow;
use nh_types::RunId;

use crate::history::{History, Outcome, StepRecord};
use crate::journal::{Event, UnreadableEvent};

/// The beginning of a run, for another to go on from.
#[derive(Clone, Debug)]
pub struct Fork {
    pub(crate) from: RunId,
    /// The first step that is not taken over, where that is known.
    pub(crate) step: Option<String>,
    /// How the steps before it went, in order; `seq` is still the old run's.
    pub(crate) kept: Vec<(EventRow, Event)>,
}

#[derive(Debug, thiserror::Error)]
pub enum ForkError {
    /// Its steps are `known`, in order.
    #[error("the run has no step `{step}`")]
    UnknownStep { step: String, known: Vec<String> },
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
}

impl Fork {
    /// Takes over the steps that were started before `step`, as far as they have
    /// come to an end; without a `step`, none.
    pub fn at_step(from: RunId, journal: &[EventRow], step: Option<&str>) -> Result<Self, ForkError> {
        let history = History::read(journal)?;
        let Some(step) = step else { return Ok(Self { from, step: None, kept: Vec::new() }) };
        let ids = || history.steps().iter().map(|record| record.step.id.as_str());
        let place = ids().position(|id| id == step).ok_or_else(|| ForkError::UnknownStep {
            step: step.to_owned(),
            known: ids().map(str::to_owned).collect(),
        })?;
        Ok(Self { from, step: Some(step.to_owned()), kept: kept(journal, &history.steps()[..place])? })
    }

    /// Takes over what went well in a run that failed or was cancelled: not the
    /// steps that never came to an end, nor the last one, if it failed or if
    /// the run failed because of what it brought.
    pub fn at_failure(from: RunId, journal: &[EventRow], run_failed: bool) -> Result<Self, UnreadableEvent> {
        let history = History::read(journal)?;
        let all_done = history.in_flight().next().is_none();
        let good = match history.steps() {
            [good @ .., last] if matches!(last.outcome(), Some(Outcome::Failed(_))) => good,
            [good @ .., _] if run_failed && all_done => good,
            all => all,
        };
        let open = good.iter().find(|record| record.finished.is_none());
        let step = open.or_else(|| history.steps().get(good.len())).map(|record| record.step.id.clone());
        Ok(Self { from, step, kept: kept(journal, good)? })
    }
}

/// The events of those steps that have come to an end.
fn kept(journal: &[EventRow], steps: &[StepRecord]) -> Result<Vec<(EventRow, Event)>, UnreadableEvent> {
    let finished = steps.iter().filter(|record| record.finished.is_some());
    let finished: BTreeSet<&str> = finished.map(|record| record.step.id.as_str()).collect();
    let events = journal.iter().map(|row| Ok((row.clone(), Event::read(row)?)));
    events
        .filter(|read| {
            read.as_ref().map_or(true, |(_, event)| event.step().is_some_and(|id| finished.contains(id)))
        })
        .collect()
}
