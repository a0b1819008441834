//! Headers with secrets in them, of requests that a workspace has made. Who registers them names
//! the secrets in the headers; their values are kept sealed, put in when a request is made, and
//! taken out of whatever comes back.

mod check;
pub(crate) mod redact;
pub(crate) mod template;

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use nh_store::seals::{self, Put, Sealer};
use nh_store::{Store, StoreError};
use nh_types::WorkspaceId;
use nh_types::tool::SecretValues;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::tools::ToolError;
use template::{Part, parts};

pub(crate) use check::check_headers;

/// Of one that is sent, with its secrets in it.
const MAX_HEADER_BYTES: usize = 16 * 1024;
/// What an argument leaves as it is (RFC 3986, section 2.3): it stays within its place.
pub(crate) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The values of secrets, by their names.
pub(crate) type Secrets = Vec<(String, SecretString)>;

/// The headers of one registration. Its secrets belong to it, and to the origin that they are
/// told to: another of that name, which an old run may still know, finds none of them.
pub struct SecretHeaders<'r> {
    /// The table of [`nh_store`] that the registration is in.
    pub table: &'static str,
    pub owner: &'r str,
    pub generation: &'r str,
    pub origin: String,
    pub headers: &'r BTreeMap<String, String>,
    /// The names of its secrets.
    pub secrets: &'r [String],
}

impl SecretHeaders<'_> {
    fn row(&self, secret: &str) -> String {
        seals::owned_row(self.owner, secret, self.generation, &self.origin)
    }

    /// The rows that the secrets are kept in.
    pub fn rows(&self) -> Vec<String> {
        self.secrets.iter().map(|secret| self.row(secret)).collect()
    }

    /// The values that come with a registration, ready to be kept.
    pub fn seal(
        &self,
        sealer: &Sealer,
        workspace_id: &WorkspaceId,
        given: Option<&SecretValues>,
    ) -> Result<Vec<Put>, StoreError> {
        let sealed = given.into_iter().flat_map(|given| &given.0).map(|(name, value)| {
            let value = SecretSlice::from(value.as_bytes().to_vec());
            Put::sealing(sealer, workspace_id, self.table, &self.row(name), &value)
        });
        sealed.collect()
    }

    pub(crate) async fn open(
        &self,
        store: &Store,
        sealer: &Sealer,
        workspace_id: &WorkspaceId,
    ) -> Result<Secrets, ToolError> {
        let mut secrets = Vec::new();
        for name in self.secrets {
            let opened = seals::open(store, sealer, workspace_id, self.table, &self.row(name)).await;
            let opened = opened.map_err(|error| {
                tracing::error!(owner = self.owner, secret = name, %error, "a secret cannot be opened");
                let message = format!("the secret `{name}` of `{}` cannot be read now", self.owner);
                ToolError::new("unavailable_secret", message)
            })?;
            let value = opened.and_then(|value| String::from_utf8(value.expose_secret().to_vec()).ok());
            let Some(value) = value else {
                let message =
                    format!("the secret `{name}` of `{}` is there no more; register it anew", self.owner);
                return Err(ToolError::new("missing_secret", message));
            };
            secrets.push((name.clone(), SecretString::from(value)));
        }
        Ok(secrets)
    }

    /// The headers with the secrets in them, each marked as sensitive.
    pub(crate) fn filled(&self, secrets: &Secrets) -> Result<HeaderMap, String> {
        let mut filled = HeaderMap::new();
        for (name, value) in self.headers {
            let header: HeaderName = name.parse().map_err(|_| format!("`{name}` is no header"))?;
            let mut value = HeaderValue::from_str(&fill(value, secrets)?)
                .map_err(|_| format!("the header `{name}` has no value that a header can have"))?;
            value.set_sensitive(true);
            filled.insert(header, value);
        }
        Ok(filled)
    }
}

fn fill(value: &str, secrets: &Secrets) -> Result<String, String> {
    let mut filled = String::new();
    for part in parts(value)? {
        match part {
            Part::Text(text) => filled.push_str(text),
            Part::Secret(name) => {
                let secret = secrets.iter().find(|(known, _)| known == name);
                let (_, secret) = secret.ok_or_else(|| format!("there is no secret `{name}`"))?;
                filled.push_str(secret.expose_secret());
                if filled.len() > MAX_HEADER_BYTES {
                    return Err(format!("a header has more than {MAX_HEADER_BYTES} bytes with its secrets"));
                }
            }
            Part::Argument(name) => return Err(format!("`{{{name}}}` stands in a header")),
        }
    }
    Ok(filled)
}
