//! `neuralhub config print`: what is in force, without the secrets.

use serde_json::Value;

use super::Config;

const REDACTED: &str = "[redacted]";

/// Field names whose text is a secret, wherever they stand.
const SECRET_FIELDS: [&str; 3] = ["api_key", "otlp_headers", "secret_access_key"];

/// The configuration as TOML, secrets redacted; what is not set is left out.
pub fn printed(config: &Config) -> Result<String, anyhow::Error> {
    let tree = without_secrets(serde_json::to_value(config)?);
    Ok(toml::to_string(&tree)?)
}

fn without_secrets(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            let redacted = kept.map(|(name, value)| {
                let value = match value {
                    Value::String(_) if SECRET_FIELDS.contains(&name.as_str()) => REDACTED.into(),
                    Value::String(text) => without_password(text).into(),
                    other => without_secrets(other),
                };
                (name, value)
            });
            Value::Object(redacted.collect())
        }
        Value::Array(items) => items.into_iter().map(without_secrets).collect(),
        other => other,
    }
}

/// A URL may carry a password; anything else stays as it is.
fn without_password(text: String) -> String {
    match url::Url::parse(&text) {
        Ok(mut url) if url.password().is_some() => {
            // Fails only for URLs that cannot have a password.
            let _ = url.set_password(Some("redacted"));
            url.into()
        }
        _ => text,
    }
}
