//! `neuralhub runs`.

use clap::{Args, Subcommand};
use nh_types::RunId;
use nh_types::run::{RunList, RunState, RunView, WaitKind, WaitView};
use serde_json::{Value, json};

use crate::cli::ClientArgs;
use crate::client::{Client, segment};
use crate::commands::{answers, run};
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Runs {
    #[command(subcommand)]
    command: Option<RunsCommand>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// List runs, newest first
    List(List),
    /// Show a run with its tool calls
    Show(One),
    /// Cancel a run
    Cancel(One),
    /// Approve a step that waits for it
    Approve(answers::Approve),
    /// Deny a step that waits for approval
    Deny(answers::Deny),
    /// Send a run a signal
    Signal(answers::Signal),
    /// Run what failed or was cancelled again, from there on
    Retry(One),
    /// Run again from a step on, with another model, prompt, goal or tool set
    Fork(Fork),
}

#[derive(Debug, Args)]
struct List {
    /// Only runs in this state, such as RUNNING or FAILED
    #[arg(long)]
    state: Option<RunState>,
    /// Only runs of this agent, workflow or tool
    #[arg(long)]
    target: Option<String>,
    /// The runs that this run began [default: runs that nobody waits for]
    #[arg(long, value_name = "RUN")]
    parent: Option<RunId>,
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 20)]
    limit: u32,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct One {
    /// The run's id
    run_id: RunId,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Fork {
    #[command(flatten)]
    run: One,
    /// The first step that is not taken over, such as model:2; left out, none is
    #[arg(long, value_name = "STEP")]
    at_step: Option<String>,
    /// Another goal, for an agent's run
    #[arg(long)]
    goal: Option<String>,
    /// Another model
    #[arg(long, value_name = "ID")]
    model: Option<String>,
    /// Another system prompt
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// The tools that it may use, with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tools: Option<Vec<String>>,
}

impl Runs {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => self.list.perform().await,
            Some(RunsCommand::List(list)) => list.perform().await,
            Some(RunsCommand::Show(one)) => one.show().await,
            Some(RunsCommand::Cancel(one)) => one.cancel().await,
            Some(RunsCommand::Approve(approve)) => approve.perform().await,
            Some(RunsCommand::Deny(deny)) => deny.perform().await,
            Some(RunsCommand::Signal(signal)) => signal.perform().await,
            Some(RunsCommand::Retry(one)) => one.begin("retry", json!({})).await,
            Some(RunsCommand::Fork(fork)) => fork.perform().await,
        }
    }
}

impl List {
    async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let mut path = format!("/v1/runs?limit={}", self.limit);
        if let Some(state) = self.state {
            path.push_str(&format!("&state={state}"));
        }
        if let Some(target) = &self.target {
            path.push_str(&format!("&target={}", segment(target)));
        }
        if let Some(parent) = self.parent {
            path.push_str(&format!("&parent_run_id={parent}"));
        }
        if self.client.output.json {
            return output::json(&client.get::<Value>(&path).await?);
        }
        let list: RunList = client.get(&path).await?;
        let rows = list.runs.into_iter().map(|run| {
            [
                run.run_id.to_string(),
                run.target,
                run.state.to_string(),
                run.created_at.to_string(),
                cost(run.usage.cost_usd),
            ]
        });
        output::table(["RUN", "TARGET", "STATE", "CREATED", "COST"], rows, "No runs yet.")
    }
}

impl One {
    fn path(&self) -> String {
        format!("/v1/run/{}", segment(&self.run_id.to_string()))
    }

    async fn show(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        if self.client.output.json {
            return output::json(&client.get::<Value>(&self.path()).await?);
        }
        let run: RunView = client.get(&self.path()).await?;
        output::line(format!("{}  {}  {}", run.run_id, run.target, run.state))?;
        output::line(format!("input   {}", output::printable(&run.input.to_string())))?;
        for call in &run.events {
            output::line(format!("→ {} {}", call.tool, output::printable(&call.arguments.to_string())))?;
            match (&call.output, &call.error) {
                (Some(text), _) => output::line(format!("← {}", output::printable(text)))?,
                (None, Some(error)) => output::line(format!("✗ {}", output::printable(&error.message)))?,
                (None, None) => output::line("… not done yet")?,
            }
        }
        run.waiting_for.iter().try_for_each(|wait| output::line(waits(&run.run_id, wait)))?;
        match (&run.result, &run.error) {
            (Some(Value::String(text)), _) => output::line(format!("result  {}", output::printable(text))),
            (Some(value), _) => output::line(format!("result  {value}")),
            (None, Some(error)) => {
                output::line(format!("error   {} ({})", output::printable(&error.message), error.code))
            }
            (None, None) => Ok(()),
        }
    }

    /// Has a new run made of this one, and follows it.
    async fn begin(self, operation: &str, mut body: Value) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        body["async"] = true.into();
        let path = format!("{}/{operation}", self.path());
        run::begin(&client, &path, &body, self.client.output.json).await
    }

    async fn cancel(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let run: Value = client.post(&format!("{}/cancel", self.path()), &json!({})).await?;
        if self.client.output.json {
            return output::json(&run);
        }
        output::line(format!("{} is {}", self.run_id, run["state"].as_str().unwrap_or("being cancelled")))
    }
}

impl Fork {
    async fn perform(self) -> Result<(), Failure> {
        let changes = [
            ("at_step", self.at_step.map(Value::from)),
            ("input", self.goal.map(|goal| json!({"goal": goal}))),
            ("model_id", self.model.map(Value::from)),
            ("system_prompt", self.system_prompt.map(Value::from)),
            ("tools", self.tools.map(Value::from)),
        ];
        let given = changes.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
        self.run.begin("fork", Value::Object(given.collect())).await
    }
}

/// What a run waits for, and what ends it.
fn waits(run_id: &RunId, wait: &WaitView) -> String {
    let (step, name) = (output::printable(&wait.step), output::printable(&wait.name));
    let name = if name == step { String::new() } else { format!(" {name}") };
    let until = wait.until.map(|at| format!(", until {at}")).unwrap_or_default();
    let end = match (wait.kind, wait.run_id) {
        (WaitKind::Approval | WaitKind::Decision, _) => format!(": {}", answers::command(run_id, &step)),
        (WaitKind::Signal, _) => {
            format!(": neuralhub runs signal {run_id} {}", output::printable(&wait.name))
        }
        (WaitKind::Run, Some(child)) => format!(": neuralhub runs show {child}"),
        (WaitKind::Run, None) | (WaitKind::Timer, _) => String::new(),
    };
    format!("waits   {step}: for {}{name}{until}{end}", word(wait.kind))
}

fn word(kind: WaitKind) -> &'static str {
    match kind {
        WaitKind::Approval => "approval",
        WaitKind::Decision => "decision",
        WaitKind::Signal => "signal",
        WaitKind::Timer => "timer",
        WaitKind::Run => "run",
    }
}

fn cost(cost_usd: Option<f64>) -> String {
    cost_usd.map_or_else(|| "unknown".to_owned(), |cost| format!("${cost:.4}"))
}
