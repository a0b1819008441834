//! `/v1/storage`: objects by pathname.

mod pathname;

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::id::{RunId, UploadId};

pub use pathname::{InvalidPathname, MAX_PATHNAME_BYTES, Named, Pathname};

/// Who may read an object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Who has `storage:read` in its workspace, or a signed URL.
    #[default]
    Private,
    /// Everybody who knows its URL.
    Public,
}

impl Access {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Private => "private",
            Self::Public => "public",
        }
    }
}

impl FromStr for Access {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "private" => Ok(Self::Private),
            "public" => Ok(Self::Public),
            _ => Err(format!(
                "`access` is `{}`; it must be `private` or `public`",
                text.chars().take(40).collect::<String>()
            )),
        }
    }
}

/// Who made an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlobSource {
    /// `key:42` or `session:user_…`: of a run, who started it.
    pub created_by: String,
    pub run_id: Option<RunId>,
    /// The step of the run.
    pub step: Option<String>,
}

/// An object as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlobView {
    /// Where it is read. The same as long as it is there.
    pub url: String,
    /// The same, to be saved as a file.
    pub download_url: String,
    /// The workspace's id and the name within it.
    pub pathname: String,
    pub content_type: String,
    /// Bytes.
    pub size: u64,
    pub etag: String,
    /// SHA-256 of its bytes, as hexadecimal digits.
    pub sha256: String,
    pub access: Access,
    pub uploaded_at: Timestamp,
    /// When it is removed; null: never.
    pub expires_at: Option<Timestamp>,
    pub source: BlobSource,
}

/// The answer to `GET /v1/storage/list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlobList {
    /// By pathname.
    pub blobs: Vec<BlobView>,
    /// With `mode=folded`: the folders below the prefix, each with a slash at its end.
    pub folders: Vec<String>,
    pub cursor: Option<String>,
    pub has_more: bool,
}

/// `POST /v1/storage/copy` and `POST /v1/storage/rename`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"from": "reports/may.pdf", "to": "archive/2026-05.pdf"}))]
pub struct MoveBlob {
    pub from: String,
    pub to: String,
    /// Whether one that is there is replaced.
    #[serde(default)]
    pub overwrite: bool,
    /// Absent: as it was.
    #[serde(default)]
    pub access: Option<Access>,
}

/// `POST /v1/storage/folders`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"pathname": "reports/2026"}))]
pub struct CreateFolder {
    pub pathname: String,
}

/// `POST /v1/storage/uploads`: an object that comes in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"pathname": "videos/talk.mp4"}))]
pub struct CreateUpload {
    pub pathname: String,
    /// Absent: by the name's extension, else by the bytes.
    #[serde(default)]
    pub content_type: Option<String>,
    #[serde(default)]
    pub access: Access,
    /// Whether one that is there is replaced.
    #[serde(default)]
    pub overwrite: bool,
    /// When the object is removed; absent: never.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
}

/// `POST /v1/storage/uploads/{id}/complete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompleteUpload {
    /// The parts that make the object, in any order; absent: all that came.
    #[serde(default)]
    pub parts: Option<Vec<NamePart>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NamePart {
    #[schema(minimum = 1, maximum = 10000)]
    pub part_number: u32,
    /// As the part's own answer had it.
    pub etag: String,
}

/// An upload in parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadView {
    pub id: UploadId,
    /// The workspace's id and the name within it.
    pub pathname: String,
    pub created_at: Timestamp,
    /// When it is given up, unless a part comes before.
    pub expires_at: Timestamp,
    /// What the object is to be, as it was begun, so that who takes it up again
    /// knows whether it fits.
    pub wanted: WantedBlob,
    /// What came, by number.
    pub parts: Vec<PartView>,
    /// The object that it became.
    pub completed: Option<BlobView>,
}

/// What the object of an upload is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct WantedBlob {
    /// Null: it is guessed.
    pub content_type: Option<String>,
    pub access: Access,
    /// Whether one that is there is replaced.
    pub overwrite: bool,
    /// When the object is removed; null: never.
    pub expires_at: Option<Timestamp>,
}

/// A part of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartView {
    pub part_number: u32,
    /// Bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, quoted.
    pub etag: String,
}

/// The answer to `GET /v1/storage/uploads`: those that go on, by pathname, without
/// their parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct UploadList {
    pub uploads: Vec<UploadView>,
    pub cursor: Option<String>,
    pub has_more: bool,
}

/// What a signed URL lets one do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum SignedMethod {
    /// Read the object, HEAD included.
    #[default]
    Get,
    /// Upload it.
    Put,
}

/// `POST /v1/storage/sign`: a URL that needs no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"pathname": "reports/may.pdf", "expires_in_seconds": 3600}))]
pub struct SignBlob {
    pub pathname: String,
    #[serde(default)]
    pub method: SignedMethod,
    /// At most 7 days; absent: an hour.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 604800)]
    pub expires_in_seconds: Option<u32>,
    /// `GET`: the object is to be saved as a file.
    #[serde(default)]
    pub download: bool,
    /// `PUT`: the most bytes that it may have; absent: what every object may.
    #[serde(default)]
    pub max_size: Option<u64>,
    /// `PUT`: what its `Content-Type` must be, such as `image/png` or `image/*`.
    #[serde(default)]
    pub content_type: Option<String>,
    /// `PUT`: who may read it.
    #[serde(default)]
    pub access: Option<Access>,
    /// `PUT`: whether one that is there is replaced.
    #[serde(default)]
    pub overwrite: bool,
}

/// A URL that needs no key. It ends with the key that it was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SignedBlob {
    pub id: String,
    pub url: String,
    pub method: SignedMethod,
    /// The workspace's id and the name within it.
    pub pathname: String,
    pub expires_at: Timestamp,
}

/// What a workspace's objects take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlobUsage {
    pub blobs: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes of the parts of uploads that go on.
    pub uploading: u64,
    /// The most bytes that they may have, all together; null: no bound.
    pub quota: Option<u64>,
}
