//! `neuralhub run AGENT "goal"`.

use clap::Args;
use nh_types::RunId;
use nh_types::run::{JournalEvent, RunState, RunView};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::ClientArgs;
use crate::client::{Client, Follow, segment};
use crate::exit::Failure;
use crate::output::{self, Waiting};

/// How much of a tool's arguments and output is shown while it runs.
const SHOWN_CHARS: usize = 200;

#[derive(Debug, Args)]
pub struct Run {
    /// The agent's id, such as agent_default
    agent: String,
    /// What it should do
    goal: String,
    /// The run fails when it takes longer, in seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    #[command(flatten)]
    client: ClientArgs,
}

/// The part of the answer to `POST /v1/run` that is needed to follow it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Started {
    run_id: RunId,
}

impl Run {
    pub async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let mut body =
            json!({"target": self.agent, "type": "agent", "input": {"goal": self.goal}, "async": true});
        if let Some(seconds) = self.timeout {
            body["timeout_seconds"] = seconds.into();
        }
        let started: Started = client.post("/v1/run", &body).await?;
        follow(&client, started.run_id, self.client.output.json).await?;
        let path = format!("/v1/run/{}", segment(&started.run_id.to_string()));
        if self.client.output.json {
            let run: Value = client.get(&path).await?;
            output::json(&run)?;
            return if run["state"] == RunState::Success.as_str() {
                Ok(())
            } else {
                Err(Failure::RunNotSuccessful)
            };
        }
        finish(&client.get(&path).await?)
    }
}

/// Tells what the run does, on stderr, until it is done. Ctrl-C leaves it
/// running: the hub owns it.
async fn follow(client: &Client, run_id: RunId, quiet: bool) -> Result<(), Failure> {
    let waiting = Waiting::start("thinking");
    let mut events = Follow::new(client, run_id);
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = tokio::signal::ctrl_c() => {
                drop(waiting);
                let help = format!("`neuralhub runs show {run_id}` shows it, `neuralhub runs cancel {run_id}` ends it");
                output::note(format!("\nThe run goes on: {help}."));
                return Err(Failure::RunNotSuccessful);
            }
        };
        match event {
            Some(event) if !quiet => tell(&waiting, &event),
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

fn tell(waiting: &Waiting, event: &JournalEvent) {
    let data = &event.data;
    match event.kind.as_str() {
        "step.started" if data["kind"] == "tool" => {
            let name = data["name"].as_str().unwrap_or_default();
            waiting.say(format!("using {name}"));
            waiting.note(output::short(&format!("→ {name} {}", data["arguments"]), SHOWN_CHARS));
        }
        "step.started" => waiting.say("thinking"),
        "step.completed" => {
            if let Some(text) = data["output"]["text"].as_str() {
                waiting.note(output::short(&format!("← {text}"), SHOWN_CHARS));
            }
        }
        "step.failed" => {
            let text = data["error"]["message"].as_str().unwrap_or_default();
            waiting.note(output::short(&format!("✗ {text}"), SHOWN_CHARS));
        }
        "run.resumed" => waiting.note("the hub was restarted; the run goes on"),
        _ => {}
    }
}

fn finish(run: &RunView) -> Result<(), Failure> {
    if run.state == RunState::Success {
        return output::line(match &run.result {
            Some(Value::String(text)) => output::printable(text),
            Some(value) => value.to_string(),
            None => String::new(),
        });
    }
    let why =
        run.error.as_ref().map(|error| format!(": {} ({})", output::printable(&error.message), error.code));
    output::note(format!("run {} is {}{}", run.run_id, run.state, why.unwrap_or_default()));
    Err(Failure::RunNotSuccessful)
}
