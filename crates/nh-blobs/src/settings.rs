use nh_types::settings::redacted;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

/// `[blobs]`: the objects of `/v1/storage`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BlobSettings {
    /// The bucket that objects are in, such as `s3://bucket/prefix`. Absent: files in the
    /// data directory.
    pub url: Option<String>,
    /// Where the bucket's server is, such as `https://minio.example.com:9000`. Absent:
    /// Amazon S3.
    #[schema(value_type = Option<String>)]
    pub endpoint: Option<Url>,
    /// The bucket's region. Many servers other than Amazon's take any.
    pub region: String,
    /// The id of the key that the bucket is used with.
    pub access_key_id: Option<String>,
    /// The secret of that key. Better in `secret_access_key_env` or
    /// `secret_access_key_file`.
    #[serde(serialize_with = "redacted")]
    #[schema(value_type = Option<String>, default = json!(null))]
    pub secret_access_key: Option<SecretString>,
    /// The environment variable that holds the secret.
    pub secret_access_key_env: Option<String>,
    /// The file that holds the secret.
    pub secret_access_key_file: Option<String>,
    /// Whether `endpoint` may be `http://` on another machine. Who is on the way there can
    /// read the objects.
    pub allow_http: bool,
    /// The most bytes that one object may have.
    #[schema(minimum = 1)]
    pub max_size_bytes: u64,
    /// The most bytes that the objects of each workspace may have together. Absent: no
    /// bound but the disk.
    #[schema(minimum = 1)]
    pub quota_bytes: Option<u64>,
    /// US dollars for a gigabyte (10^9 bytes) that is stored for a month (730 hours), as
    /// `/v1/usage` counts it. Absent: it has no price.
    #[schema(minimum = 0, maximum = 1000)]
    pub price_per_gb_month: Option<f64>,
    /// Another origin of this hub that objects' URLs are to have, so that what a
    /// browser runs from one has no part in the hub's own. It serves nothing else.
    #[schema(value_type = Option<String>, example = "https://blobs.example.com")]
    pub public_origin: Option<Url>,
}

impl Default for BlobSettings {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            region: "us-east-1".to_owned(),
            access_key_id: None,
            secret_access_key: None,
            secret_access_key_env: None,
            secret_access_key_file: None,
            allow_http: false,
            max_size_bytes: 5 << 30,
            quota_bytes: None,
            price_per_gb_month: None,
            public_origin: None,
        }
    }
}
