//! A tool of a server that speaks the Model Context Protocol.

use std::sync::OnceLock;

use futures_util::future::BoxFuture;
use nh_schema::Validator;
use nh_types::Scope;
use nh_types::mcp::McpTool;
use nh_types::tool::OwnTool;
use serde_json::{Value, json};

use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec, cut};
use crate::mcp::McpServers;
use nh_schema as schema;

/// So that the server's own end of a call is heard, and not only the hub's.
const GRACE_MS: u64 = 2_000;

pub(crate) struct McpCall {
    spec: ToolSpec,
    definition: McpTool,
    /// As its run keeps it.
    own: OwnTool,
    servers: McpServers,
    /// Of what is answered, from the first answer on.
    returns: OnceLock<Option<Validator>>,
}

impl McpCall {
    pub(crate) fn new(definition: McpTool, unavailable: Option<String>, servers: &McpServers) -> Self {
        let spec = ToolSpec {
            name: definition.name.clone(),
            description: definition.description.clone(),
            input_schema: definition.input_schema.clone(),
            output_schema: definition.output_schema.clone(),
            scopes: vec![Scope::ToolsCall],
            effects: definition.effects,
            timeout_ms: u64::from(definition.timeout_seconds) * 1000 + GRACE_MS,
            repeatable: definition.effects.idempotent,
            unavailable,
        };
        let own = OwnTool::Mcp(definition.clone());
        Self { spec, definition, own, servers: servers.clone(), returns: OnceLock::new() }
    }

    async fn run(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let arguments = call.arguments.as_object().cloned().unwrap_or_default();
        let called = self.servers.call(call.workspace_id, &self.definition, arguments).await?;
        let text = cut(&called.text);
        if called.is_error {
            let text =
                if text.is_empty() { "the server says no more than that it failed".to_owned() } else { text };
            return Err(ToolError::new("tool_failed", text));
        }
        let Some(schema) = &self.definition.output_schema else {
            let content = called.content;
            let value = called.structured.unwrap_or_else(|| json!({"content": content}));
            return Ok(ToolOutput::free(text, value));
        };
        let invalid = |told: String| ToolError::new("invalid_output", told);
        let value = called.structured.ok_or_else(|| {
            invalid(
                "the tool has an output schema, and its server answers with nothing structured".to_owned(),
            )
        })?;
        self.check(schema, &value).map_err(|told| {
            invalid(format!("what the server answers does not fit the tool's schema: {told}"))
        })?;
        Ok(ToolOutput::free(text, value))
    }

    fn check(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let returns = self.returns.get_or_init(|| schema::compile(schema).ok());
        let faults = returns.as_ref().map(|returns| schema::faults(returns, value)).unwrap_or_default();
        if faults.is_empty() { Ok(()) } else { Err(schema::told("output", &faults)) }
    }
}

impl Tool for McpCall {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn own(&self) -> Option<&OwnTool> {
        Some(&self.own)
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.run(call))
    }
}
