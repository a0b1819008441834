//! `neuralhub memory model`: what memories are embedded by.

use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use http::Method;
use nh_types::memory::{MemoryModel, NextMemoryModel};
use serde_json::json;

use crate::cli::ClientArgs;
use crate::client::{Body, Client};
use crate::exit::Failure;
use crate::output::{self, Progress, Unit, Waiting};

const PATH: &str = "/v1/memory/model";

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Nobody waits longer for one that does not get on.
const MAX_STANDSTILL: Duration = Duration::from_secs(300);

#[derive(Debug, Args)]
pub struct Model {
    /// Have all memories embedded by this model, in the background
    name: Option<String>,
    /// Wait until all are
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientArgs,
}

impl Model {
    pub async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let waiting = Waiting::start("asking");
        let mut model: MemoryModel = match &self.name {
            Some(name) => {
                let body = Body::from(&json!({"model": name}));
                client.upload(Method::PUT, PATH, body).await?
            }
            None => client.get(PATH).await?,
        };
        drop(waiting);
        if self.wait && model.next.is_some() {
            model = follow(&client, model).await?;
        }
        if self.client.output.json {
            return output::json(&model);
        }
        show(&model)
    }
}

/// Asks until all is embedded. The hub goes on without being asked.
async fn follow(client: &Client, mut model: MemoryModel) -> Result<MemoryModel, Failure> {
    let progress = Progress::start(Unit::Memories, Some(model.memories));
    let mut told = None;
    let mut last = (0, Instant::now());
    while let Some(NextMemoryModel { model: name, embedded, error }) = &model.next {
        progress.say(format!("embedded by {name}"));
        progress.at(*embedded);
        if *embedded != last.0 {
            last = (*embedded, Instant::now());
        }
        if let Some(error) = error.as_ref().filter(|error| told.as_ref() != Some(*error)) {
            progress.note(format!("it does not go on at present: {error}"));
            told = Some(error.clone());
        }
        if last.1.elapsed() > MAX_STANDSTILL {
            return Err(anyhow!(
                "{embedded} of {} memories are embedded by {name}, and no more for {} s; the hub tries on, and \
                 `neuralhub memory model --wait` waits again",
                model.memories,
                MAX_STANDSTILL.as_secs()
            )
            .into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
        model = client.get(PATH).await?;
    }
    Ok(model)
}

fn show(model: &MemoryModel) -> Result<(), Failure> {
    let dimensions = model.dimensions.map_or_else(|| "-".to_owned(), |count| count.to_string());
    let mut fields = vec![
        ("model", model.model.clone()),
        ("dimensions", dimensions),
        ("memories", model.memories.to_string()),
    ];
    if let Some(next) = &model.next {
        let of = model.memories;
        fields.push(("next", format!("{}, {} of {of} memories embedded", next.model, next.embedded)));
        fields.extend(next.error.clone().map(|error| ("trouble", error)));
    }
    fields
        .into_iter()
        .try_for_each(|(name, value)| output::line(format!("{name:14}{}", output::printable(&value))))
}
