//! Answers under an output schema: what the model is told of it, and what
//! becomes of an answer that does not fit.

use nh_engine::Ending;
use nh_types::run::RunError;
use serde_json::{Value, json};

use nh_schema as schema;

/// Answers that did not fit and were sent back; one more ends the run.
pub(super) const MAX_REPAIRS: usize = 2;

/// The code of a run whose agent gave no answer that fits.
const OUTPUT_INVALID: &str = "output_invalid";
/// The code of one whose model would not answer.
const REFUSED: &str = "model_refused";

const MAX_SHOWN_CHARS: usize = 300;

/// For the end of the system prompt: not every provider heeds
/// [`response_format`].
pub(super) fn instruction(schema: &Value) -> String {
    format!(
        "When you give your final answer, give nothing but a JSON object that fits this JSON Schema:\n{schema}"
    )
}

/// OpenAI's structured outputs (platform.openai.com, "Structured model
/// outputs"). Only for a request without tools: where a schema binds the answer,
/// vLLM's models can call none, and Google's endpoint refuses the two together.
pub(super) fn response_format(schema: &Value) -> Value {
    json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}})
}

/// The object that a message holds, or what is wrong with it.
pub(super) fn read(schema: &Value, message: &Value) -> Result<Value, String> {
    let text = message["content"].as_str().unwrap_or_default();
    let value: Value = serde_json::from_str(bare(text)).map_err(|error| {
        if text.trim().is_empty() { "it is empty".to_owned() } else { format!("it is not JSON: {error}") }
    })?;
    let faults = schema::faults(&schema::compile(schema)?, &value);
    if faults.is_empty() { Ok(value) } else { Err(schema::told("answer", &faults)) }
}

/// What the model is told of an answer that does not fit.
pub(super) fn complaint(faults: &str) -> String {
    format!(
        "Your answer does not fit the JSON Schema: {faults}. Answer again, with nothing but a JSON object that fits."
    )
}

/// How a run ends that came to no answer that fits.
pub(super) fn failure(message: &Value, faults: &str) -> Ending {
    if let Some(refusal) = message["refusal"].as_str() {
        let refusal: String = refusal.chars().take(MAX_SHOWN_CHARS).collect();
        return Ending::Failure(RunError::new(REFUSED, format!("The model refused to answer: {refusal}")));
    }
    let message = format!("The agent's answer does not fit its `output_schema`: {faults}.");
    Ending::Failure(RunError::new(OUTPUT_INVALID, message))
}

/// Without the fence that many models put around JSON.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let fenced = text.strip_prefix("```").and_then(|rest| rest.strip_suffix("```"));
    fenced.map_or(text, |inner| inner.strip_prefix("json").unwrap_or(inner).trim())
}
