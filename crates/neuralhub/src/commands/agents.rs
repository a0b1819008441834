//! `neuralhub agents`.

use clap::{Args, Subcommand};
use nh_types::agent::AgentView;
use serde_json::{Value, json};

use crate::cli::ClientArgs;
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::output;

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Agents {
    #[command(subcommand)]
    command: Option<AgentsCommand>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Subcommand)]
enum AgentsCommand {
    /// List agents, newest first
    List(ClientArgs),
    /// Show an agent
    Show(One),
    /// Create an agent
    Create(Box<Create>),
    /// Delete an agent; its runs stay
    Delete(One),
}

#[derive(Debug, Args)]
struct One {
    /// The agent's id
    id: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, Args)]
struct Create {
    /// What people call it
    name: String,
    /// Its id [default: the hub makes one]
    #[arg(long)]
    id: Option<String>,
    /// The model it thinks with [default: the hub's default model]
    #[arg(long)]
    model: Option<String>,
    /// What it is told before each goal
    #[arg(long, value_name = "TEXT")]
    system_prompt: Option<String>,
    /// The tools it may use, a,b,c [default: all]
    #[arg(long, value_delimiter = ',')]
    tools: Option<Vec<String>>,
    #[command(flatten)]
    client: ClientArgs,
}

impl Agents {
    pub async fn perform(self) -> Result<(), Failure> {
        match self.command {
            None => list(self.client).await,
            Some(AgentsCommand::List(client)) => list(client).await,
            Some(AgentsCommand::Show(one)) => one.show().await,
            Some(AgentsCommand::Create(create)) => create.perform().await,
            Some(AgentsCommand::Delete(one)) => {
                Client::new(&one.client)?.delete(&format!("/v1/agents/{}", segment(&one.id))).await?;
                output::note(format!("{} is deleted", one.id));
                Ok(())
            }
        }
    }
}

async fn list(arguments: ClientArgs) -> Result<(), Failure> {
    let client = Client::new(&arguments)?;
    if arguments.output.json {
        return output::json(&client.get::<Value>("/v1/agents").await?);
    }
    let agents: Vec<AgentView> = client.get("/v1/agents").await?;
    let rows = agents.into_iter().map(|agent| {
        [agent.id.to_string(), agent.name, agent.model_id, agent.tools.join(","), agent.version.to_string()]
    });
    output::table(["AGENT", "NAME", "MODEL", "TOOLS", "VERSION"], rows, "No agents.")
}

impl One {
    async fn show(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let path = format!("/v1/agents/{}", segment(&self.id));
        if self.client.output.json {
            return output::json(&client.get::<Value>(&path).await?);
        }
        let agent: AgentView = client.get(&path).await?;
        let temperature =
            agent.temperature.map_or_else(|| "the model's own".to_owned(), |value| value.to_string());
        let fields = [
            ("id", agent.id.to_string()),
            ("name", agent.name),
            ("description", agent.description),
            ("model", agent.model_id),
            ("tools", agent.tools.join(", ")),
            ("temperature", temperature),
            ("max steps", agent.max_steps.to_string()),
            ("version", agent.version.to_string()),
            ("system prompt", agent.system_prompt),
        ];
        fields
            .iter()
            .try_for_each(|(name, value)| output::line(format!("{name:14}{}", output::printable(value))))
    }
}

impl Create {
    async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let mut body = json!({"name": self.name});
        let fields = [
            ("id", self.id.map(Value::from)),
            ("model_id", self.model.map(Value::from)),
            ("system_prompt", self.system_prompt.map(Value::from)),
            ("tools", self.tools.map(Value::from)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                body[name] = value;
            }
        }
        let agent: Value = client.post("/v1/agents", &body).await?;
        if self.client.output.json {
            return output::json(&agent);
        }
        output::line(agent["id"].as_str().unwrap_or_default())
    }
}
