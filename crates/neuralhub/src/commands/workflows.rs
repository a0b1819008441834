//! `neuralhub workflows`.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use nh_types::workflow::WorkflowView;
use serde_json::Value;

use crate::cli::ClientArgs;
use crate::client::{Body, Client, segment};
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Workflows {
    #[command(subcommand)]
    command: Option<WorkflowsCommand>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
enum WorkflowsCommand {
    /// List workflows, newest first
    List(ClientArgs),
    /// Show a workflow
    Show(Show),
    /// Create a workflow from a file
    Create(Create),
    /// Change a workflow: what the file leaves out stays
    Change(Change),
    /// Delete a workflow; its runs stay
    Delete(One),
}

#[derive(Debug, Args)]
struct One {
    /// The workflow's id
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Show {
    #[command(flatten)]
    one: One,
    /// This version of it [default: the newest]
    #[arg(long = "at", value_name = "VERSION")]
    at_version: Option<u32>,
}

#[derive(Debug, Args)]
struct Create {
    /// YAML or JSON; `-` is stdin
    file: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Change {
    /// The workflow's id
    id: String,
    /// What to change, YAML or JSON; `-` is stdin
    file: PathBuf,
    #[command(flatten)]
    client: ClientArgs,
}

impl Workflows {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => list(self.client).await,
            Some(WorkflowsCommand::List(client)) => list(client).await,
            Some(WorkflowsCommand::Show(show)) => show.perform().await,
            Some(WorkflowsCommand::Create(create)) => {
                send(&create.client, Method::POST, "/v1/workflows", &create.file).await
            }
            Some(WorkflowsCommand::Change(change)) => {
                send(&change.client, Method::PATCH, &path(&change.id), &change.file).await
            }
            Some(WorkflowsCommand::Delete(one)) => {
                Client::new(&one.client)?.delete(&path(&one.id)).await?;
                output::note(format!("{} is deleted", one.id));
                Ok(())
            }
        }
    }
}

fn path(id: &str) -> String {
    format!("/v1/workflows/{}", segment(id))
}

async fn list(arguments: ClientArgs) -> Result<(), Failure> {
    let client = Client::new(&arguments)?;
    if arguments.output.json {
        return output::json(&client.get::<Value>("/v1/workflows").await?);
    }
    let workflows: Vec<WorkflowView> = client.get("/v1/workflows").await?;
    let rows = workflows.into_iter().map(|workflow| {
        let steps = workflow.definition.steps.len().to_string();
        [workflow.id.to_string(), workflow.definition.name, steps, workflow.version.to_string()]
    });
    output::table(["WORKFLOW", "NAME", "STEPS", "VERSION"], rows, "No workflows.")
}

impl Show {
    async fn perform(self) -> Result<(), Failure> {
        let One { id, client: arguments } = self.one;
        let client = Client::new(&arguments)?;
        let version = self.at_version.map(|version| format!("?version={version}"));
        let path = format!("{}{}", path(&id), version.unwrap_or_default());
        if arguments.output.json {
            return output::json(&client.get::<Value>(&path).await?);
        }
        let workflow: WorkflowView = client.get(&path).await?;
        let fields = [
            ("id", workflow.id.to_string()),
            ("name", workflow.definition.name),
            ("description", workflow.definition.description),
            ("version", workflow.version.to_string()),
        ];
        for (name, value) in fields {
            output::line(format!("{name:14}{}", output::printable(&value)))?;
        }
        workflow.definition.steps.iter().try_for_each(|step| {
            let with = if step.with.is_empty() { String::new() } else { json_of(&step.with) };
            let shown = format!("{:14}{}  {with}", step.id, step.uses);
            output::line(output::printable(shown.trim_end()))
        })
    }
}

fn json_of(with: &serde_json::Map<String, Value>) -> String {
    Value::Object(with.clone()).to_string()
}

/// Sends the file as it is, and prints the workflow's id.
async fn send(arguments: &ClientArgs, method: Method, path: &str, file: &Path) -> Result<(), Failure> {
    let client = Client::new(arguments)?;
    let workflow: Value = client.upload(method, path, body(file)?).await?;
    if arguments.output.json {
        return output::json(&workflow);
    }
    output::line(workflow["id"].as_str().unwrap_or_default())
}

/// YAML or JSON.
pub(super) fn body(file: &Path) -> Result<Body, Failure> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("stdin cannot be read")?;
    } else {
        bytes = std::fs::read(file)
            .map_err(|error| Failure::Usage(format!("{} cannot be read: {error}", file.display())))?;
    }
    let is_named_yaml = file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    let is_json = !is_named_yaml && bytes.trim_ascii_start().starts_with(b"{");
    let content_type = if is_json { "application/json" } else { "application/yaml" };
    Ok(Body { content_type: content_type.into(), bytes: Bytes::from(bytes) })
}
