//! Into the store, whatever it takes.

use std::sync::Arc;
use std::time::Duration;

use nh_store::StoreError;
use nh_store::runs::{self, Appended, RunChange, Then};
use nh_types::run::RunState;

use super::{Driver, Lost};

/// Waits between tries to save while the store is down.
const SAVE_RETRY: [Duration; 4] =
    [Duration::from_millis(50), Duration::from_millis(250), Duration::from_secs(1), Duration::from_secs(5)];

impl Driver {
    /// Appends what is unsaved and changes the run's row, in one commit.
    /// Tries until the store is back or the process parks.
    pub(super) async fn save(&mut self, state: RunState, then: Then) -> Result<(), Lost> {
        self.run.state = state;
        let append = Arc::new(runs::Append {
            run_id: self.run.id,
            workspace_id: self.run.workspace_id.clone(),
            epoch: self.run.epoch,
            events: std::mem::take(&mut self.unsaved),
            took: std::mem::take(&mut self.took),
            children: std::mem::take(&mut self.children),
            change: RunChange { state, started_at: self.run.started_at, then },
        });
        let mut tries = 0;
        loop {
            match self.core.store.write(append.clone()).await {
                Ok(Appended::Done) => break,
                Ok(Appended::Fenced) => {
                    // Another node has it; or an earlier try, whose answer was
                    // lost, ended the run after all.
                    tracing::warn!(run = %self.run.id, epoch = self.run.epoch, "a run is no longer this driver's");
                    self.core.watchers.changed(self.run.id);
                    return Err(Lost);
                }
                Err(StoreError::Conflict(_)) => {
                    // An earlier try was committed although its answer was lost.
                    let run = &self.run;
                    self.core.give_back(&run.workspace_id, run.id, run.epoch).await;
                    self.core.watchers.changed(self.run.id);
                    return Err(Lost);
                }
                Err(error) => {
                    tracing::error!(run = %self.run.id, %error, tries, "a run's progress could not be saved yet");
                    self.pause(&mut tries).await?;
                }
            }
        }
        if !append.children.is_empty() {
            self.core.queued(append.children.iter().map(|child| &child.run));
        }
        self.run.last_seq = self.history.last_seq();
        self.core.watchers.grew(self.run.id);
        Ok(())
    }

    /// Before the store is tried once more.
    pub(super) async fn pause(&mut self, tries: &mut usize) -> Result<(), Lost> {
        let pause = SAVE_RETRY[(*tries).min(SAVE_RETRY.len() - 1)];
        *tries += 1;
        tokio::select! {
            biased;
            () = self.core.parking.cancelled() => Err(Lost),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}
