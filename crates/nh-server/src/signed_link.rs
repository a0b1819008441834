//! URLs of objects that need no key: what they allow is in the URL, under a code
//! that only the hub can make. Its key changes every week; as no link lasts
//! longer, those of a week before are all that still count.

use nh_store::seals::Sealer;
use nh_types::blob::{Access, Pathname, SignedMethod};
use nh_types::{ApiError, ErrorCode, Timestamp, WorkspaceId};
use serde::{Deserialize, Serialize};

use crate::auth::CredentialHash;
use crate::signed;

pub(crate) const MAX_SECONDS: u32 = 7 * 24 * 60 * 60;
const WEEK_MS: i64 = MAX_SECONDS as i64 * 1000;
/// How much the clocks of two nodes may differ.
const SKEW_MS: i64 = 60_000;

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
        let about = [workspace_id.as_str(), pathname.as_str()];
        signed::seal(sealer, &purpose(self.made_at), &about, self)
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
        let about = [workspace_id.as_str(), pathname.as_str()];
        let link: Self = signed::open(given, sealer, |link: &Self| purpose(link.made_at), &about)
            .ok_or_else(|| refused("the signed URL is not as it was made; use it unchanged".to_owned()))?;
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
