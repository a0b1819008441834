//! The end of a run that nobody drives, because somebody wants it cancelled.

use nh_store::StoreError;
use nh_store::runs::{self, CancelOutcome};
use nh_types::run::RunState;
use nh_types::{RunId, WorkspaceId};

use crate::core::Core;
use crate::engine::EngineError;
use crate::history::History;
use crate::journal::Event;
use crate::waits;

/// How often the journal is read anew that grew before the end was stored.
const MAX_TRIES: u32 = 5;

/// Cancels the run if nobody drives it; else asks whoever does.
pub(crate) async fn cancel_unowned(
    core: &Core,
    workspace_id: &WorkspaceId,
    run_id: RunId,
) -> Result<CancelOutcome, EngineError> {
    let mut tries = 1;
    loop {
        match try_once(core, workspace_id, run_id).await {
            Err(EngineError::Store(StoreError::Conflict(_))) if tries < MAX_TRIES => tries += 1,
            outcome => return outcome,
        }
    }
}

async fn try_once(
    core: &Core,
    workspace_id: &WorkspaceId,
    run_id: RunId,
) -> Result<CancelOutcome, EngineError> {
    let found = runs::find(&core.store, workspace_id, run_id).await?;
    let Some(mut run) = found else { return Ok(CancelOutcome::Missing) };
    let (history, seen_seq) = match core.read_history(&run).await {
        Ok(history) => {
            let seen_seq = history.last_seq();
            (history, seen_seq)
        }
        // It can be cancelled all the same; what it used is not known.
        Err(EngineError::Unreadable(_)) => (History::default(), run.last_seq),
        Err(error) => return Err(error),
    };
    let at = core.clock.now();
    (run.state, run.usage) = (RunState::Cancelled, history.usage());
    let cancel = runs::CancelUnowned {
        workspace_id: workspace_id.clone(),
        run_id,
        at,
        seen_seq,
        usage: run.usage,
        event: Event::Cancelled {}.to_row(0, at),
        tells: waits::child_ended(&run, &history, at),
    };
    let outcome = core.store.write(cancel).await?;
    core.watchers.changed(run_id);
    if outcome == CancelOutcome::Cancelled {
        core.webhook_owed.notify_one();
        core.driven.cancel_children(run_id);
        if let Some(parent) = &run.parent {
            core.wake_run(parent.run_id);
        }
        core.wake_queue();
    }
    Ok(outcome)
}
