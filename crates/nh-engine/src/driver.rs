//! Drives one run from its journal to its end: ask the program, save what it
//! decided, perform, save what came of it, ask again. What a step gave and the
//! start of the next one share a commit.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use nh_store::StoreError;
use nh_store::runs::{self, Appended, EventRow, RunChange, RunEnding, RunRecord, Then};
use nh_types::crash;
use nh_types::run::{RunError, RunState};
use tokio_util::sync::CancellationToken;

use crate::engine::Core;
use crate::fork::Fork;
use crate::journal::{Event, History, Step};
use crate::program::{Decision, Ending, Performed, Work};

/// Waits between tries to save while the store is down.
const SAVE_RETRY: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(5)];

/// A run that takes its process down with it is not taken up for ever.
const MAX_CRASHES: u32 = 5;

type StepDone = (String, Result<Performed, RunError>);

/// The run is no longer this driver's: another node has it, or this process
/// is stopping.
#[derive(Debug)]
struct Lost;

pub(crate) struct Driver {
    core: Arc<Core>,
    run: RunRecord,
    /// Opened when it is first asked for, where a panic is caught.
    work: OnceLock<Box<dyn Work>>,
    history: History,
    unsaved: Vec<EventRow>,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = StepDone> + Send>>>,
    cancel: CancellationToken,
}

impl Driver {
    pub(crate) fn new(core: Arc<Core>, run: RunRecord, history: History, cancel: CancellationToken) -> Self {
        let (work, unsaved, in_flight) = (OnceLock::new(), Vec::new(), FuturesUnordered::new());
        Self { core, run, work, history, unsaved, in_flight, cancel }
    }

    /// The rows of a run that is not stored yet: its creation, what it takes
    /// over, and, when its first steps are `planned`, their start.
    pub(crate) fn first_rows(&mut self, fork: Option<Fork>, planned: bool) -> Vec<EventRow> {
        self.record(Event::Created {
            target: self.run.target.clone(),
            run_type: self.run.run_type.as_str().to_owned(),
        });
        if let Some(Fork { from, step, kept }) = fork {
            for (row, event) in kept {
                let seq = self.history.last_seq() + 1;
                self.history.apply(seq, row.at, &event);
                self.unsaved.push(EventRow { seq, ..row });
            }
            self.record(Event::Forked { from, step });
        }
        // A program that panics does so again, and is caught, when it is driven.
        let decide = || self.work().decide(&self.run, &self.history);
        let decision = planned.then(|| std::panic::catch_unwind(AssertUnwindSafe(decide)));
        if let Some(Ok(Decision::Perform(steps))) = decision {
            self.start_new(steps);
        }
        self.run.last_seq = self.history.last_seq();
        std::mem::take(&mut self.unsaved)
    }

    fn work(&self) -> &dyn Work {
        self.work.get_or_init(|| self.core.program.open(&self.run)).as_ref()
    }

    pub(crate) fn run(&self) -> &RunRecord {
        &self.run
    }

    /// Drives a run that was claimed: a queued one, or one whose process died.
    pub(crate) async fn drive_claimed(mut self) {
        let is_late = self.run.deadline_at.is_some_and(|at| at <= self.core.clock.now());
        if self.history.in_flight().next().is_none() || self.run.cancel_requested || is_late {
            return self.drive_to_end().await;
        }
        if self.run.state == RunState::Running && self.history.resumes_in_a_row() >= MAX_CRASHES {
            return self.end_from_outside(crash_loop()).await;
        }
        let doubtful = self.history.in_flight().find(|record| !record.step.repeatable);
        if let Some(record) = doubtful {
            let step = record.step.id.clone();
            // Lost or saved, nothing more is to be done here.
            let _ = self.wait_for_decision(step).await;
            return;
        }
        let again = self.history.in_flight().map(|record| record.step.id.clone()).collect();
        self.record(Event::Resumed { again });
        self.drive_to_end().await;
    }

    /// Drives a run from where its journal stands.
    pub(crate) async fn drive_to_end(mut self) {
        let driven = AssertUnwindSafe(self.until_end()).catch_unwind().await;
        let Self { core, run, history, in_flight, .. } = self;
        drop(in_flight);
        match driven {
            Ok(Ok(())) if run.state.is_terminal() => core.watchers.ended(run, history),
            // It is parked; or lost, and whoever has it now goes on with it.
            Ok(_) => {}
            Err(panic) => {
                tracing::error!(run = %run.id, panic = panic_text(&*panic), "a run's program panicked");
                end_after_panic(core, run, history).await;
            }
        }
    }

    async fn until_end(&mut self) -> Result<(), Lost> {
        let remaining_ms = self.run.deadline_at.map(|at| at.millis_since(self.core.clock.now()).max(0));
        let deadline = tokio::time::sleep(Duration::from_millis(
            remaining_ms.and_then(|ms| u64::try_from(ms).ok()).unwrap_or(u64::MAX / 4),
        ));
        tokio::pin!(deadline);
        if self.run.cancel_requested {
            self.cancel.cancel();
        }
        loop {
            if remaining_ms == Some(0) || deadline.is_elapsed() {
                return self.finish(Ending::Failure(timeout_error())).await;
            }
            if self.cancel.is_cancelled() {
                return self.end(RunState::Cancelled, Event::Cancelled {}).await;
            }
            match self.work().decide(&self.run, &self.history) {
                Decision::Finish(ending) => return self.finish(ending).await,
                Decision::Perform(steps) => self.start_new(steps),
            }
            if self.in_flight.is_empty() && self.history.in_flight().next().is_none() {
                let error = RunError::new("internal_error", "The run had nothing left to do and no result.");
                return self.finish(Ending::Failure(error)).await;
            }
            if !self.unsaved.is_empty() {
                self.save(RunState::Running, Then::GoOn).await?;
            }
            self.launch_in_flight();
            let (cancel, parking) = (self.cancel.clone(), self.core.parking.clone());
            tokio::select! {
                biased;
                () = cancel.cancelled() => return self.end(RunState::Cancelled, Event::Cancelled {}).await,
                () = &mut deadline => return self.finish(Ending::Failure(timeout_error())).await,
                () = parking.cancelled() => return self.park().await,
                Some(done) = self.in_flight.next() => self.take(done),
            }
            while let Some(Some(done)) = self.in_flight.next().now_or_never() {
                self.take(done);
            }
        }
    }

    /// Records the steps that the journal does not know yet as started.
    fn start_new(&mut self, steps: Vec<Step>) {
        for step in steps {
            if self.history.step(&step.id).is_none() {
                self.record(Event::StepStarted(step));
            }
        }
    }

    /// Performs what the journal says is in flight and is not yet under way.
    fn launch_in_flight(&mut self) {
        let under_way = self.in_flight.len();
        let open: Vec<Step> = self.history.in_flight().map(|record| record.step.clone()).collect();
        // Steps finish in any order but start in the journal's: those that are
        // under way are the oldest of the open ones.
        for step in open.into_iter().skip(under_way) {
            metrics::counter!("neuralhub_steps_total", "kind" => step.kind.clone()).increment(1);
            let key = step.idempotency_key(self.run.id);
            let performing = self.work().perform(&self.run, &self.history, &step);
            self.in_flight.push(Box::pin(async move {
                crash::point(|| format!("perform {key}"));
                let done = AssertUnwindSafe(performing).catch_unwind().await.unwrap_or_else(|panic| {
                    tracing::error!(step = step.id, panic = panic_text(&*panic), "a step panicked");
                    Err(RunError::new(
                        "internal_error",
                        "The step failed inside the hub; its log has the cause.",
                    ))
                });
                crash::point(|| format!("performed {key}"));
                (step.id, done)
            }));
        }
    }

    fn take(&mut self, (step, done): StepDone) {
        self.record(match done {
            Ok(Performed { output, usage }) => Event::StepCompleted { step, output, usage },
            Err(error) => Event::StepFailed { step, error },
        });
    }

    fn record(&mut self, event: Event) {
        let (seq, at) = (self.history.last_seq() + 1, self.core.clock.now());
        self.history.apply(seq, at, &event);
        self.unsaved.push(event.to_row(seq, at));
    }

    async fn finish(&mut self, ending: Ending) -> Result<(), Lost> {
        match ending {
            Ending::Success(result) => {
                self.run.result = Some(result.clone());
                self.end(RunState::Success, Event::Succeeded { result }).await
            }
            Ending::Failure(error) => {
                self.run.error = Some(error.clone());
                self.end(RunState::Failed, Event::Failed { error }).await
            }
        }
    }

    async fn end(&mut self, state: RunState, event: Event) -> Result<(), Lost> {
        self.in_flight.clear();
        self.record(event);
        let (finished_at, usage) = (self.core.clock.now(), self.history.usage());
        (self.run.finished_at, self.run.usage, self.run.owner) = (Some(finished_at), usage, None);
        let (result, error) = (self.run.result.clone(), self.run.error.clone());
        let ending = RunEnding { finished_at, result, error, usage };
        self.save(state, Then::End(ending)).await?;
        metrics::counter!("neuralhub_runs_finished_total", "state" => state.status()).increment(1);
        Ok(())
    }

    /// Gives the run back to the queue at shutdown: what was in flight is done
    /// again by whoever takes it up.
    async fn park(&mut self) -> Result<(), Lost> {
        self.in_flight.clear();
        self.save(RunState::Pending, Then::Queue).await
    }

    async fn wait_for_decision(&mut self, step: String) -> Result<(), Lost> {
        let reason = format!(
            "The hub stopped while step `{step}` was under way, and it must not be done twice: \
             nobody can say whether it took effect. Cancel the run and, if the step may be done again, retry it."
        );
        self.record(Event::Waiting { step, reason });
        let wake_at = self.run.deadline_at;
        self.save(RunState::Waiting, Then::Sleep { wake_at }).await?;
        self.core.timers.set(wake_at);
        // Somebody may have wished it cancelled meanwhile.
        self.core.wake_queue();
        Ok(())
    }

    /// Ends a claimed run whose journal cannot be read, after what is there.
    pub(crate) async fn end_unreadable(mut self, last_seq: i64, error: RunError) {
        self.history.skip_to(last_seq);
        self.end_from_outside(error).await;
    }

    /// Ends a run as failed without having driven it: the history here may not
    /// be the whole one.
    async fn end_from_outside(mut self, error: RunError) {
        // Lost or saved, nothing more is to be done here.
        let _ = self.finish(Ending::Failure(error)).await;
        self.core.watchers.changed(self.run.id);
    }

    /// Appends what is unsaved and changes the run's row, in one commit.
    /// Tries until the store is back or the process parks.
    async fn save(&mut self, state: RunState, then: Then) -> Result<(), Lost> {
        self.run.state = state;
        let append = Arc::new(runs::Append {
            run_id: self.run.id,
            workspace_id: self.run.workspace_id.clone(),
            epoch: self.run.epoch,
            events: std::mem::take(&mut self.unsaved),
            change: RunChange { state, started_at: self.run.started_at, then },
        });
        let mut tries = 0;
        loop {
            match self.core.store.write(append.clone()).await {
                Ok(Appended::Done) => break,
                Ok(Appended::Fenced) => {
                    // Another node has it; or an earlier try, whose answer was
                    // lost, ended the run after all.
                    tracing::warn!(run = %self.run.id, epoch = self.run.epoch, "a run is no longer this driver's");
                    self.core.watchers.changed(self.run.id);
                    return Err(Lost);
                }
                Err(StoreError::Conflict(_)) => {
                    // An earlier try was committed although its answer was lost.
                    let run = &self.run;
                    self.core.give_back(&run.workspace_id, run.id, run.epoch).await;
                    self.core.watchers.changed(self.run.id);
                    return Err(Lost);
                }
                Err(error) => {
                    tracing::error!(run = %self.run.id, %error, tries, "a run's progress could not be saved yet");
                    let pause = SAVE_RETRY[tries.min(SAVE_RETRY.len() - 1)];
                    tries += 1;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.core.parking.cancelled() => return Err(Lost),
                    }
                }
            }
        }
        self.run.last_seq = self.history.last_seq();
        self.core.watchers.grew(self.run.id);
        Ok(())
    }
}

/// What is in memory of a run whose program panicked can no longer be trusted.
async fn end_after_panic(core: Arc<Core>, run: RunRecord, history: History) {
    let history = match core.read_history(&run).await {
        Ok(stored) => stored,
        Err(error) => {
            tracing::error!(run = %run.id, %error, "the journal of a failed run is unreadable");
            history
        }
    };
    let error =
        RunError::new("internal_error", "The hub failed while it drove this run; its log has the cause.");
    Driver::new(core, run, history, CancellationToken::new()).end_from_outside(error).await;
}

fn crash_loop() -> RunError {
    let message = format!(
        "The hub died {MAX_CRASHES} times in a row while this run was under way, and no step came to an end \
         in between; it is not tried again."
    );
    RunError::new("crash_loop", message)
}

fn timeout_error() -> RunError {
    RunError::new("timeout", "The run did not finish within its `timeout_seconds`.")
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
