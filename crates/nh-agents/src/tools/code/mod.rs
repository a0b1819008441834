//! Tools that a workspace registered: functions in Python or JavaScript. Each call has a
//! process of its own in the sandbox of its run, so that nothing that a model runs there
//! changes what the function does.

use futures_util::future::BoxFuture;
use nh_compute::{Compute, OfRun, What, Work};
use nh_schema::Validator;
use nh_types::Scope;
use nh_types::sandbox::{CodeLanguage, Execution};
use nh_types::tool::{CodeTool, Effects, OwnTool};
use serde_json::{Value, json};

use super::run_code::{Place, failed};
use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};
use nh_schema as schema;

/// Room for a sandbox's start.
const START_MS: u64 = 60_000;
/// Of what a failed function said, the end is told.
const MAX_TOLD_CHARS: usize = 4000;

/// A registered function.
pub(super) struct Code {
    spec: ToolSpec,
    /// As its run keeps it.
    own: OwnTool,
    definition: CodeTool,
    place: Place,
    /// Of what it returns; None: anything.
    returns: Option<Validator>,
}

impl Code {
    pub(super) fn new(definition: &CodeTool, compute: &Compute) -> Result<Self, String> {
        let spec = ToolSpec {
            name: definition.name.clone(),
            description: definition.description.clone(),
            input_schema: definition.input_schema.clone(),
            output_schema: definition.output_schema.clone(),
            scopes: vec![Scope::ResourcesWrite],
            effects: Effects::ADDS,
            timeout_ms: u64::from(definition.timeout_seconds) * 1000 + START_MS,
            // Without a network there is nothing outside its run's sandbox that it could do.
            repeatable: true,
            unavailable: None,
        };
        let returns = definition.output_schema.as_ref().map(schema::compile).transpose()?;
        let place = Place::of(definition.language, compute.clone());
        let own = OwnTool::Code(definition.clone());
        Ok(Self { spec, own, definition: definition.clone(), place, returns })
    }

    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let CodeTool { name, language, code, timeout_seconds, .. } = &self.definition;
        let OfRun { id, is_another: _ } = self.place.sandbox(&call).await?;
        let (program, option, caller) = match language {
            CodeLanguage::Nodejs => ("node", "-e", include_str!("call.js")),
            CodeLanguage::Python | CodeLanguage::Bash => ("python3", "-c", include_str!("call.py")),
        };
        let given = json!({"name": name, "code": code, "arguments": call.arguments});
        let work = Work {
            what: What::Command([program, option, caller].map(str::to_owned).to_vec()),
            stdin: Some(given.to_string()),
            timeout_seconds: Some(*timeout_seconds),
        };
        let executing = self.place.compute.execute(call.workspace_id, &id, work).await.map_err(failed)?;
        let value = self.value(executing.whole().await.map_err(failed)?)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Ok(ToolOutput::free(text, value))
    }

    /// What the function returned.
    fn value(&self, execution: Execution) -> Result<Value, ToolError> {
        let error = |code: &str, message: String| Err(ToolError::new(code, message));
        if let Some(limit) = execution.killed {
            return error("killed", format!("the function was ended by its limit: {limit}"));
        }
        if execution.exit_code != 0 {
            let said = execution.stderr.trim_end();
            let skipped = said.chars().count().saturating_sub(MAX_TOLD_CHARS);
            let said: String = said.chars().skip(skipped).collect();
            return error("tool_failed", format!("the function failed: {said}"));
        }
        if execution.truncated {
            return error("too_large", "what the function returned or printed is too much".to_owned());
        }
        let value: Value = match serde_json::from_str(&execution.stdout) {
            Ok(value) => value,
            Err(_) => return error("tool_failed", "what the function returned is no JSON".to_owned()),
        };
        let faults = self.returns.as_ref().map(|returns| schema::faults(returns, &value)).unwrap_or_default();
        match faults.is_empty() {
            true => Ok(value),
            false => {
                let told = schema::told("output", &faults);
                error("invalid_output", format!("what the function returned does not fit its schema: {told}"))
            }
        }
    }
}

impl Tool for Code {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn own(&self) -> Option<&OwnTool> {
        Some(&self.own)
    }

    fn unavailable(&self) -> Option<String> {
        self.place.unavailable()
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.run(call))
    }
}
