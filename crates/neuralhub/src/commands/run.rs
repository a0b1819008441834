//! `neuralhub run TARGET INPUT`.

use std::collections::HashMap;

use clap::Args;
use nh_types::RunId;
use nh_types::run::{JournalEvent, RunState, RunType, RunView};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::ClientArgs;
use crate::client::{Client, Follow, segment};
use crate::commands::answers;
use crate::exit::Failure;
use crate::output::{self, Waiting};

/// How much of a tool's arguments and output is shown while it runs.
const SHOWN_CHARS: usize = 200;

#[derive(Debug, Args)]
pub struct Run {
    /// An agent's id, such as agent_default; or workflow:ID, agent:ID or tool:NAME
    target: String,
    /// What an agent should do; of a workflow or a tool its input, as JSON
    input: String,
    /// The run fails when it takes longer, in seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// It begins after so many seconds at the earliest
    #[arg(long, value_name = "SECONDS")]
    delay: Option<u32>,
    /// -100 to 100: before queued runs of the workspace with a smaller one
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    priority: Option<i64>,
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
        let (run_type, target) = kind_of(&self.target);
        let input = match run_type {
            RunType::Agent => json!({"goal": self.input}),
            RunType::Tool | RunType::Workflow => {
                output::parsed(&format!("the input of a {run_type}"), &self.input)?
            }
        };
        let mut body = json!({"target": target, "type": run_type, "input": input, "async": true});
        let options = [
            ("timeout_seconds", self.timeout.map(i64::from)),
            ("delay_seconds", self.delay.map(i64::from)),
            ("priority", self.priority),
        ];
        for (field, value) in options {
            if let Some(value) = value {
                body[field] = value.into();
            }
        }
        begin(&client, "/v1/run", &body, self.client.output.json).await
    }
}

/// `workflow:ID`, `agent:ID` or `tool:NAME`; anything else is an agent's id.
fn kind_of(target: &str) -> (RunType, &str) {
    let known = target.split_once(':').and_then(|(kind, id)| Some((kind.parse().ok()?, id)));
    known.unwrap_or((RunType::Agent, target))
}

/// Posts what makes a run, which is `async`, and follows it to its end.
pub(super) async fn begin(client: &Client, path: &str, body: &Value, as_json: bool) -> Result<(), Failure> {
    let started: Started = client.post(path, body).await?;
    follow(client, started.run_id, as_json).await?;
    let path = format!("/v1/run/{}", segment(&started.run_id.to_string()));
    if as_json {
        let run: Value = client.get(&path).await?;
        output::json(&run)?;
        let succeeded = run["state"] == RunState::Success.as_str();
        return if succeeded { Ok(()) } else { Err(Failure::RunNotSuccessful) };
    }
    finish(&client.get(&path).await?)
}

/// Tells what the run does, on stderr, until it is done. Ctrl-C leaves it
/// running: the hub owns it.
async fn follow(client: &Client, run_id: RunId, quiet: bool) -> Result<(), Failure> {
    let mut teller = Teller { run_id, waiting: Waiting::start("working"), tools: HashMap::new() };
    let mut events = Follow::new(client, run_id);
    loop {
        let event = tokio::select! {
            event = events.next() => event?,
            _ = tokio::signal::ctrl_c() => {
                drop(teller);
                let help = format!("`neuralhub runs show {run_id}` shows it, `neuralhub runs cancel {run_id}` ends it");
                output::note(format!("\nThe run goes on: {help}."));
                return Err(Failure::RunNotSuccessful);
            }
        };
        match event {
            Some(event) if !quiet => teller.tell(&event),
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// Turns the journal into lines for a person.
struct Teller {
    run_id: RunId,
    waiting: Waiting,
    /// Which tool each step under way uses: several run side by side.
    tools: HashMap<String, String>,
}

impl Teller {
    fn tell(&mut self, event: &JournalEvent) {
        let data: Value = event.data.read().unwrap_or_default();
        let step = data["step"].as_str().unwrap_or_default();
        match event.kind.as_str() {
            "step.started" if data["kind"] == "tool" => {
                let name = data["name"].as_str().unwrap_or_default();
                self.tools.insert(step.to_owned(), name.to_owned());
                self.waiting.say(format!("using {name}"));
                self.line(&format!("→ {name} {}", data["arguments"]));
            }
            "step.started" => self.begins(step, &data),
            "step.completed" => {
                let output = &data["output"];
                let text = output["text"].as_str().or(output.as_str()).map(str::to_owned);
                let large = || Some(format!("{} bytes", data["large"]["output"]["bytes"].as_u64()?));
                if let (Some(name), Some(text)) = (self.tools.remove(step), text.or_else(large)) {
                    self.line(&format!("← {name}: {text}"));
                }
            }
            "step.failed" => {
                let name = self.tools.remove(step).unwrap_or_else(|| subject(step));
                let text = data["error"]["message"].as_str().unwrap_or_default();
                self.line(&format!("✗ {name}: {text}"));
            }
            "run.resumed" => self.line("the hub was restarted; the run goes on"),
            "run.waiting" => {
                self.line(&format!("? nobody knows whether {step} took effect: do it again?"));
                self.ask(step);
            }
            _ => {}
        }
    }

    /// What is no tool call: a model's turn, or a wait.
    fn begins(&mut self, step: &str, data: &Value) {
        let name = data["name"].as_str().unwrap_or_default();
        match data["kind"].as_str().unwrap_or_default() {
            "model" => self.waiting.say("thinking"),
            "approval" => {
                self.waiting.say("waiting for approval");
                self.line(&format!("? {name} {}", data["arguments"]));
                self.ask(step);
            }
            "run" => {
                self.tools.insert(step.to_owned(), name.to_owned());
                self.waiting.say(format!("running {name}"));
                self.line(&format!("→ {name} {}", data["arguments"]));
            }
            _ => {
                self.waiting.say(format!("waiting for {name}"));
                self.line(&format!("… {step}: waiting for {name}"));
            }
        }
    }

    fn ask(&self, step: &str) {
        let command = answers::command(&self.run_id, step);
        self.waiting.note(format!("  to approve it: {command} (or `deny` in place of `approve`)"));
    }

    fn line(&self, text: &str) {
        self.waiting.note(output::short(text, SHOWN_CHARS));
    }
}

/// What a step that is no call is called: `model:2` is a turn of the model.
fn subject(step: &str) -> String {
    if step.starts_with("model:") { "the model".to_owned() } else { step.to_owned() }
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
