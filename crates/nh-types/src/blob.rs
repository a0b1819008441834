//! `/v1/storage`: objects by pathname.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::id::{RunId, UploadId, WorkspaceId};

pub const MAX_PATHNAME_BYTES: usize = 950;

/// Why a text is not a pathname.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPathname(String);

/// The name of an object within its workspace, such as `reports/2026/may.pdf`:
/// segments between slashes, 1 to 950 bytes of UTF-8. One that ends with a slash
/// is a folder's. No segment is empty, `.` or `..`, none has a control character or
/// a backslash, also where percent-encoding would hide it, so that a pathname is
/// harmless in a header and in a file system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String)]
pub struct Pathname(String);

/// To which workspace a name that a client gave belongs: names begin with it where
/// the hub gives them out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    Here(Pathname),
    /// It begins with the id of another workspace.
    Elsewhere,
}

impl Pathname {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_folder(&self) -> bool {
        self.0.ends_with('/')
    }

    /// The last segment.
    pub fn file_name(&self) -> &str {
        let name = self.0.trim_end_matches('/');
        name.rsplit_once('/').map_or(name, |(_, last)| last)
    }

    /// With the workspace before it, as the API shows it.
    pub fn full(&self, workspace_id: &WorkspaceId) -> String {
        format!("{workspace_id}/{}", self.0)
    }

    /// Reads a name with or without the workspace before it.
    pub fn of(workspace_id: &WorkspaceId, given: &str) -> Result<Named, InvalidPathname> {
        if let Some(rest) = given.strip_prefix(workspace_id.as_str()).and_then(|rest| rest.strip_prefix('/'))
        {
            return rest.parse().map(Named::Here);
        }
        let first = given.split_once('/').map_or(given, |(first, _)| first);
        match first.parse::<WorkspaceId>() {
            Ok(_) => Ok(Named::Elsewhere),
            Err(_) => given.parse().map(Named::Here),
        }
    }
}

impl FromStr for Pathname {
    type Err = InvalidPathname;

    fn from_str(text: &str) -> Result<Self, InvalidPathname> {
        if text.is_empty() {
            return Err(InvalidPathname(
                "the pathname is empty; give a name such as `reports/may.pdf`".to_owned(),
            ));
        }
        if text.len() > MAX_PATHNAME_BYTES {
            let message =
                format!("the pathname has {} bytes; at most {MAX_PATHNAME_BYTES} are taken", text.len());
            return Err(InvalidPathname(message));
        }
        check(text, text)?;
        // What another reader would decode once more.
        let mut decoded = text.to_owned();
        while let Some(once_more) = percent_decoded(&decoded) {
            check(&once_more, text)?;
            decoded = once_more;
        }
        Ok(Self(text.to_owned()))
    }
}

fn check(text: &str, given: &str) -> Result<(), InvalidPathname> {
    let refused = |what: &str| {
        let shown: String = given.chars().take(80).flat_map(char::escape_debug).collect();
        Err(InvalidPathname(format!("the pathname `{shown}` {what}")))
    };
    if let Some(letter) = text.chars().find(|letter| is_unsafe(*letter)) {
        let code = u32::from(letter);
        return refused(&format!("has the character U+{code:04X}, which no name may have"));
    }
    let segments = text.strip_suffix('/').unwrap_or(text);
    for segment in segments.split('/') {
        match segment {
            "" => return refused("has an empty segment: no slash at its beginning, no two in a row"),
            "." | ".." => return refused(&format!("has the segment `{segment}`; name the object itself")),
            _ => {}
        }
    }
    Ok(())
}

/// Control characters, what turns the direction of writing around, separators of
/// lines, backslashes, and what is no character.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\\' | '\u{2028}' | '\u{2029}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
        || u32::from(letter) & 0xFFFE == 0xFFFE
}

/// None where there is nothing to decode. Bytes that are no text become U+FFFD.
fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        let byte = pair.filter(|_| bytes[at] == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match byte {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    (decoded.len() < bytes.len()).then(|| String::from_utf8_lossy(&decoded).into_owned())
}

impl TryFrom<String> for Pathname {
    type Error = InvalidPathname;

    fn try_from(text: String) -> Result<Self, InvalidPathname> {
        text.parse()
    }
}

impl From<Pathname> for String {
    fn from(pathname: Pathname) -> String {
        pathname.0
    }
}

impl fmt::Display for Pathname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_something_else_are_refused() {
        for good in [
            "a",
            "a/b.txt",
            "ä/ö ü.pdf",
            "100%.txt",
            "a%20b",
            ".hidden",
            "a..b",
            "…",
            "folder/",
            "日本語.png",
            "x".repeat(950).as_str(),
        ] {
            assert_eq!(good.parse::<Pathname>().map(String::from).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "/",
            "/a",
            "a//b",
            "a/",
            "..",
            ".",
            "a/../b",
            "../a",
            "a/..",
            "./a",
            "a/./b",
            "a\0b",
            "a\nb",
            "a\u{7f}",
            "a\u{85}b",
            "a\\b",
            "..\\a",
            "a\u{202e}gnp.exe",
            "\u{feff}\u{ffff}",
            "a\u{2028}b",
            "%2e%2e/a",
            "a/%2E%2e",
            "%252e%252e/x",
            "a%2f%2fb",
            "%2fa",
            "a%00b",
            "a%0d%0ab",
            "%25250a",
            "a%5cb",
            &"x".repeat(951),
        ] {
            let is_folder = bad == "a/";
            assert_eq!(bad.parse::<Pathname>().is_ok(), is_folder, "{bad:?}");
        }
        let message = |text: &str| text.parse::<Pathname>().expect_err("refused").to_string();
        assert_eq!(message("a/../b"), "the pathname `a/../b` has the segment `..`; name the object itself");
        assert_eq!(
            message("a\r\nb"),
            "the pathname `a\\r\\nb` has the character U+000D, which no name may have"
        );
    }

    #[test]
    fn the_workspaces_own_prefix_is_taken_off_once() {
        let ours: WorkspaceId = "ws_00000000000000000001".parse().expect("an id");
        let name = |text: &str| {
            Pathname::of(&ours, text).map(|named| match named {
                Named::Here(pathname) => pathname.to_string(),
                Named::Elsewhere => "elsewhere".to_owned(),
            })
        };
        assert_eq!(name("a/b").as_deref(), Ok("a/b"));
        assert_eq!(name("ws_00000000000000000001/a").as_deref(), Ok("a"));
        assert_eq!(
            name("ws_00000000000000000001/ws_00000000000000000001/a").as_deref(),
            Ok("ws_00000000000000000001/a")
        );
        assert_eq!(name("ws_00000000000000000002/a").as_deref(), Ok("elsewhere"));
        assert_eq!(name("ws_00000000000000000002").as_deref(), Ok("elsewhere"));
        assert_eq!(name("ws_short/a").as_deref(), Ok("ws_short/a"));
        assert!(name("ws_00000000000000000001/../ws_00000000000000000002/a").is_err());
        assert!(name("ws_00000000000000000001/").is_err());
    }
}
