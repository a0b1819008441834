use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use utoipa::ToSchema;

/// `[memory]`: how memories are embedded and searched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySettings {
    /// What embeds the memories of workspaces that have none yet: the id of a
    /// model with the capability `embeddings`. Absent: `openai/text-embedding-3-small`
    /// where a provider named `openai` is configured, else `neuralhub/minilm`, which
    /// runs in this process. A workspace keeps what it began with until
    /// `PUT /v1/memory/model` changes it.
    pub model: Option<String>,
    /// The directory of the local model's two files. Absent: `models/all-MiniLM-L6-v2`
    /// in the data directory.
    #[schema(value_type = Option<String>)]
    pub weights_dir: Option<PathBuf>,
    /// Whether the local model's files (91 MB) are fetched when they are first needed and
    /// missing; `neuralhub setup` fetches them whatever this says.
    pub fetch_weights: bool,
    /// How much of the workspaces' embeddings is kept in memory to be searched, about
    /// 450 bytes a memory. Those that are searched most rarely are read again when needed.
    #[schema(minimum = 1)]
    pub max_index_mib: usize,
    /// A workspace with more memories than this is searched by pgvector, 0.8 or newer, in
    /// place of the hub's memory, where PostgreSQL keeps the rows and has it.
    pub pgvector_above: u64,
    /// Texts that may wait for the local model: so many questions, and as many contents;
    /// more are refused with 429. Imports wait instead.
    #[schema(minimum = 64)]
    pub max_waiting_texts: usize,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            model: None,
            weights_dir: None,
            fetch_weights: true,
            max_index_mib: 1024,
            pgvector_above: 500_000,
            max_waiting_texts: 1024,
        }
    }
}
