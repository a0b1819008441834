//! `neuralhub serve`.

use anyhow::Context;
use clap::Args;
use nh_server::Metrics;

use crate::cli::{Bind, Local};
use crate::exit::Failure;
use crate::{hub, local, log};

#[derive(Debug, Args)]
pub struct Serve {
    #[command(flatten)]
    local: Local,
    #[command(flatten)]
    bind: Bind,
}

impl Serve {
    pub async fn perform(self) -> Result<(), Failure> {
        let config = local::load(&self.local, &self.bind)?;
        let providers = local::providers(&config)?;
        let bucket = local::bucket(&config)?;
        // First of all: what counts finds it when it is made.
        let metrics = Metrics::install().context("the metrics cannot be set up")?;
        let (telemetry, spans) = local::telemetry(&config)?.unzip();
        log::start(&config.log, spans)?;
        hub::serve(config, providers, bucket, &self.local.data_dir, metrics, telemetry).await
    }
}
