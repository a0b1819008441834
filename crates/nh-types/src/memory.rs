//! `/v1/memory`: what is remembered, and what of it is found by its meaning.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::id::{MemoryId, RunId};
use crate::patch::{not_null, present};

/// `POST /v1/memory`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"content": "The user prefers Python over JavaScript.", "metadata": {"source": "chat_session_1"}}))]
pub struct CreateMemory {
    /// 1 to 65,536 bytes. The same content in the same namespace is one memory.
    pub content: String,
    /// At most 16 KiB as JSON.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    /// 1 to 128 of letters, digits and `_ - . : / @`; absent: `default`.
    #[serde(default)]
    pub namespace: Option<String>,
    /// When it is forgotten; absent: never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// The answer to `POST /v1/memory`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedMemory {
    pub id: MemoryId,
    pub created_at: Timestamp,
}

/// Who wrote a memory first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemorySource {
    /// `key:42` or `session:user_…`: of a run, who started it.
    pub created_by: String,
    pub run_id: Option<RunId>,
    /// The step of the run.
    pub step: Option<String>,
}

/// A memory as the API shows it, and a line of an export.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryView {
    pub id: MemoryId,
    pub content: String,
    pub namespace: String,
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub source: MemorySource,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemoryHit {
    pub id: MemoryId,
    pub content: String,
    /// The cosine of the embeddings of the question and of the content (of its
    /// nearest part, if it is long), from -1 to 1.
    pub similarity: f64,
    #[schema(value_type = Object)]
    pub metadata: Map<String, Value>,
    pub namespace: String,
    pub created_at: Timestamp,
}

/// `GET /v1/memory`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MemoryList {
    pub memories: Vec<MemoryView>,
    pub next_cursor: Option<String>,
}

/// `PATCH /v1/memory/{id}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"content": "The user prefers Rust over Python."}))]
pub struct ChangeMemory {
    /// As in `POST`; it is embedded anew.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub content: Option<String>,
    /// Stands in place of all that was there; null: none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Option<Map<String, Value>>>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub namespace: Option<String>,
    /// Null: never.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Timestamp>)]
    pub expires_at: Option<Option<Timestamp>>,
}

/// `DELETE /v1/memory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeletedMemories {
    pub deleted: u64,
}

/// A line of `POST /v1/memory/import`: a body of `POST /v1/memory`, or a line
/// of an export, of which the rest is passed over.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ImportMemory {
    pub content: String,
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
    #[serde(default)]
    pub namespace: Option<String>,
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// What became of `POST /v1/memory/import`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportedMemories {
    /// Memories that are new.
    pub created: u64,
    /// Lines whose content was there already.
    pub existing: u64,
    /// Lines that were passed over because something is wrong with them.
    pub failed: u64,
    /// What is wrong with the first hundred of those.
    pub errors: Vec<ImportFault>,
}

/// A line that was not imported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportFault {
    /// Counted from 1.
    pub line: u64,
    pub message: String,
}

/// `GET /v1/memory/model`: what a workspace's memories are embedded by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryModel {
    pub model: String,
    /// Numbers in an embedding; null before the first memory.
    pub dimensions: Option<u32>,
    pub memories: u64,
    /// What all are being embedded by anew; searches go by `model` until then.
    pub next: Option<NextMemoryModel>,
}

/// How far re-embedding is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NextMemoryModel {
    pub model: String,
    /// Memories that are embedded by it.
    pub embedded: u64,
    /// Why it does not go on, if it does not; it is tried again.
    pub error: Option<String>,
}

/// `PUT /v1/memory/model`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"model": "neuralhub/minilm"}))]
pub struct ChangeMemoryModel {
    /// A model with the capability `embeddings`, as `GET /v1/models` lists it.
    pub model: String,
}
