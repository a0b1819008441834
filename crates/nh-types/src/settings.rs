//! What all sections of the configuration share.

use std::collections::BTreeMap;

use secrecy::SecretString;
use serde::{Serialize, Serializer};

/// What is wrong with the settings, or with a variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct SettingsFault {
    /// Such as `providers[0].kind`.
    pub at: String,
    pub message: String,
}

/// For `#[serde(serialize_with)]` of what is never printed.
pub fn redacted<S: Serializer>(secret: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| "[redacted]").serialize(serializer)
}

/// The same of values that have names.
pub fn redacted_values<S: Serializer>(
    secrets: &BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(secrets.keys().map(|name| (name, "[redacted]")))
}
