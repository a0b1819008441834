//! Bytes that are coming in and belong to no object yet. They take disk, so a quota
//! bounds them too: else any number of uploads could fill it that are refused in
//! the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nh_store::blobs as rows;
use nh_types::WorkspaceId;

use crate::blobs::{BlobError, Inner, over_quota};

/// How many come for each workspace that has a quota.
#[derive(Clone, Default)]
pub(crate) struct Coming(Arc<Mutex<HashMap<WorkspaceId, u64>>>);

/// What one upload may still bring, and has brought. It counts until it is dropped.
pub(crate) struct Room {
    coming: Coming,
    workspace_id: WorkspaceId,
    brought: u64,
    bound: Option<Bound>,
}

struct Bound {
    used: u64,
    quota: u64,
    /// Bytes of what the upload takes the place of.
    replaced: u64,
}

impl Coming {
    fn counts(&self) -> MutexGuard<'_, HashMap<WorkspaceId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// For an upload in place of so many bytes.
    pub(crate) async fn room(&self, workspace_id: &WorkspaceId, replaced: u64) -> Result<Room, BlobError> {
        let bound = match self.settings.quota_bytes {
            None => None,
            Some(quota) => {
                let used = rows::totals(&self.store, workspace_id).await?.used();
                Some(Bound { used, quota, replaced })
            }
        };
        Ok(Room { coming: self.coming.clone(), workspace_id: workspace_id.clone(), brought: 0, bound })
    }
}

impl Room {
    pub(crate) fn take(&mut self, bytes: u64) -> Result<(), BlobError> {
        let Some(Bound { used, quota, replaced }) = self.bound else { return Ok(()) };
        let mut counts = self.coming.counts();
        let coming = counts.entry(self.workspace_id.clone()).or_default();
        *coming += bytes;
        self.brought += bytes;
        match used.saturating_add(*coming) > quota.saturating_add(replaced) {
            true => Err(over_quota(used, quota).into()),
            false => Ok(()),
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut counts = self.coming.counts();
        if let Some(coming) = counts.get_mut(&self.workspace_id) {
            *coming -= self.brought;
            if *coming == 0 {
                counts.remove(&self.workspace_id);
            }
        }
    }
}
