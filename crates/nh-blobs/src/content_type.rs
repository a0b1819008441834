//! What kind of content an object has, where nobody says it.

use nh_types::blob::Pathname;

const UNKNOWN: &str = "application/octet-stream";

/// By the name's extension, else by the first bytes.
pub(crate) fn guess(pathname: &Pathname, first: &[u8]) -> String {
    let by_bytes = || infer::get(first).map(|kind| with_charset(kind.mime_type()));
    content_type_of(pathname).or_else(by_bytes).unwrap_or_else(|| UNKNOWN.to_owned())
}

/// By the name's extension.
pub fn content_type_of(pathname: &Pathname) -> Option<String> {
    mime_guess::from_path(pathname.file_name()).first_raw().map(with_charset)
}

fn with_charset(found: &str) -> String {
    if found.starts_with("text/") { format!("{found}; charset=utf-8") } else { found.to_owned() }
}

/// The extension that a name of such content would have.
pub fn extension_of(content_type: &str) -> Option<&'static str> {
    let extensions = mime_guess::get_mime_extensions_str(content_type)?;
    let usual = |extension: &&&str| {
        content_type.ends_with(**extension) || matches!(**extension, "txt" | "jpg" | "js" | "md")
    };
    extensions.iter().find(usual).or(extensions.first()).copied().filter(|_| content_type != UNKNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_counts_before_the_bytes() {
        let guess = |name: &str, bytes: &[u8]| guess(&name.parse().expect("a name"), bytes);
        assert_eq!(guess("a/report.pdf", b"\x89PNG\r\n\x1a\n"), "application/pdf");
        assert_eq!(guess("notes.txt", b""), "text/plain; charset=utf-8");
        assert_eq!(guess("picture", b"\x89PNG\r\n\x1a\n"), "image/png");
        assert_eq!(guess("data", b"what?"), UNKNOWN);
    }
}
