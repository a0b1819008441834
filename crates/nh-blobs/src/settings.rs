use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `[blobs]`: the objects of `/v1/storage`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BlobSettings {
    /// The most bytes that one object may have.
    #[schema(minimum = 1)]
    pub max_size_bytes: u64,
    /// The most bytes that the objects of each workspace may have together. Absent: no
    /// bound but the disk.
    #[schema(minimum = 1)]
    pub quota_bytes: Option<u64>,
}

impl Default for BlobSettings {
    fn default() -> Self {
        Self { max_size_bytes: 5 << 30, quota_bytes: None }
    }
}
