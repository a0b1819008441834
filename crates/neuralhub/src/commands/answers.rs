//! What a person tells a run that goes on: `neuralhub runs approve`, `deny` and
//! `signal`.

use clap::Args;
use nh_types::RunId;
use nh_types::run::{DecidedStep, SentSignal};
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::ClientArgs;
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
pub struct Approve {
    #[command(flatten)]
    step: Step,
    /// Of a tool call: make it with these instead, as JSON
    #[arg(long, value_name = "JSON")]
    arguments: Option<String>,
}

#[derive(Debug, Args)]
pub struct Deny {
    #[command(flatten)]
    step: Step,
}

#[derive(Debug, Args)]
struct Step {
    /// The run's id
    run_id: RunId,
    /// The step that waits [default: the only one]
    step: Option<String>,
    /// Why: an agent is told it
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
pub struct Signal {
    /// The run's id
    run_id: RunId,
    /// What a step waits for
    name: String,
    /// What the step gives as its output, as JSON [default: null]
    data: Option<String>,
    /// A second signal with this id changes nothing [default: the hub makes one]
    #[arg(long)]
    id: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

/// What approves a step, to be typed.
pub(super) fn command(run_id: &RunId, step: &str) -> String {
    let step = output::printable(step);
    // A shell would look for files with such a name.
    let quote = if step.contains(['[', '~']) { "'" } else { "" };
    format!("neuralhub runs approve {run_id} {quote}{step}{quote}")
}

impl Approve {
    pub async fn perform(self) -> Result<(), Failure> {
        let mut body = json!({});
        if let Some(arguments) = self.arguments {
            body["arguments"] = output::parsed("--arguments", &arguments)?;
        }
        self.step.decide("approve", body).await
    }
}

impl Deny {
    pub async fn perform(self) -> Result<(), Failure> {
        self.step.decide("deny", json!({})).await
    }
}

impl Step {
    async fn decide(self, operation: &str, mut body: Value) -> Result<(), Failure> {
        let fields = [("step", self.step), ("comment", self.comment)];
        for (name, value) in fields {
            if let Some(value) = value {
                body[name] = value.into();
            }
        }
        let client = Client::new(&self.client)?;
        let decided: DecidedStep = client.post(&path(&self.run_id, operation), &body).await?;
        let word = if decided.approved { "approved" } else { "denied" };
        tell(&self.client, &decided, &format!("{} is {word}", decided.step))
    }
}

impl Signal {
    pub async fn perform(self) -> Result<(), Failure> {
        let mut body = json!({"name": self.name});
        if let Some(data) = self.data {
            body["data"] = output::parsed("the data of a signal", &data)?;
        }
        if let Some(id) = self.id {
            body["id"] = id.into();
        }
        let client = Client::new(&self.client)?;
        let sent: SentSignal = client.post(&path(&self.run_id, "signal"), &body).await?;
        tell(&self.client, &sent, &format!("{} is {}", sent.signal_id, sent.status))
    }
}

fn path(run_id: &RunId, operation: &str) -> String {
    format!("/v1/run/{}/{operation}", segment(&run_id.to_string()))
}

fn tell(arguments: &ClientArgs, answer: &impl Serialize, text: &str) -> Result<(), Failure> {
    if arguments.output.json { output::json(answer) } else { output::line(output::printable(text)) }
}
