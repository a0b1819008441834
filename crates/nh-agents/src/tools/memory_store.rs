use futures_util::future::BoxFuture;
use nh_memory::{Author, Memories};
use nh_models::Models;
use nh_store::Once;
use nh_store::memories::Added;
use nh_types::memory::CreateMemory;
use nh_types::tool::Effects;
use nh_types::{Scope, Timestamp};
use serde_json::{Value, json};

use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};
use crate::memory::{ByProvider, told};

/// Keeps something for later runs.
pub(super) struct MemoryStore {
    spec: ToolSpec,
    memories: Memories,
    models: Models,
}

impl MemoryStore {
    pub(super) fn new(memories: Memories, models: Models) -> Self {
        Self { spec: spec(), memories, models }
    }

    async fn store(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let remote = ByProvider::new(self.models.clone(), call.caller.clone());
        let author = Author {
            workspace_id: call.workspace_id,
            created_by: call.created_by,
            run: Some((call.run_id, call.step_id)),
            remote: &remote,
        };
        let given = call.arguments;
        let text = |field: &str| given[field].as_str().map(str::to_owned);
        let expires_at = text("expires_at").map(|at| Timestamp::parse(&at)).transpose();
        let new = CreateMemory {
            content: text("content").unwrap_or_default(),
            metadata: given["metadata"].as_object().cloned(),
            namespace: text("namespace"),
            expires_at: expires_at
                .map_err(|error| ToolError::new("invalid_arguments", format!("expires_at: {error}")))?,
        };
        let added = self.memories.add(author, new, None).await.map_err(refused)?;
        let (id, is_new) = match added {
            Once::First(Added::New { id, .. }) | Once::Replay(Added::New { id, .. }) => (id, true),
            Once::First(Added::Known { id, .. }) | Once::Replay(Added::Known { id, .. }) => (id, false),
            _ => return Err(ToolError::new("conflict", "the memory could not be stored; try again")),
        };
        let text = if is_new { "Stored." } else { "That was remembered already." };
        let (text, value) = (format!("{text} ({id})"), json!({"id": id, "new": is_new}));
        Ok(ToolOutput { text, value, usage: remote.spent() })
    }
}

pub(super) fn refused(error: nh_memory::MemoryError) -> ToolError {
    let error = told(error);
    ToolError::new(error.code.as_str(), error.message)
}

/// The arguments that both memory tools have.
pub(super) fn namespace_schema() -> Value {
    json!({
        "type": "string",
        "description": "Which of several separate memories; leave it out unless you were told one.",
        "minLength": 1,
        "maxLength": 128,
    })
}

impl Tool for MemoryStore {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.store(call))
    }
}

fn spec() -> ToolSpec {
    ToolSpec {
        name: "memory_store".to_owned(),
        description: "Remembers a fact for later conversations and runs: a preference, a name, a decision, \
                      anything worth knowing again. Use it when asked to remember, note or keep something. \
                      Write one fact in a whole sentence that says who or what it is about."
            .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "content": {
                    "type": "string",
                    "description": "The fact, as a sentence that can be understood alone.",
                    "minLength": 1,
                    "maxLength": 65536,
                    "examples": ["Mara prefers window seats on short flights."],
                },
                "metadata": {
                    "type": "object",
                    "description": "Words to filter by later.",
                    "examples": [{"topic": "travel"}],
                },
                "namespace": namespace_schema(),
                "expires_at": {
                    "type": "string",
                    "format": "date-time",
                    "description": "When to forget it.",
                },
            },
            "required": ["content"],
            "additionalProperties": false,
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "new": {"type": "boolean", "description": "False: it was remembered already."},
            },
            "required": ["id", "new"],
            "additionalProperties": false,
        })),
        scopes: vec![Scope::MemoriesWrite],
        effects: Effects::ADDS,
        timeout_ms: 60_000,
        repeatable: true,
        unavailable: None,
    }
}
