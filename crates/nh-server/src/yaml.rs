//! Bodies in YAML, where people write documents by hand: read as the JSON that
//! they stand for, so that one set of checks holds for both.

use bytes::Bytes;
use http::HeaderMap;
use nh_types::{ApiError, ErrorCode};
use serde_json::Value;

use crate::json::media_type;

/// Aliases can make much of little: the parser bounds them, this bounds it.
pub(crate) const MAX_BYTES: usize = 512 * 1024;

/// `application/yaml` (RFC 9512, section 2.1) and what was used before it.
pub(crate) fn is_yaml(headers: &HeaderMap) -> bool {
    ["application/yaml", "application/x-yaml", "text/yaml"].contains(&media_type(headers).as_str())
}

pub(crate) fn to_json(bytes: &[u8]) -> Result<Bytes, ApiError> {
    let invalid = |error: String| {
        let error = error.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let error: String = error.chars().take(400).collect();
        ApiError::new(ErrorCode::InvalidRequest, format!("the body is not valid YAML: {error}"))
    };
    let value: Value = serde_saphyr::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    Ok(Bytes::from(value.to_string()))
}
