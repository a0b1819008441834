use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::WorkspaceId;

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
