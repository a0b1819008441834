//! The `[[providers]]` section of the configuration, and what it resolves to.

use nh_types::provider::{ModelSettings, ProviderKind};
use nh_types::settings::redacted;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

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

mod cache;
mod resolve;
mod workspace;

pub use cache::{CacheSettings, MAX_CACHE_SECONDS};
pub use resolve::{ResolvedProvider, Timeouts};
pub(crate) use resolve::{address, check_key, faults};
pub use workspace::WorkspaceLimits;
