//! What is recorded, and what is too large for that.

use nh_store::runs::{EventRow, LargeValue};
use nh_types::run::RunError;
use serde_json::Value;

use super::Driver;
use crate::journal::{Event, Step};
use crate::values::{self, LARGE_BYTES};

/// The code of a step, or of a run, that gave more than may be kept.
const OUTPUT_TOO_LARGE: &str = "output_too_large";
/// The code of a step that was to be given more than may be kept.
const ARGUMENTS_TOO_LARGE: &str = "arguments_too_large";

impl Driver {
    /// Takes an event into the history and, before long, into the store. A step
    /// whose arguments or output are too large is recorded as one that failed
    /// because of that.
    pub(super) fn record(&mut self, event: Event) {
        // Only a result can be refused.
        let _ = self.try_record(event);
    }

    /// The same; a result that is too large is not recorded.
    pub(super) fn try_record(&mut self, event: Event) -> Result<(), RunError> {
        let (seq, at) = (self.history.last_seq() + 1, self.core.clock.now());
        let row = event.to_row(seq, at);
        // Of the many that are small, nothing more is looked at.
        if row.data.as_str().len() <= LARGE_BYTES {
            self.observe(&event, at);
            self.take_in(&event, row);
            return Ok(());
        }
        match values::split_event(&event, &row) {
            Some((split, value)) => self.record_large(event, &row, split, value),
            None => {
                self.observe(&event, at);
                self.take_in(&event, row);
                Ok(())
            }
        }
    }

    /// Takes over an event of another run as this one's next.
    pub(super) fn take_over(&mut self, row: EventRow, event: &Event) {
        let row = EventRow { seq: self.history.last_seq() + 1, ..row };
        let is_large = row.data.as_str().len() > LARGE_BYTES;
        let Some((split, value)) = is_large.then(|| values::split_event(event, &row)).flatten() else {
            return self.take_in(event, row);
        };
        self.history.count_large(&row);
        self.take_in(event, split);
        self.large.push(value);
    }

    fn take_in(&mut self, event: &Event, row: EventRow) {
        self.history.apply(row.seq, row.at, event);
        self.unsaved.push(row);
    }

    fn record_large(
        &mut self,
        event: Event,
        whole: &EventRow,
        split: EventRow,
        value: LargeValue,
    ) -> Result<(), RunError> {
        let is_result = matches!(event, Event::Succeeded { .. });
        let Some(refusal) = self.refusal(value.bytes, is_result) else {
            self.history.count_large(whole);
            if is_result {
                self.run.apart.result = Some(value.bytes);
            }
            self.observe(&event, split.at);
            self.take_in(&event, split);
            self.large.push(value);
            return Ok(());
        };
        let refused = |what: &str, code| RunError::new(code, format!("The {what} {refusal}"));
        match event {
            Event::StepStarted(step) => {
                let (id, error) = (step.id.clone(), refused("arguments", ARGUMENTS_TOO_LARGE));
                self.record(Event::StepStarted(Step { arguments: Value::Null, ..step }));
                self.record(Event::failed(id, error));
                Ok(())
            }
            Event::StepCompleted { step, usage, within, .. } => {
                let error = refused("output", OUTPUT_TOO_LARGE);
                self.record(Event::StepFailed { step, error, usage, within });
                Ok(())
            }
            Event::Succeeded { .. } => Err(refused("result", OUTPUT_TOO_LARGE)),
            other => {
                // A signal was bounded when it was sent.
                self.take_in(&other, split);
                self.large.push(value);
                Ok(())
            }
        }
    }

    /// Why a value of so many bytes is not kept, after a noun. The result is
    /// what a run is for: it does not fall to what came before.
    fn refusal(&self, bytes: u64, is_result: bool) -> Option<String> {
        let (most, most_of_run) = (self.core.limits.value_bytes, self.core.limits.run_values_bytes);
        if bytes > most {
            return Some(format!("came to {bytes} bytes as JSON; at most {most} are kept."));
        }
        let before = self.history.large_bytes() + self.run.apart.input.unwrap_or_default();
        (!is_result && before + bytes > most_of_run).then(|| {
            format!(
                "came to {bytes} bytes as JSON, and the run's large values to {before} before; together at \
                 most {most_of_run} are kept."
            )
        })
    }

    /// Why a run with so large an input is not begun.
    pub(super) fn too_large_to_begin(&self, input_bytes: u64) -> Option<RunError> {
        let refusal = self.refusal(input_bytes, false)?;
        Some(RunError::new(ARGUMENTS_TOO_LARGE, format!("The arguments {refusal}")))
    }
}
