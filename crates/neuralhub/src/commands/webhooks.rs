//! `neuralhub webhooks`.

use clap::{Args, Subcommand};
use nh_types::webhook::{
    AttemptView, DeliveryDetail, DeliveryId, DeliveryList, DeliveryState, DeliveryView, RotatedSecret,
};
use nh_types::{RunId, Timestamp};
use serde_json::{Value, json};

use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

/// Of an error, in a table.
const SHORT_CHARS: usize = 60;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Webhooks {
    #[command(subcommand)]
    command: Option<WebhooksCommand>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum WebhooksCommand {
    /// List deliveries, newest first
    List(List),
    /// Show a delivery with its tries
    Show(One),
    /// Have a delivery made once more
    Redeliver(One),
    /// Make the secret that signs, or another in its place; it is printed this once
    RotateSecret(ClientArgs),
}

#[derive(Debug, Args)]
struct List {
    /// Only deliveries in this state: pending, delivered or failed
    #[arg(long)]
    state: Option<DeliveryState>,
    /// Only the delivery of this run
    #[arg(long, value_name = "RUN")]
    run: Option<RunId>,
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct One {
    /// The delivery's id, msg_…
    id: DeliveryId,
    #[command(flatten)]
    client: ClientArgs,
}

impl Webhooks {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => self.list.perform().await,
            Some(WebhooksCommand::List(list)) => list.perform().await,
            Some(WebhooksCommand::Show(one)) => one.show().await,
            Some(WebhooksCommand::Redeliver(one)) => one.redeliver().await,
            Some(WebhooksCommand::RotateSecret(client)) => rotate(client).await,
        }
    }
}

fn shown(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

/// The status, or why there was none.
fn outcome(status_code: Option<u16>, error: Option<&String>) -> String {
    match (status_code, error) {
        (Some(code), _) => code.to_string(),
        (None, Some(error)) => output::short(error, SHORT_CHARS),
        (None, None) => "-".to_owned(),
    }
}

impl List {
    async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let mut path = format!("/v1/webhooks/deliveries?limit={}", self.limit);
        if let Some(state) = self.state {
            path.push_str(&format!("&state={state}"));
        }
        if let Some(run_id) = self.run {
            path.push_str(&format!("&run_id={run_id}"));
        }
        if self.client.output.json {
            return output::json(&client.get::<Value>(&path).await?);
        }
        let list: DeliveryList = client.get(&path).await?;
        let rows = list.deliveries.into_iter().map(|delivery| {
            [
                delivery.id.to_string(),
                delivery.event_type,
                delivery.state.to_string(),
                delivery.attempt_count.to_string(),
                outcome(delivery.last_status_code, delivery.last_error.as_ref()),
                shown(delivery.next_attempt_at),
            ]
        });
        output::table(["DELIVERY", "EVENT", "STATE", "TRIES", "LAST", "NEXT"], rows, "No deliveries.")
    }
}

impl One {
    async fn show(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let path = format!("/v1/webhooks/deliveries/{}", self.id);
        if self.client.output.json {
            return output::json(&client.get::<Value>(&path).await?);
        }
        let DeliveryDetail { delivery, attempts } = client.get(&path).await?;
        let fields = [
            ("id", delivery.id.to_string()),
            ("run", delivery.run_id.to_string()),
            ("event", delivery.event_type),
            ("url", delivery.url),
            ("state", delivery.state.to_string()),
            ("next", shown(delivery.next_attempt_at)),
        ];
        for (name, value) in fields {
            output::line(format!("{name:14}{}", output::printable(&value)))?;
        }
        let rows = attempts.into_iter().map(|attempt| {
            let AttemptView { at, duration_ms, status_code, error, response } = attempt;
            let told = error.into_iter().chain(response.filter(|text| !text.is_empty()));
            let told = told.collect::<Vec<_>>().join(": ");
            let status = status_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
            [at.to_string(), status, format!("{duration_ms} ms"), output::short(&told, 2 * SHORT_CHARS)]
        });
        output::table(["TRIED", "STATUS", "TOOK", "TROUBLE"], rows, "Not tried yet.")
    }

    async fn redeliver(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let path = format!("/v1/webhooks/deliveries/{}/redeliver", self.id);
        let again: Value = client.post(&path, &json!({})).await?;
        if self.client.output.json {
            return output::json(&again);
        }
        let again: DeliveryView = serde_json::from_value(again).map_err(anyhow::Error::new)?;
        output::line(format!("{} is {}", again.id, again.state))
    }
}

async fn rotate(arguments: ClientArgs) -> Result<(), Failure> {
    let client = Client::new(&arguments)?;
    let made: Value = client.post("/v1/webhooks/secret/rotate", &json!({})).await?;
    if arguments.output.json {
        return output::json(&made);
    }
    let made: RotatedSecret = serde_json::from_value(made).map_err(anyhow::Error::new)?;
    if let Some(until) = made.previous_expires_at {
        output::note(format!("the secret before it signs too until {until}"));
    }
    output::line(made.secret)
}
