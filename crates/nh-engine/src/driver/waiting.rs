//! The steps that wait, and the run that does nothing else.

use std::time::Duration;

use nh_store::runs::{self, Parent, Then};
use nh_types::run::{RunError, RunState};
use nh_types::{RunId, Timestamp};

use super::{Driver, Lost, created};
use crate::journal::Event;
use crate::program::ChildRun;
use crate::{spans, values, waits};

impl Driver {
    /// Makes ready a run that the step waits for.
    pub(super) fn begin(&mut self, step: &str, child: ChildRun) -> Result<RunId, RunError> {
        let parent = Parent { run_id: self.run.id, step: step.to_owned() };
        let run = self.core.new_child(&self.run, parent, child);
        let event = created(&run).to_row(1, run.created_at);
        let id = run.id;
        let mut insert = runs::Insert::new(run, vec![event]);
        values::split_run(&mut insert);
        if let Some(error) = insert.run.apart.input.and_then(|bytes| self.too_large_to_begin(bytes)) {
            return Err(error);
        }
        self.children.push(insert);
        Ok(id)
    }

    /// Ends the steps that have what they waited for, and says whether there
    /// was one.
    pub(super) fn end_waits(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = waits::over(&self.history, self.core.clock.now()) {
            self.record(event);
            any = true;
        }
        any
    }

    /// Counts the wait that `event` ends, if it ends one.
    pub(super) fn observe(&self, event: &Event, at: Timestamp) {
        let (step, error) = match event {
            Event::StepCompleted { step, .. } => (step, None),
            Event::StepFailed { step, error, .. } => (step, Some(error)),
            _ => return,
        };
        let Some(record) = self.history.step(step).filter(|record| record.step.wait.is_some()) else {
            return;
        };
        self.core.meters.end_wait(record, at.millis_since(record.started_at), error.is_some());
        spans::waited(&self.run, record, error);
    }

    /// Until the next wait is over by itself.
    pub(super) fn until_wait_over(&self) -> impl Future<Output = ()> + use<> {
        let due = waits::next_due(&self.history);
        let ms = due.map(|at| at.millis_since(self.core.clock.now()).max(0).unsigned_abs());
        async move {
            match ms {
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Takes what was said to the run into its history.
    pub(super) async fn take_signals(&mut self) -> Result<(), Lost> {
        let mut tries = 0;
        let signals = loop {
            match self.core.waiting_signals(&self.run.workspace_id, self.run.id).await {
                Ok(signals) => break signals,
                Err(error) => {
                    tracing::error!(run = %self.run.id, %error, tries, "a run's signals could not be read yet");
                    self.pause(&mut tries).await?;
                }
            }
        };
        for signal in signals {
            if !self.took.contains(&signal.id) {
                self.record(waits::received(&self.history, &signal));
                self.gone.extend(signal.large.map(|large| large.name));
                self.took.push(signal.id);
            }
        }
        Ok(())
    }

    pub(super) async fn wait_for_decision(&mut self, step: String) -> Result<(), Lost> {
        if self.history.doubt() != Some(&step) {
            let reason = format!(
                "The hub stopped while step `{step}` was under way, and it must not be done twice: nobody can \
                 say whether it took effect. Approve the step to have it done again, or deny it to go on as if \
                 it had failed."
            );
            self.record(Event::Waiting { step, reason });
        }
        self.sleep().await
    }

    /// Gives the run up until what it waits for comes, or its deadline.
    pub(super) async fn sleep(&mut self) -> Result<(), Lost> {
        let wake_at = waits::next_due(&self.history).into_iter().chain(self.run.deadline_at).min();
        self.save(RunState::Waiting, Then::Sleep { wake_at }).await?;
        self.core.timers.set(wake_at);
        // Somebody may have told it something, or wished it cancelled, meanwhile.
        self.core.wake_queue();
        Ok(())
    }
}
