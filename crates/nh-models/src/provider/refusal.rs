//! From a provider's refusal to the error that a client should see.

use http::HeaderMap;
use http::header::RETRY_AFTER;
use serde_json::Value;

use crate::{ModelError, ResolvedProvider};

const MAX_MESSAGE_CHARS: usize = 1_000;
/// A longer pause is no help to a client.
const MAX_RETRY_AFTER_SECONDS: u64 = 3_600;
/// How Anthropic says with status 400, and as a mistake of the request, that its account has no
/// credit, or has spent what it may.
const NO_CREDIT: [&str; 2] =
    ["Your credit balance is too low", "You have reached your specified API usage limits"];

/// What an answer with a status other than success means.
pub(super) fn explain(
    provider: &ResolvedProvider,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
) -> ModelError {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let error = body.as_ref().and_then(error_object);
    let is_json = error.is_some();
    let retry_after_seconds = retry_after(headers);
    judge(provider, status, error.unwrap_or(&Value::Null), retry_after_seconds, is_json)
}

/// What an error object means that came with status 200. OpenRouter puts the
/// status into its `code`.
pub(super) fn explain_object(provider: &ResolvedProvider, error: &Value) -> ModelError {
    let status = error
        .get("code")
        .and_then(|code| code.as_u64().or_else(|| code.as_str()?.parse().ok()))
        .and_then(|code| u16::try_from(code).ok())
        .filter(|code| (400..600).contains(code))
        .unwrap_or(502);
    let retry_after_seconds = error
        .pointer("/metadata/headers/Retry-After")
        .and_then(Value::as_str)
        .and_then(|text| text.parse().ok());
    judge(provider, status, error, retry_after_seconds, true)
}

/// OpenAI has `{"error": {…}}`, Google `[{"error": {…}}]`, Ollama
/// `{"error": "…"}`, vLLM of old and FastAPI the object itself.
fn error_object(body: &Value) -> Option<&Value> {
    let body = body.as_array().and_then(|items| items.first()).unwrap_or(body);
    match body.get("error") {
        Some(error) if !error.is_null() => Some(error),
        _ => (body.get("message").is_some() || body.get("detail").is_some()).then_some(body),
    }
}

fn judge(
    provider: &ResolvedProvider,
    status: u16,
    error: &Value,
    retry_after_seconds: Option<u64>,
    is_json: bool,
) -> ModelError {
    let name = provider.name.clone();
    let message = message(provider, error, status);
    let code = error.get("code").and_then(Value::as_str).unwrap_or_default();
    let retry_after_seconds = retry_after_seconds.or_else(|| googles_delay(error));
    match status {
        _ if code == "insufficient_quota" => refused(provider, status, &message),
        400 if says_no_credit(&message) => refused(provider, status, &message),
        400 if googles_details(error).any(|detail| detail["reason"] == "API_KEY_INVALID") => {
            refused(provider, status, &message)
        }
        401..=403 => refused(provider, status, &message),
        404 if !is_json => ModelError::Failed {
            provider: name,
            message: format!("{message}; check that its base_url is right"),
        },
        408 | 504 => ModelError::TimedOut { provider: name, message, was_sent: true },
        429 => ModelError::RateLimited { provider: name, message, retry_after_seconds },
        400 | 404 | 409 | 413 | 415 | 422 => {
            let param =
                error.get("param").and_then(Value::as_str).map(|param| short(&provider.scrub(param), 200));
            ModelError::Rejected { provider: name, status, message, param }
        }
        _ => ModelError::Failed { provider: name, message },
    }
}

/// The provider's words on the hub's credential are for the operator's log, not
/// for the client: they may quote a part of it.
fn refused(provider: &ResolvedProvider, status: u16, message: &str) -> ModelError {
    tracing::warn!(
        provider = provider.name,
        status,
        message,
        "a provider refused the hub's credential or account"
    );
    let message = match status {
        400 if says_no_credit(message) => "its account has no credit left",
        402 => "its account has no credit left",
        429 => "its account's quota is used up",
        400 | 401 => "its API key is missing or not accepted",
        _ => "its API key may not do this, or the request was blocked",
    };
    ModelError::Refused { provider: provider.name.clone(), status, message: message.to_owned() }
}

fn says_no_credit(message: &str) -> bool {
    NO_CREDIT.iter().any(|words| message.starts_with(words))
}

/// <https://cloud.google.com/apis/design/errors#error_details>
fn googles_details(error: &Value) -> impl Iterator<Item = &Value> {
    error.get("details").and_then(Value::as_array).into_iter().flatten()
}

/// `{"retryDelay": "3.5s"}`, rounded up; Google has no header for it.
fn googles_delay(error: &Value) -> Option<u64> {
    let delay = googles_details(error).find_map(|detail| detail.get("retryDelay")?.as_str())?;
    whole_seconds(delay.strip_suffix('s')?.parse().ok()?)
}

fn message(provider: &ResolvedProvider, error: &Value, status: u16) -> String {
    let text = error
        .as_str()
        .or_else(|| error.get("message")?.as_str())
        .or_else(|| error.get("detail")?.as_str())
        .map(str::trim)
        .filter(|text| !text.is_empty());
    match text {
        Some(text) => short(&provider.scrub(text), MAX_MESSAGE_CHARS),
        None => format!("it answered with status {status}"),
    }
}

fn short(text: &str, max_chars: usize) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(max_chars).collect()
}

/// Whole seconds, rounded up; OpenAI also says it in milliseconds. A date is
/// ignored: providers do not send it.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let seconds = number(RETRY_AFTER.as_str()).or_else(|| number("retry-after-ms").map(|ms| ms / 1_000.0))?;
    whole_seconds(seconds)
}

fn whole_seconds(seconds: f64) -> Option<u64> {
    (seconds >= 0.0).then(|| (seconds.ceil() as u64).min(MAX_RETRY_AFTER_SECONDS))
}
