//! `[search]`: which service answers the `web_search` tool.

use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use url::Url;
use utoipa::ToSchema;

/// `[search]`: without a provider, `web_search` is listed as unavailable.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SearchSettings {
    /// searxng (a server of your own), brave, tavily, or google (Programmable
    /// Search).
    pub provider: Option<SearchProvider>,
    /// Where the provider's API is. Needed for searxng, whose instances must
    /// allow the format `json`; the others have a default.
    #[schema(value_type = Option<String>, example = "http://127.0.0.1:8888")]
    pub base_url: Option<Url>,
    /// The provider's key. Not needed for searxng.
    #[serde(serialize_with = "redacted")]
    #[schema(value_type = Option<String>, default = json!(null))]
    pub api_key: Option<SecretString>,
    /// The environment variable that holds the key, instead of `api_key`.
    #[schema(example = "BRAVE_API_KEY")]
    pub api_key_env: Option<String>,
    /// google only: the engine's id (`cx`).
    pub engine_id: Option<String>,
}

/// A service that `web_search` can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SearchProvider {
    Searxng,
    Brave,
    Tavily,
    Google,
}

/// A key is never printed, only that there is one.
fn redacted<S: Serializer>(key: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref().map(|_| "(secret)").serialize(serializer)
}
