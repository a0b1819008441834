//! `/v1/providers`: who serves models, and how their calls go.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::patch::{not_null, present};
use crate::tool::SecretText;

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

impl ProviderKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Openrouter => "openrouter",
            Self::Google => "google",
            Self::Anthropic => "anthropic",
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

/// A provider that a workspace registered, as its row keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OwnProvider {
    pub name: String,
    pub kind: ProviderKind,
    /// Without a slash at its end.
    pub base_url: String,
    /// Its key is kept sealed elsewhere.
    pub has_api_key: bool,
    pub models: Vec<ModelSettings>,
    /// Of one that is registered anew under its name another: it has its own key.
    pub generation: String,
}

/// Whether a provider is worth asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderStatus {
    /// The last call was answered, or there was none.
    Healthy,
    /// The last calls failed, and it is asked still.
    Failing,
    /// Several calls in a row failed, so it is left alone for a while.
    Resting,
}

/// How a provider's calls went, as this node saw it since its start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProviderHealth {
    pub status: ProviderStatus,
    pub failures_in_a_row: u32,
    /// Until when it is left alone.
    pub rests_until: Option<Timestamp>,
    pub last_success_at: Option<Timestamp>,
    pub last_failure_at: Option<Timestamp>,
    pub last_failure: Option<String>,
}

/// Whose a provider is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderSource {
    /// The operator's, who changes it in the hub's configuration; it serves all workspaces.
    Configuration,
    /// The workspace's own.
    Workspace,
}

/// A provider of models, as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProviderView {
    pub name: String,
    pub kind: ProviderKind,
    pub source: ProviderSource,
    /// How many of its models are known.
    pub known_models: usize,
    /// Why its models could not be listed when that was tried last.
    pub listing_failure: Option<String>,
    #[serde(flatten)]
    pub health: ProviderHealth,
    /// Of a workspace's own, as the rest is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The key itself is shown to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_api_key: Option<bool>,
    /// What its registration says of its models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models: Option<Vec<ModelSettings>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

/// `GET /v1/providers`: the workspace's own by their names, then those of the configuration.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProviderList {
    pub providers: Vec<ProviderView>,
}

/// `POST /v1/providers`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "our-openai", "kind": "openai", "api_key": "a-key-of-yours"}))]
pub struct CreateProvider {
    /// 1 to 64 of letters, digits, `_`, `-` and `.`, a letter or digit first. Its models are also reachable as
    /// `name/model`.
    pub name: String,
    /// `openai` is also for any server that speaks its protocol.
    pub kind: ProviderKind,
    /// Where its API is. Absent: the kind's own public address.
    #[serde(default)]
    #[schema(max_length = 2048)]
    pub base_url: Option<String>,
    /// Kept encrypted, and shown to nobody.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub api_key: Option<SecretText>,
    /// Models to list besides those that the provider lists itself, and what to say of a model
    /// instead of what the catalogue says.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub models: Vec<ModelSettings>,
}

/// `PATCH /v1/providers/{name}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"api_key": "a-newer-key-of-yours"}))]
pub struct ChangeProvider {
    /// At another origin (scheme, host, port) the key has to be given anew.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub base_url: Option<String>,
    /// null: it needs none.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, required = false)]
    pub api_key: Option<Option<SecretText>>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<ModelSettings>, required = false)]
    pub models: Option<Vec<ModelSettings>>,
}
