//! The `[response_cache]` section of the configuration.

use nh_types::settings::SettingsFault;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The most seconds that an answer may be kept: 30 days.
pub const MAX_CACHE_SECONDS: u64 = 2_592_000;
const MAX_ENTRIES: u32 = 1_000_000;

/// Chat answers that are given again to the same request of the same workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheSettings {
    /// Seconds that each answer is kept. Absent: only where a request asks for it, with the
    /// header `x-neuralhub-cache`.
    pub ttl_seconds: Option<u64>,
    /// Answers of one workspace that are kept at most; the oldest give way.
    pub max_entries: u32,
}

impl Default for CacheSettings {
    fn default() -> Self {
        Self { ttl_seconds: None, max_entries: 10_000 }
    }
}

impl CacheSettings {
    /// Every fault, with its place.
    pub fn faults(&self) -> Vec<SettingsFault> {
        let ttl = self.ttl_seconds.filter(|seconds| !(1..=MAX_CACHE_SECONDS).contains(seconds));
        let ttl = ttl.map(|seconds| SettingsFault {
            at: "response_cache.ttl_seconds".to_owned(),
            message: format!("{seconds} is not from 1 to {MAX_CACHE_SECONDS} seconds"),
        });
        let is_wrong = !(1..=MAX_ENTRIES).contains(&self.max_entries);
        let entries = is_wrong.then(|| SettingsFault {
            at: "response_cache.max_entries".to_owned(),
            message: format!("{} is not from 1 to {MAX_ENTRIES}", self.max_entries),
        });
        ttl.into_iter().chain(entries).collect()
    }
}
