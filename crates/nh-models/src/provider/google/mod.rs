//! Gemini's API (<https://ai.google.dev/api/generate-content>).
//!
//! What a model thought is readable in `reasoning_content`. The signatures that Gemini asks
//! back on the next turn are where Google's own OpenAI-compatible endpoint has them, in
//! `extra_content.google.thought_signature` of a tool call or a message
//! (<https://ai.google.dev/gemini-api/docs/thought-signatures>).

mod answer;
mod contents;
mod embeddings;
mod events;
#[cfg(test)]
mod properties;
mod request;
mod thinking;

use http::HeaderName;
use serde_json::Value;

use crate::ModelError;
use crate::chat::shown;

pub(super) use answer::read;
pub(crate) use events::Events;
pub(super) use request::write;

pub(super) const KEY_HEADER: HeaderName = HeaderName::from_static("x-goog-api-key");

/// Where Gemini's models are; an id without one of them is of the first.
const COLLECTIONS: [&str; 2] = ["models", "tunedModels"];

/// A model's name (`models/gemini-2.5-flash`), and the same as a path.
fn place(model: &str) -> Result<(String, String), ModelError> {
    let (collection, id) = model.split_once('/').unwrap_or((COLLECTIONS[0], model));
    let is_id = !id.contains('/') && id.bytes().any(|byte| byte != b'.');
    if !is_id || !COLLECTIONS.contains(&collection) {
        let given = shown(&Value::from(model));
        let message = format!(
            "`model` is {given}, which is no name of a Gemini model; give one such as `gemini-2.5-flash` or `tunedModels/mine`"
        );
        return Err(invalid("model", message));
    }
    Ok((format!("{collection}/{id}"), format!("{collection}/{}", encoded(id))))
}

/// As one segment of a path (<https://www.rfc-editor.org/rfc/rfc3986#section-2.1>).
fn encoded(segment: &str) -> String {
    let mut path = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

fn invalid(param: impl Into<String>, message: String) -> ModelError {
    ModelError::Invalid { message, param: param.into() }
}

/// The thought signature of a message or a tool call.
fn signature(of: &Value) -> Option<&str> {
    of["extra_content"]["google"]["thought_signature"].as_str().filter(|signature| !signature.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_id_never_leaves_its_place_in_the_path() {
        for (model, name, path) in [
            ("gemini-2.5-flash", "models/gemini-2.5-flash", "models/gemini-2.5-flash"),
            ("models/gemini-x", "models/gemini-x", "models/gemini-x"),
            ("tunedModels/my own", "tunedModels/my own", "tunedModels/my%20own"),
            ("a?b#c%2F:d\\é", "models/a?b#c%2F:d\\é", "models/a%3Fb%23c%252F%3Ad%5C%C3%A9"),
        ] {
            assert_eq!(place(model), Ok((name.to_owned(), path.to_owned())));
        }
        for model in ["", ".", "..", "models/", "models/..", "models/a/b", "../x", "files/x", "/x", "a/../b"]
        {
            assert!(place(model).is_err(), "{model}");
        }
    }
}
