//! `neuralhub sandbox create`.

use clap::Args;
use nh_types::sandbox::SandboxView;
use serde_json::{Map, Value, json};

use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::{self, Waiting};

#[derive(Debug, Args)]
pub(super) struct Create {
    /// What it begins with, such as `python`; `neuralhub templates` lists them
    template: String,
    /// A variable for all that runs in it
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// How many seconds it lives [default: 900]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// What it may have in memory, in MiB
    #[arg(long, value_name = "MIB")]
    memory_mb: Option<u32>,
    /// Its processors
    #[arg(long)]
    cpus: Option<f64>,
    #[command(flatten)]
    client: ClientArgs,
}

impl Create {
    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let mut env = Map::new();
        for pair in &self.env {
            let (name, value) = pair.split_once('=').ok_or_else(|| {
                Failure::Usage(format!("--env is NAME=VALUE; `{}` has no `=`", output::short(pair, 40)))
            })?;
            env.insert(name.to_owned(), value.into());
        }
        let mut body = json!({"template": self.template, "env": env});
        let given: [(&str, Option<Value>); 3] = [
            ("timeout_seconds", self.timeout.map(Value::from)),
            ("memory_mb", self.memory_mb.map(Value::from)),
            ("cpus", self.cpus.map(Value::from)),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        let waiting = Waiting::start("starting");
        let made: SandboxView = client.post("/v1/resources", &body).await?;
        drop(waiting);
        if self.client.output.json {
            return output::json(&made);
        }
        output::note(format!("isolated by {}, until {}", made.isolation, made.expires_at));
        output::line(made.id.as_str())
    }
}
