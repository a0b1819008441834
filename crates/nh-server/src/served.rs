//! How an object is served: its headers, which of its bytes, and that it cannot
//! act in the hub's name in a browser.

use std::ops::Range;

use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use nh_store::blobs::BlobRecord;
use nh_types::blob::Access;
use nh_types::{ApiError, ErrorCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::failure::Answer;

/// Scripts, forms and plugins do nothing, and the page has an origin of its own.
const POLICY: HeaderValue = HeaderValue::from_static(
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data:",
);
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// Of a public object where nobody says otherwise, in seconds.
const PUBLIC_CACHE_SECONDS: u32 = 60;

/// As the path of a URL has it.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// RFC 8187, section 3.2.1.
const IN_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Shown, where that is harmless.
    AsItIs,
    Attachment,
}

/// An answer without its body.
pub(crate) struct Head {
    status: StatusCode,
    headers: HeaderMap,
    /// The bytes that belong to it; None: none do.
    pub(crate) range: Option<Range<u64>>,
}

impl IntoResponse for Head {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        *response.headers_mut() = self.headers;
        response
    }
}

/// By the conditions and the range of the request (RFC 9110, sections 13 and 14).
pub(crate) fn head(blob: &BlobRecord, request: &HeaderMap, disposition: Disposition) -> Answer<Head> {
    let etag = etag(blob);
    if let Some(wanted) = listed(request, header::IF_MATCH)
        && !names(&wanted, &etag)
    {
        let message = format!("the object's ETag is {etag}, not what If-Match says");
        return Err(ApiError::new(ErrorCode::PreconditionFailed, message).param("If-Match").into());
    }
    let mut headers = headers(blob, &etag, disposition);
    if listed(request, header::IF_NONE_MATCH).is_some_and(|known| names(&known, &etag)) {
        headers.remove(header::CONTENT_TYPE);
        return Ok(Head { status: StatusCode::NOT_MODIFIED, headers, range: None });
    }
    let is_same = request.get(header::IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
    let asked = request.get(header::RANGE).and_then(|value| value.to_str().ok()).filter(|_| is_same);
    let (status, range) = match asked.map(|asked| range(asked, blob.size)) {
        None | Some(Asked::All) => (StatusCode::OK, 0..blob.size),
        Some(Asked::Part(part)) => {
            let told = format!("bytes {}-{}/{}", part.start, part.end - 1, blob.size);
            insert(&mut headers, header::CONTENT_RANGE, &told);
            (StatusCode::PARTIAL_CONTENT, part)
        }
        Some(Asked::Nothing) => {
            let message = format!("the object has {} bytes; `Range` begins after the last", blob.size);
            return Err(ApiError::new(ErrorCode::RangeNotSatisfiable, message).param("Range").into());
        }
    };
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    Ok(Head { status, headers, range: Some(range) })
}

fn headers(blob: &BlobRecord, etag: &str, disposition: Disposition) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    insert(&mut headers, header::ETAG, etag);
    insert(&mut headers, header::CONTENT_TYPE, &blob.content_type);
    insert(&mut headers, header::CONTENT_DISPOSITION, &content_disposition(blob, disposition));
    insert(&mut headers, header::CACHE_CONTROL, &cache_control(blob));
    if blob.access == Access::Public {
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    }
    headers
}

pub(crate) fn content_disposition(blob: &BlobRecord, disposition: Disposition) -> String {
    let is_shown = disposition == Disposition::AsItIs && is_harmless(&blob.content_type);
    let how = if is_shown { "inline" } else { "attachment" };
    format!("{how}; filename*=UTF-8''{}", utf8_percent_encode(blob.pathname.file_name(), IN_VALUE))
}

pub(crate) fn cache_control(blob: &BlobRecord) -> String {
    match (blob.access, blob.cache_seconds) {
        (Access::Private, None) => "private, no-cache".to_owned(),
        (Access::Private, Some(seconds)) => format!("private, max-age={seconds}"),
        (Access::Public, seconds) => format!("public, max-age={}", seconds.unwrap_or(PUBLIC_CACHE_SECONDS)),
    }
}

/// What no header can hold is left out.
fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// What a browser shows without doing anything that it says.
fn is_harmless(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_picture = kind.starts_with("image/") && !kind.ends_with("xml");
    is_picture
        || kind.starts_with("audio/")
        || kind.starts_with("video/")
        || ["application/pdf", "text/plain"].contains(&kind.as_str())
}

enum Asked {
    All,
    Part(Range<u64>),
    /// It begins after the last byte.
    Nothing,
}

/// One range of bytes. Several, and what is none, are answered with all.
fn range(asked: &str, size: u64) -> Asked {
    let Some((first, last)) = asked.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-'))
    else {
        return Asked::All;
    };
    let range = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        (Err(_), Ok(0)) if first.is_empty() => return Asked::Nothing,
        (Err(_), Ok(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Asked::All,
    };
    if range.start < range.end { Asked::Part(range) } else { Asked::Nothing }
}

/// The SHA-256 of the bytes.
pub(crate) fn etag(blob: &BlobRecord) -> String {
    quoted(&blob.sha256)
}

pub(crate) fn quoted(sha256: &[u8; 32]) -> String {
    format!("\"{}\"", hexadecimal(sha256))
}

/// The hash that one ETag of ours says, also where its quotes were lost.
pub(crate) fn hash_in(etag: &str) -> Option<[u8; 32]> {
    let digits = etag.trim().trim_matches('"');
    let pairs: Vec<&[u8]> = digits.as_bytes().chunks(2).collect();
    let byte = |pair: &&[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = pairs.iter().map(byte).collect();
    bytes?.try_into().ok()
}

fn listed(request: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Vec<&str> = request.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn names(list: &str, etag: &str) -> bool {
    let same = |one: &str| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag;
    list.split(',').any(|one| same(one.trim()))
}

pub(crate) fn encoded(pathname: &str) -> String {
    utf8_percent_encode(pathname, IN_PATH).to_string()
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    // By hand: formatting each byte was a third of what a list of objects took.
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from(DIGITS[usize::from(digit)])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_understood() {
        let asked = |text: &str| match range(text, 10) {
            Asked::All => None,
            Asked::Part(part) => Some(part),
            Asked::Nothing => Some(0..0),
        };
        for (text, part) in [
            ("bytes=0-3", Some(0..4)),
            ("bytes=4-", Some(4..10)),
            ("bytes=8-99", Some(8..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=-99", Some(0..10)),
            ("bytes=10-", Some(0..0)),
            ("bytes=-0", Some(0..0)),
            ("bytes=5-4", None),
            ("bytes=0-1,4-5", None),
            ("lines=1-2", None),
            ("bytes=a-b", None),
            ("bytes=18446744073709551615-18446744073709551615", Some(0..0)),
        ] {
            assert_eq!(asked(text), part, "{text}");
        }
        assert!(matches!(range("bytes=0-", 0), Asked::Nothing));
    }
}
