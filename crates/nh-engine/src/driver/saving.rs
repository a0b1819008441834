//! Into the store, whatever it takes.

use std::sync::Arc;
use std::time::Duration;

use nh_store::StoreError;
use nh_store::runs::{self, Appended, LargeValue, RunChange, Then};
use nh_types::RunId;
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
        let mut append = runs::Append {
            run_id: self.run.id,
            workspace_id: self.run.workspace_id.clone(),
            epoch: self.run.epoch,
            events: std::mem::take(&mut self.unsaved),
            took: std::mem::take(&mut self.took),
            children: std::mem::take(&mut self.children),
            large: std::mem::take(&mut self.large),
            gone: std::mem::take(&mut self.gone),
            change: RunChange { state, started_at: self.run.started_at, then },
        };
        self.put_large(&mut append).await?;
        let append = Arc::new(append);
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

    /// Puts what is large where large values are kept, before the rows that
    /// refer to it.
    async fn put_large(&mut self, append: &mut runs::Append) -> Result<(), Lost> {
        let told = match &mut append.change.then {
            Then::End(ending) => ending.tells.as_mut(),
            _ => None,
        };
        let told = told.and_then(|(parent, signal)| Some((*parent, signal.large.as_mut()?)));
        let own = append.large.iter_mut().map(|value| (append.run_id, value));
        let children = append.children.iter_mut();
        let childrens = children.flat_map(|child| child.large.iter_mut().map(|value| (child.run.id, value)));
        let all: Vec<(RunId, &mut LargeValue)> = own.chain(childrens).chain(told).collect();
        for (run_id, value) in all {
            let mut tries = 0;
            loop {
                let put = self.core.values.put(&self.run.workspace_id, run_id, value.clone()).await;
                match put {
                    Ok(kept) => break *value = kept,
                    Err(error) => {
                        tracing::error!(run = %run_id, %error, tries, "a large value could not be kept yet");
                        self.pause(&mut tries).await?;
                    }
                }
            }
        }
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
