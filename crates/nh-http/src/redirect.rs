//! What the next request is after a redirect (Fetch standard, "HTTP-redirect
//! fetch"), stricter where credentials could leave for another origin.

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT,
};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use url::Url;

/// What another origin may see of the first request's headers.
const KEPT_ACROSS_ORIGINS: [http::HeaderName; 3] = [ACCEPT, ACCEPT_LANGUAGE, USER_AGENT];

/// Where to go next; None when this is no redirect.
pub(crate) fn location(status: StatusCode, headers: &HeaderMap) -> Option<&[u8]> {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
        .then(|| headers.get(http::header::LOCATION).map(http::HeaderValue::as_bytes))
        .flatten()
}

/// The request to send next, or why it is not sent.
pub(crate) fn follow(
    last: Request<Bytes>,
    status: StatusCode,
    location: &[u8],
) -> Result<Request<Bytes>, String> {
    let (mut head, mut body) = last.into_parts();
    let next = target(&head.uri, location)?;
    let becomes_get = match status.as_u16() {
        301 | 302 => head.method == Method::POST,
        303 => head.method != Method::HEAD,
        _ => false,
    };
    if becomes_get {
        head.method = Method::GET;
        body = Bytes::new();
        for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING] {
            head.headers.remove(name);
        }
    }
    if origin(&head.uri) != origin(&next) {
        if !body.is_empty() {
            return Err("it would send the request's body to another host".to_owned());
        }
        let all = std::mem::take(&mut head.headers);
        for name in KEPT_ACROSS_ORIGINS {
            if let Some(value) = all.get(&name) {
                head.headers.insert(name, value.clone());
            }
        }
    }
    head.headers.remove(HOST);
    head.uri = next;
    Ok(Request::from_parts(head, body))
}

fn target(from: &Uri, location: &[u8]) -> Result<Uri, String> {
    let location = std::str::from_utf8(location).map_err(|_| "its Location is not UTF-8".to_owned())?;
    let invalid = |error: &dyn std::fmt::Display| format!("its Location is not a URL ({error})");
    let base = Url::parse(&from.to_string()).map_err(|error| invalid(&error))?;
    let next = base.join(location).map_err(|error| invalid(&error))?;
    next.as_str().parse::<Uri>().map_err(|error| invalid(&error))
}

fn origin(uri: &Uri) -> (Option<&str>, Option<String>, Option<u16>) {
    let default_port = match uri.scheme_str() {
        Some("https") => Some(443),
        Some("http") => Some(80),
        _ => None,
    };
    (uri.scheme_str(), uri.host().map(str::to_ascii_lowercase), uri.port_u16().or(default_port))
}
