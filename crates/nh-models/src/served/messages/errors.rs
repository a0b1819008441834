//! Errors in Anthropic's words (<https://docs.anthropic.com/en/api/errors>), with the hub's
//! statuses.

use nh_types::{ApiError, ErrorCode};
use serde_json::{Value, json};

/// The body of an error.
pub fn error(error: &ApiError, request_id: &str) -> Value {
    let told = json!({"type": kind(error.code.status()), "message": error.message});
    json!({"type": "error", "error": told, "request_id": request_id})
}

/// The data of a stream's last event, from the error object of the hub's own stream.
pub(super) fn of_stream(told: &Value) -> Value {
    let code = told["code"].as_str().unwrap_or_default();
    let code = ErrorCode::EVERY.iter().find(|known| known.as_str() == code);
    let kind = kind(code.map_or(500, |code| code.status()));
    let message = told["message"].as_str().unwrap_or("the answer failed");
    json!({"type": "error", "error": {"type": kind, "message": message}})
}

const fn kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}
