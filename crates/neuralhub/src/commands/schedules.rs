//! `neuralhub schedules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use nh_types::Timestamp;
use nh_types::schedule::{ScheduleList, ScheduleView};
use serde_json::{Value, json};

use super::workflows::body;
use crate::cli::ClientArgs;
use crate::client::{Body, Client, segment};
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Schedules {
    #[command(subcommand)]
    command: Option<SchedulesCommand>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
enum SchedulesCommand {
    /// List schedules, newest first
    List(ClientArgs),
    /// Show a schedule
    Show(One),
    /// Create a schedule from a file
    Create(Create),
    /// Have a schedule begin no more runs
    Disable(One),
    /// Have a schedule begin runs again
    Enable(One),
    /// Delete a schedule; its runs stay
    Delete(One),
}

#[derive(Debug, Args)]
struct One {
    /// The schedule's id
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Create {
    /// YAML or JSON; `-` is stdin
    file: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
}

impl Schedules {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => list(self.client).await,
            Some(SchedulesCommand::List(client)) => list(client).await,
            Some(SchedulesCommand::Show(one)) => {
                let schedule = Client::new(&one.client)?.get::<Value>(&path(&one.id)).await?;
                show(&one.client, schedule)
            }
            Some(SchedulesCommand::Create(create)) => create.perform().await,
            Some(SchedulesCommand::Disable(one)) => one.enable(false).await,
            Some(SchedulesCommand::Enable(one)) => one.enable(true).await,
            Some(SchedulesCommand::Delete(one)) => {
                Client::new(&one.client)?.delete(&path(&one.id)).await?;
                output::note(format!("{} is deleted", one.id));
                Ok(())
            }
        }
    }
}

fn path(id: &str) -> String {
    format!("/v1/schedules/{}", segment(id))
}

fn shown(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

async fn list(arguments: ClientArgs) -> Result<(), Failure> {
    let client = Client::new(&arguments)?;
    if arguments.output.json {
        return output::json(&client.get::<Value>("/v1/schedules").await?);
    }
    let schedules: ScheduleList = client.get("/v1/schedules").await?;
    let rows = schedules.schedules.into_iter().map(|schedule| {
        let ScheduleView { id, definition, next_at, last_error, .. } = schedule;
        let trouble = last_error.map_or_else(String::new, |error| error.code);
        [
            id.to_string(),
            definition.cron,
            definition.time_zone,
            definition.run.target,
            shown(next_at),
            trouble,
        ]
    });
    output::table(["SCHEDULE", "CRON", "TIME ZONE", "TARGET", "NEXT", "TROUBLE"], rows, "No schedules.")
}

fn show(arguments: &ClientArgs, schedule: Value) -> Result<(), Failure> {
    if arguments.output.json {
        return output::json(&schedule);
    }
    let schedule: ScheduleView = serde_json::from_value(schedule).map_err(anyhow::Error::new)?;
    let run = serde_json::to_string(&schedule.definition.run).map_err(anyhow::Error::new)?;
    let last_run = schedule.last_run_id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let fields = [
        ("id", schedule.id.to_string()),
        ("name", schedule.definition.name),
        ("cron", schedule.definition.cron),
        ("time zone", schedule.definition.time_zone),
        ("run", run),
        ("next", shown(schedule.next_at)),
        ("last", shown(schedule.last_at)),
        ("last run", last_run),
        ("trouble", schedule.last_error.map_or_else(|| "-".to_owned(), |error| error.message)),
    ];
    fields
        .into_iter()
        .try_for_each(|(name, value)| output::line(format!("{name:14}{}", output::printable(&value))))
}

impl Create {
    async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let made: Value = client.upload(Method::POST, "/v1/schedules", body(&self.file)?).await?;
        if self.client.output.json {
            return output::json(&made);
        }
        output::line(made["id"].as_str().unwrap_or_default())
    }
}

impl One {
    async fn enable(self, enabled: bool) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let body = Body {
            content_type: "application/json".into(),
            bytes: json!({"enabled": enabled}).to_string().into(),
        };
        let changed = client.upload(Method::PATCH, &path(&self.id), body).await?;
        show(&self.client, changed)
    }
}
