//! What the operator gave some workspaces of the queue, read at most once a
//! second.

use std::sync::{Arc, Mutex, PoisonError};

use nh_store::StoreError;
use nh_store::runs::{Group, RunRecord, Shares};
use nh_store::workspaces;
use nh_types::{Timestamp, WorkspaceId};

use crate::core::Core;

const FRESH_MS: i64 = 1000;

#[derive(Default)]
pub(crate) struct KnownShares(Mutex<Option<(Timestamp, Arc<Shares>)>>);

impl KnownShares {
    pub(crate) async fn get(&self, core: &Core) -> Result<Arc<Shares>, StoreError> {
        let now = core.clock.now();
        let known = self.known();
        if let Some((at, shares)) = known
            && (0..FRESH_MS).contains(&now.millis_since(at))
        {
            return Ok(shares);
        }
        let shares = Arc::new(workspaces::shares(&core.store).await?);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, shares.clone()));
        Ok(shares)
    }

    /// Whether the run may begin only when the queue says so.
    pub(crate) async fn is_bounded(
        &self,
        core: &Core,
        workspace_id: &WorkspaceId,
        groups: &[Group],
    ) -> Result<bool, StoreError> {
        Ok(!groups.is_empty() || self.get(core).await?.of(workspace_id).max_running.is_some())
    }

    /// Whether the end of the run may let another begin, as far as is known.
    pub(crate) fn makes_room(&self, run: &RunRecord) -> bool {
        let has_bound = |(_, shares): (_, Arc<Shares>)| shares.of(&run.workspace_id).max_running.is_some();
        !run.groups.is_empty() || run.thread.is_some() || self.known().is_some_and(has_bound)
    }

    fn known(&self) -> Option<(Timestamp, Arc<Shares>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
