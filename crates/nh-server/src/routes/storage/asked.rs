//! What a request says of an object: its name, its type, its size, on what
//! condition it is put, and its bytes.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderMap, HeaderValue, header};
use http_body_util::BodyExt;
use mime::Mime;
use nh_store::blobs::Condition;
use nh_types::blob::{Named, Pathname};
use nh_types::{ApiError, ErrorCode, WorkspaceId};

use super::{nothing_named, wrong};
use crate::app::App;
use crate::auth::Principal;
use crate::failure::{Answer, Failure};
use crate::paging::invalid;
use crate::served;

/// What clients send when nobody said what it is.
const UNSAID_TYPES: [&str; 3] = ["", "application/octet-stream", "application/x-www-form-urlencoded"];
const MAX_TYPE_BYTES: usize = 255;

/// A name that an operation is given, with or without the workspace before it.
pub(super) fn named(workspace_id: &WorkspaceId, param: &str, given: &str) -> Answer<Pathname> {
    match Pathname::of(workspace_id, given) {
        Ok(Named::Here(pathname)) => Ok(pathname),
        Ok(Named::Elsewhere) => Err(nothing_named(given)),
        Err(error) => Err(ApiError::new(ErrorCode::InvalidValue, error.to_string()).param(param).into()),
    }
}

/// A prefix is the beginning of a name, so it may end anywhere in one.
pub(super) fn prefix(workspace_id: &WorkspaceId, given: &str) -> Answer<String> {
    if given.is_empty()
        || given.strip_suffix('/') == Some(workspace_id.as_str())
        || given == workspace_id.as_str()
    {
        return Ok(String::new());
    }
    let to_check = if given.ends_with(['/', '.']) { format!("{given}x") } else { given.to_owned() };
    let checked = named(workspace_id, "prefix", &to_check)?;
    let name = checked.as_str();
    Ok(name[..name.len() - (to_check.len() - given.len())].to_owned())
}

/// The name of an object, not of a folder.
pub(super) fn object_named(principal: &Principal, given: &str) -> Answer<Pathname> {
    let pathname = named(&principal.workspace_id, "pathname", given)?;
    if pathname.is_folder() {
        let message = format!("`{pathname}` is the name of a folder; an object's has no slash at its end");
        return Err(wrong("pathname", message));
    }
    Ok(pathname)
}

/// The name of a folder, with or without the slash at its end.
pub(super) fn folder(principal: &Principal, given: &str) -> Answer<Pathname> {
    let name = format!("{}/", given.strip_suffix('/').unwrap_or(given));
    named(&principal.workspace_id, "pathname", &name)
}

/// What the client says that the body is, where it says something.
pub(super) fn said_type(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(given) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    match given.to_str() {
        Ok(text) => said("Content-Type", text),
        Err(_) => legal_type("Content-Type", &String::from_utf8_lossy(given.as_bytes())).map(Some),
    }
}

/// A type that a client sends; none where it is one of those that say nothing.
pub(super) fn said(param: &str, given: &str) -> Answer<Option<String>> {
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match UNSAID_TYPES.contains(&essence.as_str()) {
        true => Ok(None),
        false => legal_type(param, given).map(Some),
    }
}

/// A content type as a header holds it (RFC 9110, section 8.3.1).
pub(super) fn legal_type(param: &str, given: &str) -> Answer<String> {
    let is_one = |part: mime::Name<'_>| part != mime::STAR && !part.as_str().is_empty();
    let parsed = given.parse::<Mime>().ok().filter(|_| given.len() <= MAX_TYPE_BYTES && given.is_ascii());
    if parsed.is_some_and(|parsed| is_one(parsed.type_()) && is_one(parsed.subtype())) {
        return Ok(given.to_owned());
    }
    let shown: String = given.chars().take(80).flat_map(char::escape_debug).collect();
    let message = format!(
        "`{param}` is `{shown}`; it must be a type such as `text/csv`, of at most {MAX_TYPE_BYTES} characters"
    );
    Err(invalid(param, message).into())
}

/// On what is there under the name (RFC 9110, section 13.1).
pub(super) fn condition(headers: &HeaderMap, overwrite: bool) -> Answer<Condition> {
    match (headers.get(header::IF_MATCH), headers.get(header::IF_NONE_MATCH)) {
        (None, None) if overwrite => Ok(Condition::Any),
        (None, None) => Ok(Condition::Absent),
        (Some(etag), None) if etag.as_bytes() == b"*" => Ok(Condition::Present),
        (Some(etag), None) => Ok(Condition::Is(hash(etag)?)),
        (None, Some(etag)) if etag.as_bytes() == b"*" => Ok(Condition::Absent),
        (_, Some(_)) => Err(wrong("If-None-Match", "`If-None-Match` is `*` alone where an object is put")),
    }
}

/// What is no ETag of ours is that of nothing.
pub(super) fn hash(etag: &HeaderValue) -> Answer<[u8; 32]> {
    let text = etag.to_str().unwrap_or_default();
    if text.contains(',') {
        return Err(wrong(
            "If-Match",
            "`If-Match` names several ETags; one is taken where an object is changed",
        ));
    }
    Ok(served::hash_in(text).unwrap_or_default())
}

/// Of the body, where the client says it.
pub(super) fn body_size(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The body as it comes. A client that stops sending is not waited for.
pub(crate) fn chunks(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Answer<impl Stream<Item = Answer<Bytes>> + Send + use<>> {
    check_whole(headers)?;
    let patience = Duration::from_millis(app.settings.body_timeout_ms);
    Ok(stream::try_unfold(body, move |mut body| async move {
        loop {
            let frame = tokio::time::timeout(patience, body.frame()).await.map_err(|_| {
                let message = format!("nothing more of the body came for {} ms", patience.as_millis());
                Failure::new(ErrorCode::RequestTimeout, message)
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| {
                let message = format!("the body could not be read to its end: {error}");
                Failure::new(ErrorCode::InvalidRequest, message)
            })?;
            if let Ok(bytes) = frame.into_data() {
                return Ok(Some((bytes, body)));
            }
        }
    }))
}

/// That the body is all of the object, as it is to be: a part that took the place of
/// the whole would lose the rest (RFC 9110, section 14.5).
fn check_whole(headers: &HeaderMap) -> Answer<()> {
    if headers.contains_key(header::CONTENT_RANGE) {
        let message = "`Content-Range` is not taken: send the whole object, or begin an upload in parts \
                       (POST /v1/storage/uploads)";
        return Err(wrong("Content-Range", message));
    }
    match headers.get(header::CONTENT_ENCODING).filter(|encoding| encoding.as_bytes() != b"identity") {
        None => Ok(()),
        Some(_) => {
            let message =
                "`Content-Encoding` is not taken: an object is kept as it comes, so send it decoded";
            Err(ApiError::new(ErrorCode::UnsupportedMediaType, message).param("Content-Encoding").into())
        }
    }
}
