//! What came of code, for a model and for programs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nh_types::sandbox::{Artifact, Execution};
use serde_json::{Value, json};

use crate::tools::tool::ToolError;

/// What of its output a model is shown: the beginning and the end.
const MAX_SHOWN_CHARS: usize = 16_000;

pub(super) fn figures(artifacts: &[Artifact]) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let decode = |data: &String| STANDARD.decode(data).ok();
    artifacts.iter().filter_map(move |artifact| {
        if let Some(png) = artifact.data.get("image/png") {
            return Some(("png", decode(png)?));
        }
        if let Some(jpeg) = artifact.data.get("image/jpeg") {
            return Some(("jpg", decode(jpeg)?));
        }
        artifact.data.get("image/svg+xml").map(|svg| ("svg", svg.clone().into_bytes()))
    })
}

/// The value of the last expression, as text.
fn result(execution: &Execution) -> Option<&str> {
    let last = execution.artifacts.iter().rev().find(|artifact| artifact.is_result)?;
    last.data.get("text/plain").map(String::as_str)
}

/// What became of files that were to be stored.
#[derive(Default)]
pub(super) struct Files {
    stored: Vec<Value>,
    not_stored: Vec<Value>,
}

impl Files {
    pub(super) fn add(&mut self, name: &str, done: Result<Value, ToolError>) {
        match done {
            Ok(stored) => self.stored.push(stored),
            Err(error) => self.not_stored.push(json!({"name": name, "reason": error.message})),
        }
    }
}

pub(super) fn value(execution: &Execution, files: &Files) -> Value {
    json!({
        "exit_code": execution.exit_code,
        "stdout": execution.stdout,
        "stderr": execution.stderr,
        "result": result(execution),
        "files": files.stored,
        "not_stored": files.not_stored,
        "killed": execution.killed,
        "state_reset": execution.state_reset,
        "truncated": execution.truncated,
    })
}

pub(super) fn told(execution: &Execution, files: &Files) -> String {
    let mut parts = Vec::new();
    for (name, text) in [("", &execution.stdout), ("stderr:\n", &execution.stderr)] {
        if !text.trim().is_empty() {
            parts.push(format!("{name}{}", shortened(text.trim_end())));
        }
    }
    if let Some(result) = result(execution) {
        parts.push(shortened(result));
    }
    for file in &files.stored {
        parts.push(format!("Stored {}.", file["pathname"].as_str().unwrap_or_default()));
    }
    for file in &files.not_stored {
        let text = |name: &str| file[name].as_str().unwrap_or_default().to_owned();
        parts.push(format!("Not stored: {} ({}).", text("name"), text("reason")));
    }
    if let Some(limit) = &execution.killed {
        parts.push(format!("It was ended by its limit: {limit}."));
    }
    if execution.state_reset {
        parts.push("What earlier code left in the interpreter is lost.".to_owned());
    }
    if execution.exit_code != 0 {
        parts.push(format!("It failed (exit code {}).", execution.exit_code));
    }
    match parts.is_empty() {
        true => "It ran, and said nothing.".to_owned(),
        false => parts.join("\n"),
    }
}

fn shortened(text: &str) -> String {
    let count = text.chars().count();
    if count <= MAX_SHOWN_CHARS {
        return text.to_owned();
    }
    let half = MAX_SHOWN_CHARS / 2;
    let head: String = text.chars().take(half).collect();
    let tail: String = text.chars().skip(count - half).collect();
    format!("{head}\n[… {} characters are left out …]\n{tail}", count - 2 * half)
}
