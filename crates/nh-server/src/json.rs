//! Request bodies: read within bounds, checked for depth, and deserialised so
//! that every mistake names its field.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use nh_types::{ApiError, ErrorCode, JsonSize};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::app::App;
use crate::body_room::{Room, SMALL_BYTES, parsed_bytes};
use crate::failure::Failure;
use crate::idempotency::Once;
use crate::yaml;

/// Deeper nesting is refused before it is parsed.
const MAX_DEPTH: usize = 64;
/// More values than this are refused before they are parsed: small values
/// take many times their text in memory. The largest honest body, embeddings
/// of 300,000 token numbers, fits.
const MAX_VALUES: usize = 500_000;

/// A JSON body of at most `MAX_BYTES` (and the configured limit). Every
/// handler names it after its `Auth`, so that a caller without a credential
/// cannot make the hub read a body.
///
/// Its second field is the memory that it was given: it counts until the
/// handler ends.
pub(crate) struct Json<T, const MAX_BYTES: usize = { usize::MAX }>(pub(crate) T, pub(crate) Option<Room>);

impl<T: DeserializeOwned, const MAX_BYTES: usize> FromRequest<Arc<App>> for Json<T, MAX_BYTES> {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let bytes = read(app, &parts.headers, body, MAX_BYTES).await?;
        let room = app.body_room.take(parsed_bytes(&bytes))?;
        Ok(Self(parse(&bytes)?, room))
    }
}

/// The body of a request that creates something, with its `Idempotency-Key`.
/// Where it `MAY_BE_EMPTY`, no body is an empty object; where it `MAY_BE_YAML`,
/// that is read as the JSON that it stands for.
pub(crate) struct Creating<T, const MAY_BE_EMPTY: bool = false, const MAY_BE_YAML: bool = false> {
    pub(crate) body: T,
    pub(crate) once: Option<Once>,
}

impl<T: DeserializeOwned, const MAY_BE_EMPTY: bool, const MAY_BE_YAML: bool> FromRequest<Arc<App>>
    for Creating<T, MAY_BE_EMPTY, MAY_BE_YAML>
{
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let (parts, body) = request.into_parts();
        let bytes = if MAY_BE_EMPTY && body.is_end_stream() {
            Bytes::from_static(b"{}")
        } else if MAY_BE_YAML && yaml::is_yaml(&parts.headers) {
            yaml::to_json(&read_any(app, &parts.headers, body, yaml::MAX_BYTES).await?)?
        } else {
            read(app, &parts.headers, body, usize::MAX).await?
        };
        // What it makes goes into the store's queue, which has its own bound.
        let _room = app.body_room.take(parsed_bytes(&bytes))?;
        let once = Once::of(&parts, &bytes)?;
        Ok(Self { body: parse(&bytes)?, once })
    }
}

/// A body that calls itself JSON, as it came, with the memory that it was given, for who reads it elsewhere.
pub(crate) async fn unparsed(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Option<Room>), Failure> {
    let bytes = read(app, headers, body, usize::MAX).await?;
    check_size(&bytes)?;
    let room = app.body_room.take(parsed_bytes(&bytes))?;
    Ok((bytes, room))
}

/// A body that is a list, for a handler that reads other bodies too.
pub(crate) async fn list<T: DeserializeOwned>(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<T>, Failure> {
    let bytes = read(app, headers, body, usize::MAX).await?;
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return Err(ApiError::new(ErrorCode::InvalidJson, "the body must be a JSON list").into());
    }
    let _room = app.body_room.take(parsed_bytes(&bytes))?;
    Ok(parse_any(&bytes)?)
}

/// Such as `application/json`, without parameters; empty where there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn is_json(headers: &HeaderMap) -> bool {
    let essence = media_type(headers);
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(app: &App, headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Bytes, Failure> {
    if !is_json(headers) {
        let given = headers.get(CONTENT_TYPE).map_or("none", |value| value.to_str().unwrap_or("unreadable"));
        let given: String = given.chars().take(100).collect();
        let message = format!("the body's Content-Type must be application/json; it is {given}");
        return Err(Failure::new(ErrorCode::UnsupportedMediaType, message));
    }
    read_any(app, headers, body, max_bytes).await
}

/// Whatever its type.
async fn read_any(app: &App, headers: &HeaderMap, body: Body, max_bytes: usize) -> Result<Bytes, Failure> {
    let limit = app.settings.max_body_bytes.min(max_bytes);
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let time = Duration::from_millis(app.settings.body_timeout_ms);
    tokio::time::timeout(time, collect(app, body, announced, limit)).await.unwrap_or_else(|_| {
        let message = format!("the body did not arrive within {} ms", time.as_millis());
        Err(Failure::new(ErrorCode::RequestTimeout, message))
    })
}

/// The body in one piece. Many small ones would each take more than they hold.
async fn collect(app: &App, body: Body, announced: Option<usize>, limit: usize) -> Result<Bytes, Failure> {
    let mut room = app.body_room.take(announced.unwrap_or_default())?;
    let mut body = Limited::new(body, limit);
    let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|error| unreadable(error, limit))?.into_data() else { continue };
        if first.is_empty() {
            first = piece;
            continue;
        }
        if rest.is_empty() {
            rest.extend_from_slice(&first);
        }
        rest.extend_from_slice(&piece);
        if announced.is_none() && rest.len() > SMALL_BYTES && room.is_none() {
            // Nobody said how long it will be: as long as it may.
            room = app.body_room.take(limit)?;
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>, limit: usize) -> Failure {
    if error.is::<LengthLimitError>() {
        return too_large(limit);
    }
    Failure::new(ErrorCode::InvalidRequest, format!("the body could not be read to its end: {error}"))
}

fn too_large(limit: usize) -> Failure {
    Failure::new(ErrorCode::PayloadTooLarge, format!("the body is over the limit of {limit} bytes"))
}

/// Text to value; a mistake names the field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(ApiError::new(ErrorCode::InvalidJson, "the body is empty; it must be a JSON object"));
    }
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        // serde would take a list for a struct, field by field.
        return Err(ApiError::new(ErrorCode::InvalidJson, "the body must be a JSON object"));
    }
    parse_any(bytes)
}

fn parse_any<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    check_size(bytes)?;
    // A text whose bytes were looked at as a whole is read faster.
    let parsed = match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(bytes),
    };
    // Following the path costs time, so only a body that fails is read again.
    parsed.map_err(|error| match serde_json::from_slice::<Value>(bytes) {
        Err(error) => {
            let text: String = error.to_string().chars().take(400).collect();
            ApiError::new(ErrorCode::InvalidJson, format!("the body is not valid JSON: {text}"))
        }
        Ok(value) => match serde_path_to_error::deserialize::<_, T>(value) {
            Err(error) => explain(&error.path().to_string(), &error.inner().to_string()),
            // What a tree of values does not show: a field that stands twice.
            Ok(_) => explain(".", without_place(&error.to_string())),
        },
    })
}

fn without_place(text: &str) -> &str {
    text.rsplit_once(" at line ").map_or(text, |(text, _)| text)
}

fn check_size(bytes: &[u8]) -> Result<(), ApiError> {
    if (JsonSize { values: MAX_VALUES, depth: MAX_DEPTH }).holds(bytes) {
        return Ok(());
    }
    let JsonSize { values, depth } = JsonSize::of(bytes);
    let message = if depth > MAX_DEPTH {
        format!("the body is nested more than {MAX_DEPTH} levels deep")
    } else if values > MAX_VALUES {
        format!("the body holds more than {MAX_VALUES} values")
    } else {
        return Ok(());
    };
    Err(ApiError::new(ErrorCode::InvalidJson, message))
}

/// From serde's words to an error that names the field, the value and what
/// would be right.
fn explain(path: &str, text: &str) -> ApiError {
    let text: String = text.chars().take(400).collect();
    let said =
        |start: &str| text.strip_prefix(start).and_then(|rest| rest.split('`').next()).map(str::to_owned);
    let at = (path != ".").then(|| path.to_owned());
    let inside = |field: String| match &at {
        // For an unknown field the path already ends in the field's name.
        Some(path) if path == &field || path.ends_with(&format!(".{field}")) => path.clone(),
        Some(path) => format!("{path}.{field}"),
        None => field,
    };
    if let Some(field) = said("unknown field `") {
        return ApiError::new(ErrorCode::UnknownField, text).param(inside(field));
    }
    for fault in ["missing field `", "duplicate field `"] {
        if let Some(field) = said(fault) {
            return ApiError::new(ErrorCode::InvalidRequest, text).param(inside(field));
        }
    }
    let field = at.as_deref().unwrap_or("the body");
    let code = match () {
        () if text.starts_with("unknown variant") => ErrorCode::InvalidValue,
        // A number that no type of the hub holds is far out of any range.
        () if text.starts_with("invalid value: integer") => ErrorCode::InvalidValue,
        () => ErrorCode::InvalidRequest,
    };
    let message = match text.split_once(": ").and_then(|(_, rest)| rest.rsplit_once(", expected ")) {
        Some((given, wanted)) if text.starts_with("invalid type") => {
            format!("`{field}` is {}; it must be {}", in_words(given), in_words(wanted))
        }
        Some((given, _)) if code == ErrorCode::InvalidValue => {
            format!("`{field}` is {}, which is out of range", in_words(given))
        }
        _ => format!("`{field}`: {text}"),
    };
    ApiError { param: at, ..ApiError::new(code, message) }
}

/// serde's names of types, in JSON's words.
fn in_words(text: &str) -> String {
    match text {
        "sequence" | "a sequence" => "a list".to_owned(),
        "map" | "a map" => "an object".to_owned(),
        "a boolean" => "true or false".to_owned(),
        // How serde asks for one of an enumeration's words.
        "string or map" => "a string".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        text if text.starts_with("struct ") => "an object".to_owned(),
        text => ["boolean ", "integer ", "floating point ", "string "]
            .iter()
            .find_map(|kind| text.strip_prefix(kind))
            .unwrap_or(text)
            .to_owned(),
    }
}

/// Whether a request with this method changes state.
pub(crate) fn changes_state(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nh_types::run::StartRun;
    use proptest::prelude::*;

    fn fault(body: &str) -> (ErrorCode, Option<String>) {
        let error = parse::<StartRun>(body.as_bytes()).expect_err(body);
        (error.code, error.param)
    }

    #[test]
    fn every_mistake_names_its_field() {
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(fault(r#"{"type":"agent"}"#), (ErrorCode::InvalidRequest, named("target")));
        assert_eq!(fault(r#"{"target":1,"type":"agent"}"#), (ErrorCode::InvalidRequest, named("target")));
        assert_eq!(fault(r#"{"target":"a","type":"robot"}"#), (ErrorCode::InvalidValue, named("type")));
        assert_eq!(
            fault(r#"{"target":"a","type":"agent","wait":3}"#),
            (ErrorCode::UnknownField, named("wait"))
        );
        assert_eq!(
            fault(r#"{"target":"a","type":"agent","wait_seconds":"1"}"#),
            (ErrorCode::InvalidRequest, named("wait_seconds"))
        );
        assert_eq!(
            fault(r#"{"target":"a","type":"agent","wait_seconds":18446744073709551615}"#),
            (ErrorCode::InvalidValue, named("wait_seconds"))
        );
        assert_eq!(fault(r#"{"target":"a","type":1}"#), (ErrorCode::InvalidRequest, named("type")));
        assert_eq!(
            fault(r#"{"target":"a","type":"agent","target":"b"}"#),
            (ErrorCode::InvalidRequest, named("target"))
        );
        for broken in ["", "  ", "{", "nul", "{\"target\":\"\u{1}\"}", "{} {}", "{\"target\":\"\\ud800\"}"] {
            assert!(
                matches!(fault(broken).0, ErrorCode::InvalidJson | ErrorCode::InvalidRequest),
                "{broken}"
            );
        }
        assert_eq!(fault(r#"["agent_default", "agent"]"#).0, ErrorCode::InvalidJson);
    }

    #[test]
    fn a_wrong_type_is_told_in_words() {
        let message = |body: &str| parse::<StartRun>(body.as_bytes()).expect_err(body).message;
        for (given, told) in [
            (r#""type": 1"#, "`type` is `1`; it must be a string"),
            (r#""type": "agent", "async": "yes""#, "`async` is \"yes\"; it must be true or false"),
            (r#""type": "agent", "metadata": []"#, "`metadata` is a list; it must be an object"),
            (r#""type": "agent", "wait_seconds": 1.5"#, "`wait_seconds` is `1.5`; it must be a whole number"),
            (
                r#""type": "robot""#,
                "`type`: unknown variant `robot`, expected one of `agent`, `tool`, `workflow`",
            ),
        ] {
            assert_eq!(message(&format!(r#"{{"target": "a", {given}}}"#)), told);
        }
        assert_eq!(message(r#"{"type": "agent"}"#), "missing field `target`");
    }

    #[test]
    fn bombs_are_refused_before_they_are_parsed() {
        let deep = format!("{{\"a\":{}", "[".repeat(MAX_DEPTH));
        assert_eq!(parse::<Value>(deep.as_bytes()).expect_err("deep").code, ErrorCode::InvalidJson);
        let flat = format!("{{\"a\":{}{}}}", "[".repeat(MAX_DEPTH - 1), "]".repeat(MAX_DEPTH - 1));
        assert!(parse::<Value>(flat.as_bytes()).is_ok());
        let brackets_in_text = format!("{{\"a\":\"{}\\\"[\"}}", "[".repeat(MAX_DEPTH + 1));
        assert!(parse::<Value>(brackets_in_text.as_bytes()).is_ok());
        let wide = format!("{{\"a\":[{}0]}}", "0,".repeat(MAX_VALUES));
        assert_eq!(parse::<Value>(wide.as_bytes()).expect_err("wide").code, ErrorCode::InvalidJson);
    }

    #[test]
    fn json_is_told_by_its_media_type() {
        let with = |value: &'static str| {
            HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(value))])
        };
        assert!(is_json(&with("application/json")));
        assert!(is_json(&with("Application/JSON; charset=utf-8")));
        assert!(is_json(&with("application/merge-patch+json")));
        for other in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
            assert!(!is_json(&with(other)), "{other}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(nh_testkit::cases(256)))]
        /// The fuzz target of the run request: whatever comes, it is a value
        /// or a client's error, and what it says can be parsed again.
        #[test]
        fn any_body_is_a_value_or_a_client_error(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(error) = parse::<StartRun>(&body) {
                prop_assert!(error.code.status() < 500);
            }
        }

        #[test]
        fn json_like_bodies_too(body in r#"[{}\[\]",:a-e0-9\\ ]{0,80}"#) {
            if let Err(error) = parse::<StartRun>(body.as_bytes()) {
                prop_assert!(error.code.status() < 500);
            }
        }
    }
}
