use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `[engine]`: how runs are driven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EngineSettings {
    /// How many runs this process drives at once; further ones queue up.
    #[schema(minimum = 1, maximum = 10000)]
    pub max_running: usize,
    /// How many runs of one workspace may wait in the queue, or for their time;
    /// further ones are refused with a 429.
    #[schema(minimum = 1, maximum = 10_000_000)]
    pub max_queued_per_workspace: u32,
    /// A node that has not renewed its lease for so long is dead, and its runs
    /// are taken over. Used on PostgreSQL only.
    #[schema(minimum = 500, maximum = 600_000)]
    pub lease_ms: u32,
    /// Runs that ended longer ago, in days, are removed with their journals.
    /// What their model calls used stays counted.
    #[schema(minimum = 1, maximum = 36_500)]
    pub keep_finished_days: u32,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self { max_running: 256, max_queued_per_workspace: 100_000, lease_ms: 10_000, keep_finished_days: 30 }
    }
}
