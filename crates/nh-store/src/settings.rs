use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};
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

/// The URL may hold a password, so it is never printed.
fn redacted<S: Serializer>(url: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    url.as_ref().map(|_| "[redacted]").serialize(serializer)
}
