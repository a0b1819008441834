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
    /// The largest input, step's output or result of a run, in bytes as JSON. A
    /// larger input is refused with a 413; a step that gives more has failed.
    #[schema(minimum = 262_144, maximum = 268_435_456)]
    pub max_value_bytes: u64,
    /// How much of one run's values over 256 KiB is kept together, its result
    /// aside, in bytes. A run that is under way has them in memory.
    #[schema(minimum = 262_144, maximum = 4_294_967_296_u64)]
    pub max_run_values_bytes: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            max_running: 256,
            max_queued_per_workspace: 100_000,
            lease_ms: 10_000,
            keep_finished_days: 30,
            max_value_bytes: 16 * 1024 * 1024,
            max_run_values_bytes: 64 * 1024 * 1024,
        }
    }
}
