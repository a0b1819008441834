//! What is looked at before the SDK reads a message: the parts that it, or the answers to it,
//! would carry on for as long as a call takes.

use nh_types::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

const MAX_METHOD_BYTES: usize = 128;
const MAX_NAME_BYTES: usize = 128;
/// Of a request's id and of a progress token, which come back with each answer.
const MAX_ID_BYTES: usize = 256;
const MAX_META_BYTES: usize = 64 * 1024;

#[derive(Deserialize)]
struct Envelope<'m> {
    method: Option<String>,
    #[serde(borrow)]
    id: Option<&'m RawValue>,
    #[serde(borrow)]
    params: Option<&'m RawValue>,
}

/// Whatever else they are, the SDK says what is wrong with them.
#[derive(Default, Deserialize)]
struct Params<'m> {
    name: Option<String>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<&'m RawValue>,
}

#[derive(Default, Deserialize)]
struct Meta<'m> {
    #[serde(borrow, rename = "progressToken")]
    progress_token: Option<&'m RawValue>,
}

/// The name of the tool that the message calls, if it calls one.
pub(super) fn check(body: &[u8]) -> Result<Option<String>, ApiError> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[') {
        return Err(invalid("the body is a batch of messages; send each of them alone".to_owned()));
    }
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|error| match error.classify() {
        Category::Data => invalid(format!("the body is no message of JSON-RPC 2.0: {error}")),
        _ => ApiError::new(ErrorCode::InvalidJson, format!("the body is not valid JSON: {error}")),
    })?;
    let params: Params<'_> = read(envelope.params);
    let meta: Meta<'_> = read(params.meta);
    let method = envelope.method.unwrap_or_default();
    within("method", method.len(), MAX_METHOD_BYTES)?;
    within("id", length(envelope.id), MAX_ID_BYTES)?;
    within("params._meta", length(params.meta), MAX_META_BYTES)?;
    within("params._meta.progressToken", length(meta.progress_token), MAX_ID_BYTES)?;
    Ok(params.name.filter(|name| method == "tools/call" && name.len() <= MAX_NAME_BYTES))
}

fn read<'m, T: Default + Deserialize<'m>>(raw: Option<&'m RawValue>) -> T {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

fn length(raw: Option<&RawValue>) -> usize {
    raw.map_or(0, |raw| raw.get().len())
}

fn within(field: &str, bytes: usize, most: usize) -> Result<(), ApiError> {
    if bytes <= most {
        return Ok(());
    }
    Err(invalid(format!("`{field}` has {bytes} bytes; at most {most} are taken")).param(field))
}

fn invalid(message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}
