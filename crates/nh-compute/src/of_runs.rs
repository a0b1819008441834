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

/// Kept of runs whose sandbox is gone, so that they are told when they get another.
const MAX_KEPT: usize = 1000;

/// The sandbox of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfRun {
    pub id: SandboxId,
    /// It is not the run's first: what was in that one is lost.
    pub is_another: bool,
}

impl Compute {
    /// That of the author's run with this template. A run whose last one ended gets
    /// another.
    pub async fn of_run(&self, author: Author, run_id: RunId, new: New) -> Result<OfRun, ComputeError> {
        let key = (run_id, new.template.clone());
        let (made, is_another) = {
            let mut all = self.inner.of_runs.0.lock().unwrap_or_else(PoisonError::into_inner);
            let is_here = |made: &Made| made.get().is_none_or(|id| self.here().contains_key(id));
            if all.len() > MAX_KEPT {
                all.retain(|_, made| is_here(made) && (made.get().is_some() || Arc::strong_count(made) > 1));
            }
            let made = all.entry(key).or_default();
            let is_another = !is_here(made);
            if is_another {
                *made = Made::default();
            }
            (made.clone(), is_another)
        };
        let (compute, author) = (self.clone(), Author { run_id: Some(run_id), ..author });
        // Whoever asked may be given up; the run's next step finds it.
        let making = self.inner.tasks.spawn(async move {
            let id = made.get_or_try_init(|| async {
                match compute.create(author, new, None).await? {
                    Once::First(found) | Once::Replay(found) => Ok::<_, ComputeError>(found.record.id),
                    // Without a key there is nothing that could differ.
                    Once::Mismatch => Err(ApiError::new(ErrorCode::Internal, "a key nobody gave").into()),
                }
            });
            id.await.cloned()
        });
        let id = making.await.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))??;
        Ok(OfRun { id, is_another })
    }
}
