//! What a tool of kind `http` may ask.

use http::Uri;
use nh_types::ApiError;
use nh_types::tool::HttpMethod;
use url::Url;

use crate::secret_headers::template::{Part, parts};
use crate::start::invalid;

const MAX_URL_CHARS: usize = 2048;

/// RFC 9110, section 9.2.2.
pub(super) fn is_idempotent(method: HttpMethod) -> bool {
    !matches!(method, HttpMethod::Post | HttpMethod::Patch)
}

/// Where it goes is fixed: arguments stand in the path and the query alone.
pub(crate) fn check_url(url: &str) -> Result<(), ApiError> {
    let shown: String = url.chars().take(200).collect();
    let wrong = |why: &str| Err(invalid("url", format!("`url` is `{shown}`: {why}")));
    if url.chars().count() > MAX_URL_CHARS {
        return wrong(&format!("it has more than {MAX_URL_CHARS} characters"));
    }
    let parts = match parts(url) {
        Ok(parts) => parts,
        Err(why) => return wrong(&why),
    };
    if parts.iter().any(|part| matches!(part, Part::Secret(_))) {
        return wrong("secrets stand in headers alone; addresses end up in logs");
    }
    let (Some(one), Some(other)) = (filled(&parts, "a"), filled(&parts, "b")) else {
        return wrong("it is no URL");
    };
    if !matches!(one.scheme(), "http" | "https") || one.host().is_none() {
        return wrong("it must begin with https:// or http://");
    }
    if !one.username().is_empty() || one.password().is_some() {
        return wrong("it names a user; put what is secret into a header");
    }
    if one.origin() != other.origin() {
        return wrong(
            "the scheme, the host and the port are fixed; arguments stand in the path and the query",
        );
    }
    // The client reads addresses more strictly.
    let is_strict = one.as_str().parse::<Uri>().is_ok_and(|uri| uri.host() == one.host_str());
    if !is_strict || url.contains(['\\', ' ', '\t', '\r', '\n']) {
        return wrong("it has a character that an address has only percent-encoded");
    }
    if one.fragment().is_some() {
        return wrong("a part behind `#` is sent to nobody; leave it out");
    }
    Ok(())
}

/// With the same text in all of its places.
fn filled(parts: &[Part<'_>], with: &str) -> Option<Url> {
    let text: String =
        parts.iter().map(|part| if let Part::Text(text) = part { text } else { with }).collect();
    Url::parse(&text).ok()
}

/// Whom secrets are told to: its scheme, host and port.
pub(crate) fn origin(url: &str) -> String {
    let url = parts(url).ok().and_then(|parts| filled(&parts, "a"));
    url.map(|url| url.origin().ascii_serialization()).unwrap_or_default()
}
