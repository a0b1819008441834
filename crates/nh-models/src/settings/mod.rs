//! The `[[providers]]` section of the configuration, and what it resolves to.

use nh_types::settings::redacted;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

/// Which dialect of the chat protocol a provider speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// OpenAI, or any server that speaks its protocol (Ollama, vLLM, llama.cpp).
    #[default]
    Openai,
    Openrouter,
    /// Gemini's API.
    Google,
    Anthropic,
}

/// One model provider. It serves all workspaces.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProviderSettings {
    /// The provider's name: its models are also reachable as `name/model`.
    pub name: String,
    /// `openai` (or anything that speaks its protocol), `openrouter`, `google` or `anthropic`.
    pub kind: ProviderKind,
    /// Where its API is, for example `http://127.0.0.1:11434/v1`. Absent: the
    /// kind's own public address.
    #[schema(value_type = Option<String>)]
    pub base_url: Option<Url>,
    /// Its API key. Better in `api_key_env` or `api_key_file`.
    #[serde(serialize_with = "redacted")]
    #[schema(value_type = Option<String>, default = json!(null))]
    pub api_key: Option<SecretString>,
    /// The environment variable that holds its API key.
    pub api_key_env: Option<String>,
    /// The file that holds its API key.
    pub api_key_file: Option<String>,
    /// Seconds that a connection may take.
    pub connect_timeout_seconds: u64,
    /// Seconds until the first byte of an answer; one that is not streamed begins when it is
    /// complete.
    pub first_byte_timeout_seconds: u64,
    /// Seconds that an answer may pause once it has begun.
    pub pause_timeout_seconds: u64,
    /// Models to list besides those that the provider lists itself, and what
    /// to say of a model instead of what the catalogue says.
    pub models: Vec<ModelSettings>,
}

impl Default for ProviderSettings {
    fn default() -> Self {
        let Timeouts { connect_ms, first_byte_ms, pause_ms } = Timeouts::default();
        Self {
            name: String::new(),
            kind: ProviderKind::default(),
            base_url: None,
            api_key: None,
            api_key_env: None,
            api_key_file: None,
            connect_timeout_seconds: connect_ms / 1_000,
            first_byte_timeout_seconds: first_byte_ms / 1_000,
            pause_timeout_seconds: pause_ms / 1_000,
            models: Vec::new(),
        }
    }
}

/// One model of a provider.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModelSettings {
    /// The id that the provider knows the model by.
    pub id: String,
    /// US dollars per million input tokens.
    pub input_cost: Option<f64>,
    /// US dollars per million output tokens. Where only one of the two costs
    /// is given, the other is the catalogue's, else 0.
    pub output_cost: Option<f64>,
    /// Tokens.
    pub context_length: Option<u64>,
    /// Of `chat`, `tools`, `vision`, `embeddings`.
    pub capabilities: Option<Vec<String>>,
}

mod cache;
mod resolve;
mod workspace;

pub use cache::{CacheSettings, MAX_CACHE_SECONDS};
pub use resolve::{ResolvedProvider, Timeouts};
pub use workspace::WorkspaceLimits;
