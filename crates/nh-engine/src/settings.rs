use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `[engine]`: how runs are driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// How many runs this process drives at once; further ones queue up.
    #[schema(minimum = 1, maximum = 10000)]
    pub max_running: usize,
    /// A node that has not renewed its lease for so long is dead, and its runs
    /// are taken over. Used on PostgreSQL only.
    #[schema(minimum = 500, maximum = 600_000)]
    pub lease_ms: u32,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { max_running: 256, lease_ms: 10_000 }
    }
}
