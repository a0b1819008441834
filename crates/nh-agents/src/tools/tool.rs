use futures_util::future::BoxFuture;
use nh_models::Caller;
use nh_types::model::Usage;
use nh_types::tool::{Effects, OwnTool};
use nh_types::{Clock, RunId, Scope, ScopeSet, WorkspaceId};
use serde_json::Value;

/// Of the text that the model sees.
const MAX_TEXT_CHARS: usize = 20_000;

/// Something that an agent, or a run of type `tool`, can call.
pub trait Tool: Send + Sync + 'static {
    fn spec(&self) -> &ToolSpec;

    /// Why it cannot be called now, and what would make it work.
    fn unavailable(&self) -> Option<String> {
        self.spec().unavailable.clone()
    }

    /// What it does, where a workspace registered it: a run keeps that.
    fn own(&self) -> Option<&OwnTool> {
        None
    }

    /// The arguments have been validated against the input schema, and the
    /// caller stops waiting after [`ToolSpec::timeout_ms`].
    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>>;
}

/// What a tool is called, takes, gives and needs.
#[derive(Clone, Debug)]
pub struct ToolSpec {
    /// `[A-Za-z0-9_.-]{1,128}`, unique in a registry.
    pub name: String,
    /// For the model: what it does, and when to use it.
    pub description: String,
    /// JSON Schema, draft 2020-12, of type object.
    pub input_schema: Value,
    /// Of [`ToolOutput::value`].
    pub output_schema: Option<Value>,
    /// A run must hold all of these for the tool to be offered to its agent.
    pub scopes: Vec<Scope>,
    pub effects: Effects,
    pub timeout_ms: u64,
    /// Whether a call that was in flight at a crash may be made again.
    pub repeatable: bool,
    /// Why it cannot be called, and the setting that would make it work.
    pub unavailable: Option<String>,
}

/// One call of a tool.
#[derive(Clone, Copy)]
pub struct ToolCall<'a> {
    pub arguments: &'a Value,
    pub workspace_id: &'a WorkspaceId,
    pub run_id: RunId,
    pub step_id: &'a str,
    /// `key:42` or `session:user_…`: who started the run.
    pub created_by: &'a str,
    /// On whose account a model is called.
    pub caller: &'a Caller,
    /// What its run may do.
    pub scopes: &'a ScopeSet,
    /// The same when a step is done again after a crash.
    pub idempotency_key: &'a str,
    pub clock: &'a dyn Clock,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolOutput {
    /// What the model sees.
    pub text: String,
    /// The same for programs, as the output schema says.
    pub value: Value,
    /// What it cost; [`Usage::NONE`] where nothing was bought.
    pub usage: Usage,
}

impl ToolOutput {
    /// Of a tool that buys nothing.
    pub fn free(text: String, value: Value) -> Self {
        Self { text, value, usage: Usage::NONE }
    }
}

/// Why a call failed, in words from which the model can do better.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ToolError {
    /// A word for programs, such as `invalid_arguments`.
    pub code: String,
    pub message: String,
}

impl ToolError {
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }
}

/// What the model sees of a long text.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}\n\n[cut here, after {MAX_TEXT_CHARS} characters]", &text[..end]),
    }
}
