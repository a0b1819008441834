//! The hub's words in the protocol's: tools, results, errors.

use nh_agents::Callable;
use nh_types::run::{RunState, RunView};
use nh_types::{ApiError, ErrorCode, RunId};
use rmcp::ErrorData;
use rmcp::model::{
    CallToolResult, ContentBlock, ErrorCode as McpCode, JsonObject, MetaObject, Tool, ToolAnnotations,
};
use serde_json::{Value, json};

use crate::failure::Failure;

/// A larger result is told by where it is: clients put it before a model.
const MAX_RESULT_BYTES: usize = 1024 * 1024;
/// Where the run of a result is named, in its `_meta`.
const RUN_ID: &str = "neuralhub/runId";

/// As `tools/list` and the manifest show it.
pub(crate) fn tool(callable: Callable) -> Tool {
    let Callable { name, title, description, input_schema, output_schema, effects, target: _ } = callable;
    let mut tool = Tool::new(name, description, object(input_schema));
    tool.title = title;
    tool.output_schema = output_schema.map(object).map(Into::into);
    tool.with_annotations(
        ToolAnnotations::new()
            .read_only(effects.read_only)
            .destructive(effects.destructive)
            .idempotent(effects.idempotent)
            .open_world(effects.open_world),
    )
}

fn object(schema: Value) -> JsonObject {
    match schema {
        Value::Object(schema) => schema,
        // A schema that allows anything.
        _ => JsonObject::new(),
    }
}

/// What came of a run that has ended.
pub(super) fn result(run: &RunView) -> CallToolResult {
    let result = match run.state {
        RunState::Success => succeeded(run),
        _ => {
            let why = run.error.as_ref().map(|error| format!("{}: {}", error.code, error.message));
            failed(why.unwrap_or_else(|| format!("the run ended as {}", run.state)))
        }
    };
    with_run(result, run.run_id)
}

fn succeeded(run: &RunView) -> CallToolResult {
    let value = run.result.clone().unwrap_or_default();
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if text.len() > MAX_RESULT_BYTES {
        return failed(format!(
            "the result has {} bytes, more than the {MAX_RESULT_BYTES} that are sent here; read it with \
             GET /v1/run/{}",
            text.len(),
            run.run_id
        ));
    }
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(value).filter(|value| !value.is_string() && !value.is_null());
    result
}

/// In words from which a model can do better.
pub(super) fn failed(message: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(message.into())])
}

pub(super) fn with_run(mut result: CallToolResult, run_id: RunId) -> CallToolResult {
    let mut meta = MetaObject::default();
    meta.0.insert(RUN_ID.to_owned(), json!(run_id));
    result.meta = Some(meta);
    result
}

/// The error that a request ends with. What only the log may say is logged.
pub(super) fn refused(failure: Failure) -> ErrorData {
    let chain = failure.chain();
    let ApiError { code, message, param, retry_after_seconds, .. } = failure.error;
    if code.status() >= 500 {
        tracing::error!(code = code.as_str(), told = message, cause = chain, "a request failed");
    }
    let told = match code {
        ErrorCode::NotFound => McpCode::RESOURCE_NOT_FOUND,
        _ if code.status() >= 500 => McpCode::INTERNAL_ERROR,
        _ => McpCode::INVALID_PARAMS,
    };
    let data = json!({"code": code.as_str(), "param": param, "retry_after_seconds": retry_after_seconds});
    ErrorData::new(told, message, Some(data))
}
