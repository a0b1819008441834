//! `neuralhub chat "message"`.

use std::io::{IsTerminal, Read};

use clap::Args;
use futures_util::StreamExt;
use nh_types::model::ModelList;
use serde_json::{Value, json};

use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

/// The most that is read from stdin.
const MAX_INPUT_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Debug, Args)]
pub struct Chat {
    /// What to say [default: stdin]
    message: Option<String>,
    /// The model [default: the first that the hub lists]
    #[arg(long)]
    model: Option<String>,
    /// What the model is told first
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

impl Chat {
    pub async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let message = match self.message {
            Some(message) => message,
            None => from_stdin()?,
        };
        let model = match self.model {
            Some(model) => model,
            None => first_model(&client).await?,
        };
        let system = self.system.map(|text| json!({"role": "system", "content": text}));
        let messages: Vec<Value> =
            system.into_iter().chain([json!({"role": "user", "content": message})]).collect();
        let mut body = json!({"model": model, "messages": messages});
        if self.client.output.json {
            return output::json(&client.post::<Value>("/v1/chat/completions", &body).await?);
        }
        body["stream"] = true.into();
        print_stream(&client, &body).await
    }
}

async fn print_stream(client: &Client, body: &Value) -> Result<(), Failure> {
    let mut frames = client.stream("/v1/chat/completions", body).await?;
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(anyhow::Error::new)?;
        if frame.data == "[DONE]" {
            return output::line("");
        }
        let chunk: Value = serde_json::from_str(&frame.data).map_err(anyhow::Error::new)?;
        if let Some(message) = chunk["error"]["message"].as_str() {
            output::line("")?;
            return Err(
                anyhow::anyhow!("the model failed in mid-answer: {}", output::printable(message)).into()
            );
        }
        if let Some(text) = chunk["choices"][0]["delta"]["content"].as_str() {
            output::fragment(&output::printable(text))?;
        }
    }
    Err(anyhow::anyhow!("the answer was cut off").into())
}

fn from_stdin() -> Result<String, Failure> {
    if std::io::stdin().is_terminal() {
        return Err(Failure::Usage("say something: neuralhub chat \"Hello\", or pipe it in".to_owned()));
    }
    let mut text = String::new();
    std::io::stdin().lock().take(MAX_INPUT_BYTES).read_to_string(&mut text).map_err(anyhow::Error::new)?;
    Ok(text)
}

async fn first_model(client: &Client) -> Result<String, Failure> {
    let list: ModelList = client.get("/v1/models").await?;
    let chat = list.data.into_iter().find(|model| model.capabilities.iter().any(|word| word == "chat"));
    chat.map(|model| model.id)
        .ok_or_else(|| Failure::Usage("the hub lists no chat model; name one with --model".to_owned()))
}
