//! What came of code, for a model and for programs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nh_types::sandbox::{Artifact, Execution};
use serde_json::{Value, json};

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

pub(super) fn value(execution: &Execution, stored: &[Value]) -> Value {
    json!({
        "exit_code": execution.exit_code,
        "stdout": execution.stdout,
        "stderr": execution.stderr,
        "result": result(execution),
        "files": stored,
        "killed": execution.killed,
        "state_reset": execution.state_reset,
        "truncated": execution.truncated,
    })
}

pub(super) fn told(execution: &Execution, stored: &[Value], can_store: bool) -> String {
    let mut parts = Vec::new();
    for (name, text) in [("", &execution.stdout), ("stderr:\n", &execution.stderr)] {
        if !text.trim().is_empty() {
            parts.push(format!("{name}{}", shortened(text.trim_end())));
        }
    }
    if let Some(result) = result(execution) {
        parts.push(shortened(result));
    }
    for file in stored {
        parts.push(format!("Stored {}.", file["pathname"].as_str().unwrap_or_default()));
    }
    if !can_store && figures(&execution.artifacts).next().is_some() {
        parts.push("It drew a figure, which is not kept: that needs the scope `storage:write`.".to_owned());
    }
    if let Some(limit) = &execution.killed {
        parts.push(format!("It was ended by its limit: {limit}."));
    }
    if execution.state_reset {
        parts.push("The interpreter was lost, and its variables with it.".to_owned());
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
