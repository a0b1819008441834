//! What may be remembered: the checks behind `POST` and `PATCH /v1/memory`.

use nh_store::memories::MAX_METADATA_BYTES;
use nh_types::{ApiError, ErrorCode, Timestamp};
use serde_json::{Map, Value};

const MAX_CONTENT_BYTES: usize = 64 * 1024;
const MAX_QUESTION_BYTES: usize = 8 * 1024;
/// Deeper metadata could not be journalled with a run's output.
const MAX_METADATA_DEPTH: usize = 32;
const MAX_NAMESPACE_BYTES: usize = 128;

/// Where a memory is unless it says otherwise.
pub const DEFAULT_NAMESPACE: &str = "default";
/// All namespaces, in what reads.
const EVERY_NAMESPACE: &str = "*";

pub(crate) fn content(text: &str) -> Result<(), ApiError> {
    words("content", text, MAX_CONTENT_BYTES)
}

pub(crate) fn question(text: &str) -> Result<(), ApiError> {
    words("q", text, MAX_QUESTION_BYTES)
}

fn words(field: &str, text: &str, most: usize) -> Result<(), ApiError> {
    let problem = match text {
        _ if text.trim().is_empty() => "is empty; give some words".to_owned(),
        _ if text.len() > most => {
            format!("has {} bytes; at most {most} fit: cut it into several", text.len())
        }
        _ if text.contains('\0') => "holds the character U+0000, which cannot be stored".to_owned(),
        _ => return Ok(()),
    };
    Err(invalid(field, format!("`{field}` {problem}")))
}

/// The namespace that is written to.
pub(crate) fn namespace(given: Option<String>) -> Result<String, ApiError> {
    let Some(name) = given else { return Ok(DEFAULT_NAMESPACE.to_owned()) };
    let is_name = (1..=MAX_NAMESPACE_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:/@".contains(&byte));
    if is_name {
        return Ok(name);
    }
    let shown: String = name.chars().take(80).collect();
    Err(invalid(
        "namespace",
        format!(
            "`namespace` is `{shown}`; it must be 1 to {MAX_NAMESPACE_BYTES} of letters, digits and _ - . : / @"
        ),
    ))
}

/// The namespaces that are read; absent: all.
pub fn namespaces(given: Option<String>) -> Result<Option<String>, ApiError> {
    match given {
        Some(all) if all == EVERY_NAMESPACE => Ok(None),
        given => namespace(given).map(Some),
    }
}

pub(crate) fn metadata(given: Option<Map<String, Value>>) -> Result<Map<String, Value>, ApiError> {
    let given = given.unwrap_or_default();
    let text = serde_json::to_string(&given).unwrap_or_default();
    let problem = match text.len() {
        bytes if bytes > MAX_METADATA_BYTES => {
            format!("has {bytes} bytes as JSON; at most {MAX_METADATA_BYTES} fit")
        }
        _ if is_deeper(given.values(), MAX_METADATA_DEPTH) => {
            format!("is nested more than {MAX_METADATA_DEPTH} levels deep")
        }
        _ if text.contains("\\u0000") => "holds the character U+0000, which cannot be stored".to_owned(),
        _ => return Ok(given),
    };
    Err(invalid("metadata", format!("`metadata` {problem}")))
}

fn is_deeper<'v>(mut values: impl Iterator<Item = &'v Value>, levels: usize) -> bool {
    values.any(|value| match value {
        Value::Array(items) => levels == 1 || is_deeper(items.iter(), levels - 1),
        Value::Object(fields) => levels == 1 || is_deeper(fields.values(), levels - 1),
        _ => false,
    })
}

pub(crate) fn expires_at(given: Option<Timestamp>, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    match given {
        Some(at) if at <= now => {
            Err(invalid("expires_at", format!("`expires_at` is {at}, which is past; it is {now} now")))
        }
        given => Ok(given),
    }
}

pub(crate) fn invalid(param: &str, message: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::InvalidValue, message).param(param)
}
