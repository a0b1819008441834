//! URLs of objects that need no key: what they allow is in the URL, under a code
//! that only the hub can make. Its key changes every week; as no link lasts
//! longer, those of a week before are all that still count.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nh_store::seals::Sealer;
use nh_types::blob::{Access, Pathname, SignedMethod};
use nh_types::{ApiError, ErrorCode, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::auth::CredentialHash;

pub(crate) const MAX_SECONDS: u32 = 7 * 24 * 60 * 60;
const WEEK_MS: i64 = MAX_SECONDS as i64 * 1000;
/// How much the clocks of two nodes may differ.
const SKEW_MS: i64 = 60_000;
const CODE_BYTES: usize = 32;
/// Far more than a link needs.
const MAX_CHARS: usize = 2048;

/// What a signed URL allows, and in whose name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SignedLink {
    pub(crate) id: String,
    /// Whose end ends the link.
    pub(crate) by: CredentialHash,
    pub(crate) method: SignedMethod,
    pub(crate) made_at: Timestamp,
    pub(crate) expires_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) put: Option<Upload>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) download: bool,
}

/// What may be uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) max_size: Option<u64>,
    pub(crate) content_type: Option<String>,
    pub(crate) access: Access,
    pub(crate) overwrite: bool,
}

impl SignedLink {
    /// The value of `?sig=`.
    pub(crate) fn seal(
        &self,
        sealer: &Sealer,
        workspace_id: &WorkspaceId,
        pathname: &Pathname,
    ) -> Result<String, serde_json::Error> {
        let allowed = serde_json::to_vec(self)?;
        let code = sealer.sign(&purpose(self.made_at), &message(workspace_id, pathname, &allowed));
        Ok(URL_SAFE_NO_PAD.encode([&code[..], &allowed].concat()))
    }

    /// What `?sig=` allows with this object at `now`.
    pub(crate) fn open(
        given: &str,
        sealer: &Sealer,
        workspace_id: &WorkspaceId,
        pathname: &Pathname,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let refused = |message: String| ApiError::new(ErrorCode::InvalidCredential, message).param("sig");
        let changed = || refused("the signed URL is not as it was made; use it unchanged".to_owned());
        let bytes = (given.len() <= MAX_CHARS).then(|| URL_SAFE_NO_PAD.decode(given).ok()).flatten();
        let bytes = bytes.filter(|bytes| bytes.len() > CODE_BYTES).ok_or_else(changed)?;
        let (code, allowed) = bytes.split_at(CODE_BYTES);
        let link: Self = serde_json::from_slice(allowed).map_err(|_| changed())?;
        if !sealer.is_signed(&purpose(link.made_at), &message(workspace_id, pathname, allowed), code) {
            return Err(changed());
        }
        let age_ms = now.millis_since(link.made_at);
        if link.expires_at <= now || !(-SKEW_MS..=WEEK_MS).contains(&age_ms) {
            return Err(refused(format!(
                "the signed URL has expired (at {}); have a new one made",
                link.expires_at
            )));
        }
        Ok(link)
    }
}

fn purpose(made_at: Timestamp) -> String {
    format!("storage link, week {}", made_at.as_millis().div_euclid(WEEK_MS))
}

/// Each part behind its length, so that no two links read the same.
fn message(workspace_id: &WorkspaceId, pathname: &Pathname, allowed: &[u8]) -> Vec<u8> {
    let mut message = Vec::new();
    for part in [workspace_id.as_str().as_bytes(), pathname.as_str().as_bytes(), allowed] {
        message.extend_from_slice(&(part.len() as u64).to_le_bytes());
        message.extend_from_slice(part);
    }
    message
}
