use futures_util::future::BoxFuture;
use nh_memory::filter::Filter;
use nh_memory::{Author, Memories, Query};
use nh_models::Models;
use nh_types::Scope;
use nh_types::memory::MemoryHit;
use nh_types::tool::Effects;
use serde_json::{Value, json};

use super::memory_store::{namespace_schema, refused};
use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};
use crate::memory::ByProvider;

const DEFAULT_LIMIT: u64 = 5;
const MAX_LIMIT: u64 = 20;

/// Finds what was remembered, by its meaning.
pub(super) struct MemorySearch {
    spec: ToolSpec,
    memories: Memories,
    models: Models,
}

impl MemorySearch {
    pub(super) fn new(memories: Memories, models: Models) -> Self {
        Self { spec: spec(), memories, models }
    }

    async fn search(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let remote = ByProvider::new(self.models.clone(), call.caller.clone());
        let author = Author {
            workspace_id: call.workspace_id,
            created_by: call.created_by,
            run: Some((call.run_id, call.step_id)),
            remote: &remote,
        };
        let given = call.arguments;
        let filter = given.get("filter").map(|filter| Filter::read("filter", filter)).transpose();
        let namespace = given["namespace"].as_str().unwrap_or(nh_memory::DEFAULT_NAMESPACE).to_owned();
        let query = Query {
            text: given["query"].as_str().unwrap_or_default().to_owned(),
            limit: given["limit"].as_u64().unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as usize,
            min_similarity: None,
            namespace: nh_memory::namespaces(Some(namespace)).map_err(|error| refused(error.into()))?,
            filter: filter.map_err(|error| ToolError::new("invalid_arguments", error.to_string()))?,
        };
        let hits = self.memories.search(author, query).await.map_err(refused)?;
        Ok(ToolOutput { text: told(&hits), value: json!({"memories": hits}), usage: remote.spent() })
    }
}

fn told(hits: &[MemoryHit]) -> String {
    if hits.is_empty() {
        return "Nothing that fits is remembered.".to_owned();
    }
    // Quoted, so that one that holds lines looks like no other.
    let line = |hit: &MemoryHit| {
        format!("- {} (similarity {:.2})", Value::from(hit.content.as_str()), hit.similarity)
    };
    hits.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl Tool for MemorySearch {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.search(call))
    }
}

fn spec() -> ToolSpec {
    let memory: Value = json!({
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "content": {"type": "string"},
            "similarity": {"type": "number", "minimum": -1, "maximum": 1},
            "metadata": {"type": "object"},
            "namespace": {"type": "string"},
            "created_at": {"type": "string", "format": "date-time"},
        },
        "required": ["id", "content", "similarity", "metadata", "namespace", "created_at"],
        "additionalProperties": false,
    });
    ToolSpec {
        name: "memory_search".to_owned(),
        description: "Recalls what was remembered in earlier conversations and runs, by its meaning: preferences, \
                      names, decisions, facts about people and projects. Use it for every question about what \
                      somebody likes, said, wants or decided before."
            .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "query": {
                    "type": "string",
                    "description": "What to recall, in words or as a question.",
                    "minLength": 1,
                    "maxLength": 8192,
                    "examples": ["Where does Mara like to sit on a plane?"],
                },
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
                "namespace": namespace_schema(),
                "filter": {
                    "type": "object",
                    "description": "What the metadata must be, such as {\"topic\": \"travel\"}.",
                },
            },
            "required": ["query"],
            "additionalProperties": false,
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": {"memories": {"type": "array", "items": memory}},
            "required": ["memories"],
            "additionalProperties": false,
        })),
        scopes: vec![Scope::MemoriesRead],
        effects: Effects::READS,
        timeout_ms: 30_000,
        repeatable: true,
        unavailable: None,
    }
}
