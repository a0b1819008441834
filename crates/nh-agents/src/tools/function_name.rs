//! What a model calls a tool: providers take 64 characters and no dots.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

const MAX_CHARS: usize = 64;
/// Of a name that had to be cut or changed: what tells it from others that were cut alike.
const MARK_CHARS: usize = 8;

/// `server__tool` for `server.tool`, as no server's name has `_` in it; with a mark of its own
/// where that would be too long, or where the tool's name has dots too.
pub(crate) fn function_name(name: &str) -> Cow<'_, str> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if is_plain && (1..=MAX_CHARS).contains(&name.len()) {
        return Cow::Borrowed(name);
    }
    let plain =
        |text: &str| text.replace(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-', "_");
    let (whole, is_own) = match name.split_once('.') {
        Some((server, tool)) => (format!("{}__{}", plain(server), plain(tool)), plain(tool) == tool),
        None => (plain(name), false),
    };
    if is_own && whole.len() <= MAX_CHARS {
        return Cow::Owned(whole);
    }
    let digest = Sha256::digest(name.as_bytes());
    let mark: String = digest.iter().take(MARK_CHARS / 2).map(|byte| format!("{byte:02x}")).collect();
    let kept: String = whole.chars().take(MAX_CHARS - MARK_CHARS - 1).collect();
    Cow::Owned(format!("{kept}_{mark}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_that_providers_take() {
        assert_eq!(function_name("calculate"), "calculate");
        assert_eq!(function_name("files.read_text"), "files__read_text");
        let long = format!("files.{}", "x".repeat(100));
        for name in ["files.read.text", "files.read_text.x", &long, "", "no such, tool!"] {
            let function = function_name(name);
            assert!((1..=64).contains(&function.len()), "{function}");
            assert!(
                function.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)),
                "{function}"
            );
        }
        assert_ne!(function_name("a.b.c"), function_name("a.b_c"));
        assert_ne!(function_name(&long), function_name(&format!("{long}y")));
    }
}
