//! The sandboxes of runs: one a run and template, made when it is first needed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use nh_store::Once;
use nh_types::{ApiError, ErrorCode, RunId, SandboxId};
use tokio::sync::OnceCell;

use crate::compute::Compute;
use crate::create::{Author, New};
use crate::error::ComputeError;

/// One that is made once, whoever asks first.
type Made = Arc<OnceCell<SandboxId>>;

#[derive(Default)]
pub(crate) struct OfRuns(Mutex<HashMap<(RunId, String), Made>>);

impl Compute {
    /// That of the author's run with this template. A run whose last one ended gets
    /// another.
    pub async fn of_run(&self, author: Author, run_id: RunId, new: New) -> Result<SandboxId, ComputeError> {
        let key = (run_id, new.template.clone());
        let cell = {
            let mut cells = self.inner.of_runs.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_here = |id: &SandboxId| self.here().contains_key(id);
            // Those that nobody waits for, and of which nothing is left.
            cells.retain(|_, cell| cell.get().map_or(Arc::strong_count(cell) > 1, is_here));
            cells.entry(key).or_default().clone()
        };
        let author = Author { run_id: Some(run_id), ..author };
        let id = cell.get_or_try_init(|| async {
            match self.create(author, new, None).await? {
                Once::First(found) | Once::Replay(found) => Ok(found.record.id),
                // Without a key there is nothing that could differ.
                Once::Mismatch => Err(ApiError::new(ErrorCode::Internal, "a key nobody gave").into()),
            }
        });
        id.await.cloned()
    }
}
