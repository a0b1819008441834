//! OpenAI's Responses API (<https://platform.openai.com/docs/api-reference/responses>) over its
//! chat completions, without state: no response is kept.
//!
//! [`read`] makes a chat request of it, and [`Asked`] what came back an answer, whole or as a
//! stream of events. Nothing here asks anybody.

mod answer;
mod events;
mod input;
mod kept;
mod output;
mod request;
mod tools;

pub use request::{Request, read};
use serde_json::{Map, Value};

use crate::ModelError;
use crate::chat::shown;

/// The part of a request that its answer repeats.
pub struct Asked(Map<String, Value>);

fn wrong(at: &str, given: Option<&Value>, remedy: &str) -> ModelError {
    let given = given.map_or_else(|| "missing".to_owned(), shown);
    ModelError::Invalid { message: format!("`{at}` is {given}; {remedy}"), param: at.to_owned() }
}

fn text<'v>(object: &'v Value, field: &str, at: &str) -> Result<&'v str, ModelError> {
    let given = object.get(field);
    let text = given.and_then(Value::as_str);
    text.ok_or_else(|| wrong(&format!("{at}.{field}"), given, "it must be a text"))
}
