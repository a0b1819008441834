use serde::{Deserialize, Serialize};
use url::Url;
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
    /// Another origin of this hub that objects' URLs are to have, so that what a
    /// browser runs from one has no part in the hub's own. It serves nothing else.
    #[schema(value_type = Option<String>, example = "https://blobs.example.com")]
    pub public_origin: Option<Url>,
}

impl Default for BlobSettings {
    fn default() -> Self {
        Self { max_size_bytes: 5 << 30, quota_bytes: None, public_origin: None }
    }
}
