//! Drives one run from its journal to its end: ask the program, save what it
//! decided, perform, save what came of it, ask again. What a step gave and the
//! start of the next one share a commit.

mod recording;
mod saving;
mod waiting;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use nh_store::runs::{self, EventRow, LargeValue, RunEnding, RunRecord, Then};
use nh_types::crash;
use nh_types::run::{RunError, RunState};
use tracing::Instrument;

use crate::core::Core;
use crate::driven::Reins;
use crate::fork::Fork;
use crate::history::History;
use crate::journal::{Event, Step, Wait};
use crate::program::{Decision, Ending, Performed, Work};
use crate::{spans, values, waits};

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
    /// What is kept apart of those.
    large: Vec<LargeValue>,
    /// The names of values of signals that are in the history.
    gone: Vec<String>,
    /// Signals that are in the history, and in the store still wait.
    took: Vec<String>,
    /// Begun in the history, and not yet in the store.
    children: Vec<runs::Insert>,
    in_flight: FuturesUnordered<Pin<Box<dyn Future<Output = StepDone> + Send>>>,
    reins: Reins,
}

impl Driver {
    pub(crate) fn new(core: Arc<Core>, run: RunRecord, history: History, reins: Reins) -> Self {
        let (work, in_flight) = (OnceLock::new(), FuturesUnordered::new());
        let (unsaved, large, gone) = (Vec::new(), Vec::new(), Vec::new());
        let (took, children) = (Vec::new(), Vec::new());
        Self { core, run, work, history, unsaved, large, gone, took, children, in_flight, reins }
    }

    /// The rows of a run that is not stored yet: its creation, what it takes
    /// over, and, when its first steps are `planned`, their start.
    pub(crate) fn first_rows(&mut self, fork: Option<Fork>, planned: bool) -> runs::Insert {
        self.record(created(&self.run));
        if let Some(Fork { from, step, kept }) = fork {
            for (row, event) in kept {
                self.take_over(row, &event);
            }
            self.record(Event::Forked { from, step });
        }
        // A program that panics does so again, and is caught, when it is driven.
        let decide = || self.work().decide(&self.run, &self.history);
        let decision = planned.then(|| std::panic::catch_unwind(AssertUnwindSafe(decide)));
        if let Some(Ok(Decision::Perform(steps))) = decision
            && steps.iter().all(|step| step.wait.is_none())
        {
            self.start_new(steps);
        }
        self.run.last_seq = self.history.last_seq();
        let mut insert = runs::Insert::new(self.run.clone(), std::mem::take(&mut self.unsaved));
        values::split_run(&mut insert);
        self.run.apart = insert.run.apart;
        insert.large.append(&mut self.large);
        insert
    }

    fn work(&self) -> &dyn Work {
        self.work.get_or_init(|| self.core.program.open(&self.run)).as_ref()
    }

    pub(crate) fn run(&self) -> &RunRecord {
        &self.run
    }

    /// Drives a run that was claimed: a queued one, one that is woken, or one
    /// whose process died.
    pub(crate) async fn drive_claimed(mut self) {
        if self.run.signals > 0 && self.take_signals().await.is_err() {
            return;
        }
        let is_late = self.run.deadline_at.is_some_and(|at| at <= self.core.clock.now());
        if self.history.under_way().next().is_none() || self.run.cancel_requested || is_late {
            return self.drive_to_end().await;
        }
        if self.run.state == RunState::Running && self.history.resumes_in_a_row() >= MAX_CRASHES {
            return self.end_from_outside(crash_loop()).await;
        }
        let doubtful: Vec<String> = self
            .history
            .under_way()
            .filter(|record| !record.step.repeatable)
            .map(|record| record.step.id.clone())
            .collect();
        for step in doubtful {
            match waits::decision(&self.history, &step) {
                Some(true) => {}
                Some(false) => self.record(waits::denied(step)),
                // Lost or saved, nothing more is to be done here.
                None => return self.wait_for_decision(step).await.unwrap_or(()),
            }
        }
        let again: Vec<String> = self.history.under_way().map(|record| record.step.id.clone()).collect();
        if !again.is_empty() {
            self.record(Event::Resumed { again });
        }
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
            self.reins.cancel.cancel();
        }
        loop {
            if remaining_ms == Some(0) || deadline.is_elapsed() {
                return self.finish(Ending::Failure(timeout_error())).await;
            }
            if self.reins.cancel.is_cancelled() {
                return self.end(RunState::Cancelled, Event::Cancelled {}).await;
            }
            self.end_waits();
            match self.work().decide(&self.run, &self.history) {
                Decision::Finish(ending) => return self.finish(ending).await,
                Decision::Perform(steps) => {
                    if self.start_new(steps) {
                        continue;
                    }
                }
            }
            if self.end_waits() {
                continue;
            }
            if self.history.in_flight().next().is_none() {
                let error = RunError::new("internal_error", "The run had nothing left to do and no result.");
                return self.finish(Ending::Failure(error)).await;
            }
            if self.history.under_way().next().is_none() {
                return self.sleep().await;
            }
            if !self.unsaved.is_empty() {
                self.save(RunState::Running, Then::GoOn).await?;
            }
            self.launch_under_way();
            let (reins, parking) = (self.reins.clone(), self.core.parking.clone());
            let wait_over = self.until_wait_over();
            tokio::select! {
                biased;
                () = reins.cancel.cancelled() => return self.end(RunState::Cancelled, Event::Cancelled {}).await,
                () = &mut deadline => return self.finish(Ending::Failure(timeout_error())).await,
                () = parking.cancelled() => return self.park().await,
                () = reins.signalled.notified() => self.take_signals().await?,
                () = wait_over => {}
                Some(done) = self.in_flight.next() => self.take(done),
            }
            while let Some(Some(done)) = self.in_flight.next().now_or_never() {
                self.take(done);
            }
        }
    }

    /// Records the steps that the journal does not know yet as started, and
    /// says whether one of them failed at once.
    fn start_new(&mut self, steps: Vec<Step>) -> bool {
        let mut any_failed = false;
        for mut step in steps {
            if self.history.step(&step.id).is_some() {
                continue;
            }
            let mut failed = None;
            if step.begins_run() {
                let child = self.work().child(&self.run, &self.history, &step);
                match child.and_then(|child| self.begin(&step.id, child)) {
                    Ok(id) => step.wait = Some(Wait::Run { run_id: Some(id) }),
                    Err(error) => failed = Some(error),
                }
            }
            let id = step.id.clone();
            self.record(Event::StepStarted(step));
            // Arguments that are too large have made it fail by now.
            let has_failed = self.history.step(&id).is_none_or(|record| record.finished.is_some());
            any_failed |= has_failed || failed.is_some();
            if let Some(error) = failed.filter(|_| !has_failed) {
                self.record(Event::failed(id, error));
            }
        }
        any_failed
    }

    /// Performs what the journal says is in flight and is not yet under way.
    fn launch_under_way(&mut self) {
        let launched = self.in_flight.len();
        let open: Vec<Step> = self.history.under_way().map(|record| record.step.clone()).collect();
        // Steps finish in any order but start in the journal's: those that are
        // launched are the oldest of the open ones.
        for step in open.into_iter().skip(launched) {
            let performance = self.core.meters.begin_step(&step.kind);
            let key = step.idempotency_key(self.run.id);
            let live = self.core.live.of(self.run.id, &step.id);
            let span = spans::step(&step);
            // Made within it, so that what it makes itself hangs on it.
            let performing = span.in_scope(|| self.work().perform(&self.run, &self.history, &step, live));
            let performing = performing.instrument(span.clone());
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
                performance.end(done.is_err());
                if let Err(error) = &done {
                    span.record("error.type", error.code.as_str());
                }
                (step.id, done)
            }));
        }
    }

    fn take(&mut self, (step, done): StepDone) {
        self.record(match done {
            Ok(Performed { output, usage }) => {
                Event::StepCompleted { step, output, usage, within: Vec::new() }
            }
            Err(error) => Event::failed(step, error),
        });
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

    async fn end(&mut self, mut state: RunState, event: Event) -> Result<(), Lost> {
        self.in_flight.clear();
        if let Err(error) = self.try_record(event) {
            state = RunState::Failed;
            (self.run.result, self.run.error) = (None, Some(error.clone()));
            self.record(Event::Failed { error });
        }
        let (finished_at, usage) = (self.core.clock.now(), self.history.usage());
        (self.run.finished_at, self.run.usage, self.run.owner) = (Some(finished_at), usage, None);
        self.run.state = state;
        let (result, error) = (self.run.result.clone(), self.run.error.clone());
        let parent = self.run.parent.as_ref().map(|parent| parent.run_id);
        let tells = parent.map(|parent| {
            let told = waits::child_ended(&self.run, &self.history, finished_at);
            (parent, values::split_signal(told))
        });
        let cancels_children = self.history.waiting().any(|record| record.step.begins_run());
        // What was begun and not stored need not be cancelled.
        self.children.clear();
        self.save(
            state,
            Then::End(Box::new(RunEnding {
                finished_at,
                result,
                error,
                usage,
                tells,
                cancels_children,
                thread_id: self.run.thread.as_ref().map(|thread| thread.thread_id.clone()),
                webhook_url: self.run.webhook_url.clone(),
            })),
        )
        .await?;
        if self.run.webhook_url.is_some() {
            self.core.webhook_owed.notify_one();
        }
        if cancels_children {
            self.core.driven.cancel_children(self.run.id);
            self.core.wake_queue();
        }
        if let Some(parent) = parent {
            self.core.wake_run(parent);
        }
        metrics::counter!("neuralhub_runs_finished_total", "state" => state.status()).increment(1);
        // What is not open may be what failed.
        spans::ended(&self.run, self.work.get().map_or(&self.run.target, |work| work.name(&self.run)));
        Ok(())
    }

    /// Gives the run back to the queue at shutdown: what was in flight is done
    /// again by whoever takes it up.
    async fn park(&mut self) -> Result<(), Lost> {
        self.in_flight.clear();
        self.save(RunState::Pending, Then::Queue).await
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
    Driver::new(core, run, history, Reins::default()).end_from_outside(error).await;
}

fn created(run: &RunRecord) -> Event {
    Event::Created { target: run.target.clone(), run_type: run.run_type.as_str().to_owned() }
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
