//! Runs as they are read for others: with their large values in their places.

use std::sync::Arc;

use nh_store::runs::{self, EventRow, RunRecord};
use nh_types::{RunId, WorkspaceId};

use crate::core::Core;
use crate::engine::{Engine, EngineError};
use crate::history::History;
use crate::journal::read_journal;
use crate::values::{self, ValueStore};

/// A journal with more bytes is folded on a thread where that holds nobody up.
const MANY_BYTES: usize = 1024 * 1024;

impl Engine {
    /// A run's row; None when the workspace has no such run.
    pub async fn find(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
    ) -> Result<Option<RunRecord>, EngineError> {
        let Some(mut run) = runs::find(&self.0.store, workspace_id, run_id).await? else { return Ok(None) };
        values::fill_run(self.0.values.as_ref(), &mut run).await?;
        Ok(Some(run))
    }

    /// A run's whole journal, in order; empty when the workspace has no such
    /// run.
    pub async fn journal(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
    ) -> Result<Vec<EventRow>, EngineError> {
        self.0.read_journal(workspace_id, run_id).await
    }

    /// Both, the journal folded.
    pub async fn read(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
    ) -> Result<Option<(RunRecord, History)>, EngineError> {
        let Some(mut run) = runs::find(&self.0.store, workspace_id, run_id).await? else { return Ok(None) };
        let history = self.0.read_whole(&mut run).await?;
        Ok(Some((run, history)))
    }

    pub fn values(&self) -> &Arc<dyn ValueStore> {
        &self.0.values
    }
}

impl Core {
    /// Puts into a run's row what is kept apart of it, and reads its journal.
    pub(crate) async fn read_whole(&self, run: &mut RunRecord) -> Result<History, EngineError> {
        values::fill_run(self.values.as_ref(), run).await?;
        self.read_history(run).await
    }

    pub(crate) async fn read_history(&self, run: &RunRecord) -> Result<History, EngineError> {
        let rows = self.read_journal(&run.workspace_id, run.id).await?;
        let bytes: usize = rows.iter().map(|row| row.data.as_str().len()).sum();
        if bytes <= MANY_BYTES {
            return Ok(History::read(&rows)?);
        }
        let folded = tokio::task::spawn_blocking(move || History::read(&rows)).await;
        // It is never aborted: it ends early only at the end of the process.
        Ok(folded.map_err(|_| EngineError::ShuttingDown)??)
    }

    async fn read_journal(
        &self,
        workspace_id: &WorkspaceId,
        run_id: RunId,
    ) -> Result<Vec<EventRow>, EngineError> {
        let mut rows = read_journal(&self.store, workspace_id, run_id).await?;
        values::fill_events(self.values.as_ref(), workspace_id, run_id, &mut rows).await?;
        Ok(rows)
    }
}
