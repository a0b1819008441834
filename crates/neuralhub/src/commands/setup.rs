//! `neuralhub setup`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use clap::Args;
use nh_http::Outbound;
use nh_memory::Sources;
use serde::Serialize;

use crate::cli::{Bind, Local, Output};
use crate::exit::Failure;
use crate::local;
use crate::output::{self, Progress, Unit};

#[derive(Debug, Args)]
pub struct Setup {
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Serialize)]
struct Done {
    directory: PathBuf,
    /// False: the files were there and right.
    fetched: bool,
}

impl Setup {
    pub async fn perform(self) -> Result<(), Failure> {
        let config = local::load(&self.local, &Bind::default())?;
        let directory = local::weights_dir(&config, &self.local.data_dir);
        if config.memory.weights_dir.is_none() {
            local::make_data_dir(&self.local.data_dir)?;
        }
        let done = Done { fetched: fetch(&directory).await?, directory };
        if self.output.json {
            return output::json(&done);
        }
        let place = done.directory.display();
        output::line(match done.fetched {
            true => format!("the embedding model all-MiniLM-L6-v2 is in {place}; its SHA-256 sums are right"),
            false => format!("the embedding model all-MiniLM-L6-v2 is in {place} already; nothing is to do"),
        })
    }
}

/// Whether there was anything to fetch.
async fn fetch(directory: &Path) -> Result<bool, Failure> {
    let http = Outbound::operator().map_err(anyhow::Error::new)?;
    let total_bytes = nh_memory::FILES.iter().map(|file| file.bytes).sum();
    let progress = Progress::start(Unit::Bytes, Some(total_bytes));
    progress.say("all-MiniLM-L6-v2");
    let fetched_bytes = AtomicU64::new(0);
    let count = |more| {
        fetched_bytes.fetch_add(more, Ordering::Relaxed);
        progress.more(more);
    };
    let fetched = nh_memory::fetch(directory, &http, &Sources::default(), &count).await;
    fetched.with_context(|| {
        let names = nh_memory::FILES.map(|file| file.name).join(" and ");
        format!("try again, or put {names} of all-MiniLM-L6-v2 into {} by hand", directory.display())
    })?;
    Ok(fetched_bytes.into_inner() > 0)
}
