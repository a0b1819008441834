//! The engine's door: submit, wait, watch, cancel, shut down.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use nh_store::runs::{self, CancelOutcome, Group, Sent, SignalRow};
use nh_store::{EngineKind, Idempotency, Once, Store, StoreError};
use nh_types::run::{RunState, RunType};
use nh_types::{RunId, ScopeSet, SharedClock, SharedIds, WorkspaceId};
use serde_json::{Map, Value};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::cancel;
use crate::core::{Core, ValueLimits};
use crate::driven::{Driven, Driving};
use crate::driver::Driver;
use crate::fork::Fork;
use crate::history::History;
use crate::journal::UnreadableEvent;
use crate::lease::Lease;
use crate::live::{Listening, LiveWords};
use crate::meters::Meters;
use crate::program::Program;
use crate::queue::{self, Slot};
use crate::queue_room::{self, QueueRoom};
use crate::retention;
use crate::settings::EngineSettings;
use crate::shares::KnownShares;
use crate::spans;
use crate::timers::Timers;
use crate::values;
use crate::watch::{EndedRun, Heard, Watch, Watchers};

/// How long a cancel waits for the run's own driver to write the end.
const CANCEL_WAIT: Duration = Duration::from_secs(2);

/// Signals to one run that its journal does not have yet.
const MAX_SIGNALS_WAITING: u32 = 1000;

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the hub is shutting down")]
    ShuttingDown,
    /// Of the run's workspace.
    #[error("the workspace has {most} runs in the queue, as many as it may have")]
    QueueFull { most: u32 },
    /// A value of the run that was to be stored.
    #[error("`{field}` has {bytes} bytes as JSON; at most {most} fit")]
    TooLarge { field: &'static str, bytes: u64, most: u64 },
    #[error("the large value `{name}` of the run is unreadable: {reason}")]
    UnreadableValue { name: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
}

/// A run to be stored and driven. Its target is checked by who makes it.
#[derive(Clone, Debug)]
pub struct NewRun {
    pub workspace_id: WorkspaceId,
    pub target: String,
    pub run_type: RunType,
    pub input: Value,
    /// What the program needs to go on with this run, pinned now: a later
    /// change of an agent does not reach it.
    pub definition: Value,
    /// Its creator's; nothing that it does goes beyond them.
    pub scopes: ScopeSet,
    /// `key:42` or `session:user_…`.
    pub created_by: String,
    pub metadata: Map<String, Value>,
    /// From when it may begin.
    pub timeout_ms: Option<i64>,
    /// The greater, the sooner it is taken up among the queued runs of its
    /// workspace.
    pub priority: i64,
    /// It begins after so long at the earliest.
    pub delay_ms: i64,
    /// What it counts against while it is under way, such as its agent's runs.
    pub groups: Vec<Group>,
    /// The conversation that it continues: it begins when the run before it has
    /// ended.
    pub thread_id: Option<String>,
    /// Who is told of its end.
    pub webhook_url: Option<String>,
    /// What it takes over of another run of the workspace.
    pub fork: Option<Fork>,
}

/// What became of a submission.
pub enum Submitted {
    /// Durably stored; the look-out is from before it was driven.
    Started(Watch),
    /// The Idempotency-Key came before, with the same body.
    Replay(RunId),
    /// The Idempotency-Key came before, with another body.
    Mismatch,
}

/// The engine of one process.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Core>);

impl Engine {
    /// Starts the engine: takes up what is unfinished and unowned, and goes on
    /// taking up what is queued. Once `stopping` is cancelled it takes up
    /// nothing more, and waits end.
    pub async fn start(
        store: Store,
        program: Arc<dyn Program>,
        clock: SharedClock,
        ids: SharedIds,
        settings: &EngineSettings,
        stopping: CancellationToken,
    ) -> Result<Self, EngineError> {
        let node = ids.uuid_v7(clock.now()).to_string();
        let backstop = queue::poll_interval(store.is_shared());
        let core = Arc::new(Core {
            values: values::values_of(&store),
            limits: ValueLimits {
                value_bytes: settings.max_value_bytes,
                run_values_bytes: settings.max_run_values_bytes.max(settings.max_value_bytes),
            },
            store,
            program,
            clock,
            ids,
            node,
            slots: Arc::new(Semaphore::new(settings.max_running)),
            backlog: AtomicBool::new(true),
            wake: Notify::new(),
            queue_room: QueueRoom::new(settings.max_queued_per_workspace),
            shares: KnownShares::default(),
            timers: Timers::default(),
            watchers: Watchers::new(backstop),
            live: LiveWords::default(),
            webhook_owed: Notify::new(),
            driven: Driven::default(),
            lease: Lease::new(settings.lease_ms),
            meters: Meters::default(),
            tasks: TaskTracker::new(),
            background: TaskTracker::new(),
            stopping,
            parking: CancellationToken::new(),
        });
        queue::start(&core).await?;
        core.background.spawn(retention::keep(core.clone(), settings.keep_finished_days));
        Ok(Self(core))
    }

    /// Stores a run and begins to drive it. When the answer comes, it is
    /// durable. Whoever asked may go away meanwhile: that changes nothing.
    pub async fn submit(&self, new: NewRun, once: Option<Idempotency>) -> Result<Submitted, EngineError> {
        if self.0.stopping.is_cancelled() {
            return Err(EngineError::ShuttingDown);
        }
        let submitting = self.0.tasks.spawn(submit(self.0.clone(), new, once).in_current_span());
        // It is never aborted, so it ends early only at the end of the process.
        submitting.await.unwrap_or(Err(EngineError::ShuttingDown))
    }

    /// Waits until a run that was just started has ended, at most `wait`.
    /// None: it goes on, or the hub is stopping.
    pub async fn wait_for_started(
        &self,
        workspace_id: &WorkspaceId,
        started: Watch,
        wait: Duration,
    ) -> Result<Option<Arc<EndedRun>>, EngineError> {
        let until = tokio::time::Instant::now() + wait;
        self.next_end(workspace_id, started, until).await
    }

    /// Waits until the run has ended, at most `wait`. None: it goes on (or the
    /// hub is stopping), or there is no such run in the workspace.
    pub async fn wait(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
        wait: Duration,
    ) -> Result<Option<Arc<EndedRun>>, EngineError> {
        let until = tokio::time::Instant::now() + wait;
        let watch = self.watch(run_id);
        match self.find_end(workspace_id, run_id).await? {
            Found::Ended(ended) => Ok(Some(ended)),
            Found::GoesOn => self.next_end(workspace_id, watch, until).await,
            Found::Nothing => Ok(None),
        }
    }

    /// Waits for the end of a run of the workspace that had not ended when the
    /// watch was made.
    async fn next_end(
        &self,
        workspace_id: &WorkspaceId,
        mut watch: Watch,
        until: tokio::time::Instant,
    ) -> Result<Option<Arc<EndedRun>>, EngineError> {
        loop {
            let heard = tokio::select! {
                biased;
                heard = watch.heard() => heard,
                () = tokio::time::sleep_until(until) => return Ok(None),
                () = self.0.stopping.cancelled() => return Ok(None),
            };
            match heard {
                Heard::Ended(ended) => return Ok(Some(ended)),
                Heard::Unsure => match self.find_end(workspace_id, watch.run_id()).await? {
                    Found::Ended(ended) => return Ok(Some(ended)),
                    Found::GoesOn => {}
                    Found::Nothing => return Ok(None),
                },
            }
        }
    }

    async fn find_end(&self, workspace_id: &WorkspaceId, run_id: RunId) -> Result<Found, EngineError> {
        match runs::find(&self.0.store, workspace_id, run_id).await? {
            Some(mut run) if run.state.is_terminal() => {
                let history = self.0.read_whole(&mut run).await?;
                Ok(Found::Ended(Arc::new(EndedRun { run, history })))
            }
            Some(_) => Ok(Found::GoesOn),
            None => Ok(Found::Nothing),
        }
    }

    pub fn watch(&self, run_id: RunId) -> Watch {
        self.0.watchers.watch(run_id)
    }

    /// Hears what the run's steps say while this process drives it.
    pub fn listen(&self, run_id: RunId) -> Listening {
        self.0.live.listen(run_id)
    }

    /// Cancels a run: what it has in flight is dropped, and it ends as
    /// CANCELLED.
    pub async fn cancel(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
    ) -> Result<CancelOutcome, EngineError> {
        if let Some(is_first) = self.0.driven.cancel(workspace_id, run_id) {
            let ended = self.wait(workspace_id, run_id, CANCEL_WAIT).await?;
            match ended.map(|ended| ended.run.state) {
                Some(RunState::Cancelled) if is_first => return Ok(CancelOutcome::Cancelled),
                Some(state) => return Ok(CancelOutcome::Finished(state)),
                // Its driver is on its way out: whoever has the run next must
                // find the wish in the store.
                None => {}
            }
        }
        let outcome = cancel::cancel_unowned(&self.0, workspace_id, run_id).await?;
        if outcome == CancelOutcome::Cancelled {
            self.trace_cancelled(workspace_id, run_id).await;
        }
        Ok(outcome)
    }

    /// A run that nobody drove has nobody else to make its span.
    async fn trace_cancelled(&self, workspace_id: &WorkspaceId, run_id: RunId) {
        if !spans::are_wanted() {
            return;
        }
        match runs::find(&self.0.store, workspace_id, run_id).await {
            Ok(run) => run.iter().for_each(|run| spans::ended(run, &run.target)),
            Err(error) => tracing::debug!(run = %run_id, %error, "a cancelled run could not be traced"),
        }
    }

    /// Tells the run something: durable when the answer comes.
    pub async fn signal(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
        signal: SignalRow,
    ) -> Result<Sent, EngineError> {
        let (bytes, most) = (signal.data.as_str().len() as u64, self.0.limits.value_bytes);
        if bytes > most {
            return Err(EngineError::TooLarge { field: "data", bytes, most });
        }
        let mut signal = values::split_signal(signal);
        if let Some(value) = signal.large.take() {
            signal.large = Some(self.0.values.put(workspace_id, run_id, value).await?);
        }
        let workspace_id = workspace_id.clone();
        let sent = runs::Send { workspace_id, run_id, signal, most: MAX_SIGNALS_WAITING };
        let sent = self.0.store.write(sent).await?;
        if sent == Sent::Done {
            self.0.wake_run(run_id);
        }
        Ok(sent)
    }

    /// Takes up nothing more, lets what runs finish for `grace`, then gives
    /// the rest back to the queue.
    pub async fn shutdown(&self, grace: Duration) {
        let core = &self.0;
        core.stopping.cancel();
        core.tasks.close();
        let finished = tokio::time::timeout(grace, core.tasks.wait()).await;
        core.parking.cancel();
        if finished.is_err() {
            core.tasks.wait().await;
        }
        core.background.close();
        core.background.wait().await;
        queue::leave(core).await;
    }

    /// Brings the gauges of the queue and of the lease up to date, for whoever
    /// reads the metrics.
    pub async fn measure_queue(&self) -> Result<(), StoreError> {
        if self.0.store.engine() == EngineKind::Postgres {
            let left = self.0.lease.left(tokio::time::Instant::now());
            metrics::gauge!("neuralhub_lease_seconds_left").set(left.as_secs_f64());
        }
        let depth = runs::queue_depth(&self.0.store).await?;
        let age_ms = depth.oldest_ready.map_or(0, |id| self.0.clock.now().millis_since(id.made_at()).max(0));
        metrics::gauge!("neuralhub_runs_ready").set(depth.ready as f64);
        metrics::gauge!("neuralhub_runs_ready_oldest_seconds").set(age_ms as f64 / 1000.0);
        metrics::gauge!("neuralhub_runs_asleep").set(depth.asleep as f64);
        let pending = depth.unfinished - depth.running - depth.waiting;
        let states = [
            (RunState::Pending, pending),
            (RunState::Running, depth.running),
            (RunState::Waiting, depth.waiting),
        ];
        for (state, count) in states {
            metrics::gauge!("neuralhub_runs_unfinished", "state" => state.status()).set(count as f64);
        }
        Ok(())
    }

    /// Told when a run has ended here whose end somebody is to be told of.
    pub fn webhook_owed(&self) -> &Notify {
        &self.0.webhook_owed
    }

    /// How many runs this process drives now.
    pub fn running(&self) -> usize {
        self.0.driven.len()
    }
}

async fn submit(
    core: Arc<Core>,
    mut new: NewRun,
    once: Option<Idempotency>,
) -> Result<Submitted, EngineError> {
    let is_bounded = core.shares.is_bounded(&core, &new.workspace_id, &new.groups).await?;
    let waits_first = new.delay_ms > 0 || new.thread_id.is_some() || is_bounded;
    let slot = if waits_first { None } else { Slot::try_take(&core) };
    if slot.is_none() {
        queue_room::take_place(&core, &new.workspace_id).await?;
    }
    let fork = new.fork.take();
    let run = core.new_record(new, slot.is_some());
    let id = run.id;
    // Only a run that starts here is registered here: a queued one is
    // registered by who claims it, which may be before this returns.
    let driving = slot.is_some().then(|| core.driven.register(&run));
    let reins = driving.as_ref().map(Driving::reins).unwrap_or_default();
    let mut driver = Driver::new(core.clone(), run, History::default(), reins);
    let mut insert = driver.first_rows(fork, slot.is_some());
    let (bytes, most) = (insert.run.apart.input.unwrap_or_default(), core.limits.value_bytes);
    if bytes > most {
        if slot.is_none() {
            core.queue_room.give_place(&insert.run.workspace_id);
        }
        return Err(EngineError::TooLarge { field: "input", bytes, most });
    }
    for value in &mut insert.large {
        *value = core.values.put(&insert.run.workspace_id, id, value.clone()).await?;
    }
    let watch = core.watchers.watch(id);
    let (is_ready, wake_at) = (insert.run.ready, insert.run.wake_at);
    match core.store.write_once(once, insert).await? {
        Once::First(_) => {
            match slot.zip(driving) {
                Some((slot, driving)) => {
                    let span = spans::drive(driver.run());
                    drop(queue::spawn(&core, Some(slot), driving, span, driver.drive_to_end()))
                }
                None if is_ready => core.wake_queue(),
                None => {}
            }
            core.timers.set(wake_at);
            Ok(Submitted::Started(watch))
        }
        Once::Replay(first) => Ok(Submitted::Replay(first)),
        Once::Mismatch => Ok(Submitted::Mismatch),
    }
}

/// What the store has of a run that somebody waits for.
enum Found {
    Ended(Arc<EndedRun>),
    GoesOn,
    Nothing,
}
