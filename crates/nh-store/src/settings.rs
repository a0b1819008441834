use nh_types::settings::redacted;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `[store]`: where the hub keeps its rows.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreSettings {
    /// A PostgreSQL URL, such as `postgres://user:password@host/database`.
    /// Absent: a SQLite file in the data directory.
    #[serde(serialize_with = "redacted")]
    #[schema(value_type = Option<String>)]
    pub url: Option<SecretString>,
}
