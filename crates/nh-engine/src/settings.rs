use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `[engine]`: how runs are driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// How many runs this process drives at once; further ones queue up.
    #[schema(minimum = 1, maximum = 10000)]
    pub max_running: usize,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { max_running: 256 }
    }
}
