//! How many runs of each workspace wait in the queue or for their time: past a
//! bound, no more are taken. Counted in the store, at most once a second for
//! each workspace, and on from there; so several nodes may together go a
//! second's submissions beyond it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nh_store::runs;
use nh_types::{Timestamp, WorkspaceId};

use crate::core::Core;
use crate::engine::EngineError;

const FRESH_MS: i64 = 1000;
/// Counts kept; beyond that, old ones are dropped.
const MAX_KEPT: usize = 1000;

pub(crate) struct QueueRoom {
    most: u32,
    counts: Mutex<HashMap<WorkspaceId, Count>>,
}

struct Count {
    waiting: u32,
    at: Timestamp,
}

impl QueueRoom {
    pub(crate) fn new(most: u32) -> Self {
        Self { most, counts: Mutex::default() }
    }

    /// Counts one more run of the workspace, if there is room for it.
    fn take_place(&self, workspace_id: &WorkspaceId, now: Timestamp) -> Option<Result<(), EngineError>> {
        let mut counts = self.counts();
        let count = counts.get_mut(workspace_id)?;
        if !(0..FRESH_MS).contains(&now.millis_since(count.at)) {
            return None;
        }
        if count.waiting >= self.most {
            return Some(Err(EngineError::QueueFull { most: self.most }));
        }
        count.waiting += 1;
        Some(Ok(()))
    }

    /// One of the workspace's runs was taken up here.
    pub(crate) fn give_place(&self, workspace_id: &WorkspaceId) {
        if let Some(count) = self.counts().get_mut(workspace_id) {
            count.waiting = count.waiting.saturating_sub(1);
        }
    }

    /// A run of the workspace was queued that asks for no room: another waits
    /// for it.
    pub(crate) fn count_in(&self, workspace_id: &WorkspaceId) {
        if let Some(count) = self.counts().get_mut(workspace_id) {
            count.waiting = count.waiting.saturating_add(1);
        }
    }

    fn learn(&self, workspace_id: &WorkspaceId, waiting: u32, now: Timestamp) {
        let mut counts = self.counts();
        if counts.len() >= MAX_KEPT {
            counts.retain(|_, count| now.millis_since(count.at) < FRESH_MS);
        }
        counts.insert(workspace_id.clone(), Count { waiting, at: now });
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<WorkspaceId, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a place in the workspace's queue.
pub(crate) async fn take_place(core: &Core, workspace_id: &WorkspaceId) -> Result<(), EngineError> {
    let now = core.clock.now();
    if let Some(known) = core.queue_room.take_place(workspace_id, now) {
        return known;
    }
    let waiting = runs::count_waiting(&core.store, workspace_id, core.queue_room.most).await?;
    core.queue_room.learn(workspace_id, waiting, now);
    core.queue_room.take_place(workspace_id, now).unwrap_or(Ok(()))
}
