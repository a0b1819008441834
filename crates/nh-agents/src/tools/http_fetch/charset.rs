use encoding_rs::{Encoding, UTF_8};

/// Where a page names its encoding in itself (HTML standard, "prescan a byte
/// stream": the first 1024 bytes).
const PRESCAN_BYTES: usize = 1024;

/// The body as text. A byte order mark wins over the header, the header over
/// what the page says of itself; without any of them it is UTF-8. What cannot
/// be decoded becomes U+FFFD.
pub(super) fn decode(body: &[u8], content_type: &str, is_html: bool) -> String {
    let start = &body[..body.len().min(PRESCAN_BYTES)];
    let encoding =
        label(content_type.as_bytes()).or_else(|| if is_html { label(start) } else { None }).unwrap_or(UTF_8);
    encoding.decode(body).0.into_owned()
}

/// What follows `charset=`.
fn label(text: &[u8]) -> Option<&'static Encoding> {
    let lower = text.to_ascii_lowercase();
    let name = b"charset=";
    let at = lower.windows(name.len()).position(|window| window == name)? + name.len();
    let rest = &lower[at..];
    let rest = rest.strip_prefix(b"\"").or_else(|| rest.strip_prefix(b"'")).unwrap_or(rest);
    let end = rest.iter().position(|byte| b"\"'; >/".contains(byte)).unwrap_or(rest.len());
    Encoding::for_label(&rest[..end])
}
