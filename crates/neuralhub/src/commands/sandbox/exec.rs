//! `neuralhub sandbox exec`.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use futures_util::StreamExt;
use nh_types::sandbox::Artifact;
use serde_json::{Value, json};

use super::path;
use crate::cli::ClientArgs;
use crate::client::Client;
use crate::exit::Failure;
use crate::output;

/// The most that is read from stdin.
const MAX_STDIN_BYTES: u64 = 8 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct Exec {
    /// The sandbox
    id: String,
    /// A program and its arguments; with --language, the code, or `-` for stdin
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND|CODE")]
    what: Vec<String>,
    /// Give the code to the interpreter that the sandbox keeps of it
    #[arg(long, short)]
    language: Option<Language>,
    /// Give stdin to what runs
    #[arg(long, short)]
    interactive: bool,
    /// After so many seconds it is killed [default: 60]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// Write the figures that it shows to this folder
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Language {
    Python,
    Nodejs,
    Bash,
}

impl Language {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Nodejs => "nodejs",
            Self::Bash => "bash",
        }
    }
}

impl Exec {
    pub(super) async fn perform(self) -> Result<(), Failure> {
        let client = Client::new(&self.client)?;
        let mut body = match (self.language, &self.what[..]) {
            (Some(language), [code]) if code == "-" => code_of(language, stdin()?),
            (Some(language), [code]) => code_of(language, code.clone()),
            (Some(_), _) => {
                return Err(Failure::Usage("with --language the code is one argument; quote it".to_owned()));
            }
            (None, command) => json!({"command": command}),
        };
        if let Some(seconds) = self.timeout {
            body["timeout_seconds"] = seconds.into();
        }
        if self.interactive {
            body["stdin"] = stdin()?.into();
        }
        if self.client.output.json {
            return output::json(&client.post::<Value>(&format!("{}/exec", path(&self.id)), &body).await?);
        }
        match run(&client, &self.id, body, self.artifacts.as_deref()).await? {
            0 => Ok(()),
            code => Err(Failure::Ended(code)),
        }
    }
}

pub(super) fn code_of(language: Language, code: String) -> Value {
    json!({"language": language.as_str(), "code": code})
}

/// Prints what comes as it comes; how it ended, as an exit code.
pub(super) async fn run(
    client: &Client,
    id: &str,
    mut body: Value,
    artifacts: Option<&Path>,
) -> Result<u8, Failure> {
    body["stream"] = true.into();
    let mut frames = client.stream(&format!("{}/exec", path(id)), &body).await?;
    let mut figures = 0;
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(anyhow::Error::new)?;
        let data: Value = serde_json::from_str(&frame.data).map_err(anyhow::Error::new)?;
        let text = data["text"].as_str().unwrap_or_default();
        match frame.event.as_deref() {
            Some("stdout") => output::bytes(text.as_bytes())?,
            // What reads stderr may be gone, which is no reason to stop.
            Some("stderr") => drop(io::stderr().lock().write_all(text.as_bytes())),
            Some("artifact") => {
                let artifact = serde_json::from_value(data).map_err(anyhow::Error::new)?;
                show(&artifact, artifacts, &mut figures)?;
            }
            Some("end") => return Ok(ended(&data)),
            Some("error") => {
                let message = data["error"]["message"].as_str().unwrap_or_default();
                return Err(anyhow!("{}", output::printable(message)).into());
            }
            _ => {}
        }
    }
    Err(anyhow!("the hub ended the stream before what ran had ended").into())
}

fn ended(data: &Value) -> u8 {
    if let Some(limit) = data["killed"].as_str() {
        output::note(format!("it was ended by its limit: {}", output::printable(limit)));
    }
    if data["state_reset"] == true {
        output::note("the interpreter was lost, and what it kept with it");
    }
    if data["truncated"] == true {
        output::note("some of its output is left out, as it was too much");
    }
    let code = data["exit_code"].as_i64().unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// Text as it is; anything else goes to a file.
fn show(artifact: &Artifact, to: Option<&Path>, figures: &mut u32) -> Result<(), Failure> {
    let figure = artifact.data.iter().find_map(|(name, data)| Some((extension(name)?, data)));
    if let Some((extension, data)) = figure {
        *figures += 1;
        let Some(to) = to else {
            output::note("it shows a figure; --artifacts DIR keeps it");
            return Ok(());
        };
        let file = to.join(format!("figure-{figures}.{extension}"));
        let bytes = match extension {
            "svg" => data.clone().into_bytes(),
            _ => STANDARD.decode(data).context("a figure that is no base64")?,
        };
        std::fs::create_dir_all(to).with_context(|| format!("{} cannot be made", to.display()))?;
        std::fs::write(&file, bytes).with_context(|| format!("{} cannot be written", file.display()))?;
        output::note(format!("{} is written", file.display()));
        return Ok(());
    }
    match artifact.data.get("text/plain") {
        Some(text) => output::line(text),
        None => Ok(()),
    }
}

fn extension(media_type: &str) -> Option<&'static str> {
    match media_type {
        "image/png" => Some("png"),
        "image/jpeg" => Some("jpg"),
        "image/svg+xml" => Some("svg"),
        _ => None,
    }
}

fn stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().lock().take(MAX_STDIN_BYTES).read_to_string(&mut text);
    read.context("stdin cannot be read as text")?;
    Ok(text)
}
