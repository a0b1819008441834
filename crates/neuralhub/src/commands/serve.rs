//! `neuralhub serve`.

use clap::Args;

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
        log::start(&config.log)?;
        hub::serve(config, providers, &self.local.data_dir).await
    }
}
