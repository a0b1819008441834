//! What all parts of one process's engine share.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nh_store::runs::{self, Apart, Parent, RunRecord, SignalRow, ThreadPlace};
use nh_store::{Store, StoreError};
use nh_types::model::Usage;
use nh_types::run::RunState;
use nh_types::{RunId, SharedClock, SharedIds, WorkspaceId};
use serde_json::Map;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::driven::Driven;
use crate::engine::NewRun;
use crate::lease::Lease;
use crate::live::LiveWords;
use crate::meters::Meters;
use crate::program::{ChildRun, Program};
use crate::queue_room::QueueRoom;
use crate::shares::KnownShares;
use crate::timers::Timers;
use crate::values::{self, ValueStore};
use crate::watch::Watchers;

/// How large values may be.
#[derive(Clone, Copy)]
pub(crate) struct ValueLimits {
    pub(crate) value_bytes: u64,
    pub(crate) run_values_bytes: u64,
}

pub(crate) struct Core {
    pub(crate) store: Store,
    pub(crate) values: Arc<dyn ValueStore>,
    pub(crate) limits: ValueLimits,
    pub(crate) program: Arc<dyn Program>,
    pub(crate) clock: SharedClock,
    pub(crate) ids: SharedIds,
    /// This process, among the nodes that share the store.
    pub(crate) node: String,
    pub(crate) slots: Arc<Semaphore>,
    /// Runs are queued in the store that found no slot.
    pub(crate) backlog: AtomicBool,
    pub(crate) wake: Notify,
    pub(crate) queue_room: QueueRoom,
    pub(crate) shares: KnownShares,
    /// When runs that nobody drives are due.
    pub(crate) timers: Timers,
    pub(crate) watchers: Watchers,
    pub(crate) live: LiveWords,
    /// Somebody is to be told that a run has ended.
    pub(crate) webhook_owed: Notify,
    /// What this process drives.
    pub(crate) driven: Driven,
    pub(crate) lease: Lease,
    pub(crate) meters: Meters,
    /// The drivers, and who spawns them.
    pub(crate) tasks: TaskTracker,
    /// What keeps this node alive in the store's eyes, until the last run is
    /// parked.
    pub(crate) background: TaskTracker,
    /// Nothing new is taken up.
    pub(crate) stopping: CancellationToken,
    /// What runs is given back to the queue.
    pub(crate) parking: CancellationToken,
}

impl Core {
    pub(crate) fn new_record(&self, new: NewRun, owned: bool) -> RunRecord {
        let now = self.clock.now();
        let begins_at = now.plus_millis(new.delay_ms);
        let deadline_at = new.timeout_ms.map(|ms| begins_at.plus_millis(ms));
        let is_delayed = begins_at > now;
        RunRecord {
            id: RunId::generate(self.ids.as_ref(), now),
            workspace_id: new.workspace_id,
            target: new.target,
            run_type: new.run_type,
            state: if owned { RunState::Running } else { RunState::Pending },
            input: new.input,
            definition: new.definition,
            scopes: new.scopes,
            created_by: new.created_by,
            result: None,
            error: None,
            usage: Usage::NONE,
            metadata: new.metadata,
            created_at: now,
            started_at: owned.then_some(now),
            finished_at: None,
            deadline_at,
            owner: owned.then(|| self.node.clone()),
            epoch: i64::from(owned),
            cancel_requested: false,
            last_seq: 0,
            priority: new.priority,
            timeout_ms: new.timeout_ms,
            ready: !owned && !is_delayed,
            wake_at: if owned { None } else { is_delayed.then_some(begins_at).or(deadline_at) },
            parent: None,
            signals: 0,
            groups: new.groups,
            thread: new.thread_id.map(|thread_id| ThreadPlace { thread_id, seq: 0 }),
            apart: Apart::default(),
            webhook_url: new.webhook_url,
        }
    }

    pub(crate) async fn waiting_signals(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
    ) -> Result<Vec<SignalRow>, StoreError> {
        let mut signals = runs::signals(&self.store, workspace_id, run_id).await?;
        values::fill_signals(self.values.as_ref(), workspace_id, run_id, &mut signals).await?;
        Ok(signals)
    }

    /// Puts a run of this process back into the queue, to be read anew. What
    /// fails here is tried again by [`crate::upkeep`].
    pub(crate) async fn give_back(&self, workspace_id: &WorkspaceId, run_id: RunId, epoch: i64) {
        let change = runs::RunChange { state: RunState::Pending, started_at: None, then: runs::Then::Queue };
        let workspace_id = workspace_id.clone();
        let release = runs::Append {
            run_id,
            workspace_id,
            epoch,
            events: Vec::new(),
            took: Vec::new(),
            children: Vec::new(),
            large: Vec::new(),
            gone: Vec::new(),
            change,
        };
        if let Err(error) = self.store.write(release).await {
            tracing::error!(run = %run_id, %error, "a run could not be given back to the queue yet");
        }
        self.wake_queue();
        // It may have a deadline.
        self.timers.look_again();
    }

    /// A run that `parent` begins: it may do what its parent may.
    pub(crate) fn new_child(&self, run: &RunRecord, parent: Parent, child: ChildRun) -> RunRecord {
        let new = NewRun {
            workspace_id: run.workspace_id.clone(),
            target: child.target,
            run_type: child.run_type,
            input: child.input,
            definition: child.definition,
            scopes: run.scopes.clone(),
            created_by: run.created_by.clone(),
            metadata: Map::new(),
            timeout_ms: child.timeout_ms,
            priority: run.priority,
            delay_ms: 0,
            groups: child.groups,
            thread_id: None,
            webhook_url: None,
            fork: None,
        };
        RunRecord { parent: Some(parent), ..self.new_record(new, false) }
    }

    /// Runs that others wait for are stored and ready.
    pub(crate) fn queued<'r>(&self, runs: impl Iterator<Item = &'r RunRecord>) {
        for run in runs {
            self.queue_room.count_in(&run.workspace_id);
            self.timers.set(run.wake_at);
        }
        self.wake_queue();
    }

    /// Something was said to the run: its driver looks, or the queue.
    pub(crate) fn wake_run(&self, run_id: RunId) {
        if !self.driven.signal(run_id) {
            self.wake_queue();
        }
    }
}
