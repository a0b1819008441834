//! `neuralhub check`.

use anyhow::anyhow;
use clap::Args;
use nh_store::Store;
use nh_store::runs::{self, RunFault};
use nh_types::RunId;
use serde_json::json;

use crate::cli::{Bind, Local, Output};
use crate::exit::Failure;
use crate::local;
use crate::output::{self, Waiting};

#[derive(Debug, Args)]
pub struct Check {
    /// Mend what can be mended without a guess
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    output: Output,
}

/// What a look at the whole store found.
struct Found {
    runs: u64,
    faults: Vec<(RunId, RunFault)>,
}

impl Check {
    pub async fn perform(self) -> Result<(), Failure> {
        let config = local::load(&self.local, &Bind::default())?;
        let file = local::store_file(&self.local.data_dir);
        if config.store.url.is_none() && !file.exists() {
            let help = "name the hub's data directory with --data-dir";
            return Err(anyhow!("there is no store at {}; {help}", file.display()).into());
        }
        let store = local::store(&config, &self.local.data_dir).await?;
        let looked = self.look_and_mend(&store).await;
        store.close().await;
        let (found, left) = looked.map_err(anyhow::Error::new)?;
        self.tell(&found, left.as_ref())?;
        let left = left.as_ref().unwrap_or(&found);
        match (left.faults.len(), left.faults.iter().any(|(_, fault)| fault.is_mendable())) {
            (0, _) => Ok(()),
            (_, true) => Err(anyhow!(
                "the store has faults; `neuralhub check --repair` mends those that can be mended"
            )
            .into()),
            (_, false) => Err(anyhow!(
                "the store has faults that only a person can mend; keep a copy of it, and report them"
            )
            .into()),
        }
    }

    /// What is wrong and, after a repair, what still is.
    async fn look_and_mend(&self, store: &Store) -> Result<(Found, Option<Found>), nh_store::StoreError> {
        let found = look(store).await?;
        if !self.repair || found.faults.is_empty() {
            return Ok((found, None));
        }
        store.write(runs::Repair(found.faults.iter().map(|(id, _)| *id).collect())).await?;
        let left = look(store).await?;
        Ok((found, Some(left)))
    }

    fn tell(&self, found: &Found, left: Option<&Found>) -> Result<(), Failure> {
        let is_mended = |fault: &(RunId, RunFault)| left.is_some_and(|left| !left.faults.contains(fault));
        if self.output.json {
            let faults: Vec<_> = found
                .faults
                .iter()
                .map(|fault| json!({"run_id": fault.0, "fault": words(fault.1), "mended": is_mended(fault)}))
                .collect();
            return output::json(&json!({"runs": found.runs, "faults": faults}));
        }
        let rows = found.faults.iter().map(|fault| {
            let mended = if is_mended(fault) { "yes" } else { "no" };
            [fault.0.to_string(), words(fault.1).to_owned(), mended.to_owned()]
        });
        let sound = format!("{} runs checked; all is well.", found.runs);
        output::table(["RUN", "FAULT", "MENDED"], rows, &sound)
    }
}

async fn look(store: &Store) -> Result<Found, nh_store::StoreError> {
    let waiting = Waiting::start("checking the runs");
    let mut found = Found { runs: 0, faults: Vec::new() };
    let mut after = None;
    loop {
        let page = runs::check(store, after).await?;
        found.runs += page.count;
        found.faults.extend(page.faults);
        waiting.say(format!("{} runs checked", found.runs));
        after = page.next;
        if after.is_none() {
            return Ok(found);
        }
    }
}

fn words(fault: RunFault) -> &'static str {
    match fault {
        RunFault::Stranded => "it has not ended, and nothing would take it up",
        RunFault::Undead => "it has ended, but is still owned or waited for",
        RunFault::HalfEnded => "its state and its end do not agree",
        RunFault::Untold => "it has ended, and its webhook would never be told",
        RunFault::JournalBroken => "its journal has gaps",
        RunFault::ValueMissing => "a large value that it refers to is not there",
        RunFault::ValueUnreferenced => "it has a large value that nothing refers to",
        RunFault::ValuesOrphaned => "it was removed, but its large values are still there",
    }
}
