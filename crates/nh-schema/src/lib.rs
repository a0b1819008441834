//! JSON Schemas that anybody may have written, in bounded time and memory.
//!
//! This crate must never know what a value is of. Start reading at [`compile`].

mod unrolled;

pub use jsonschema::Validator;
pub use unrolled::{Unrolled, unrolled};

use jsonschema::PatternOptions;
use jsonschema::error::{ValidationError, ValidationErrorKind};
use serde_json::Value;

/// Of the faults of one value, this many are told.
const MAX_FAULTS: usize = 20;
/// A fault quotes the offending value, which may be long.
const MAX_FAULT_CHARS: usize = 300;

/// Of one pattern, compiled.
const MAX_PATTERN_BYTES: usize = 256 * 1024;

/// What is wrong at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// A JSON pointer (RFC 6901) into the value; empty for the whole.
    pub path: String,
    pub message: String,
}

/// A schema (2020-12, or the revision that its `$schema` names), ready to hold values against in
/// bounded time and memory: its patterns are matched in linear time, what it refers to must be in
/// it, and what refers to itself is looked at for so many levels as there is room for.
pub fn compile(schema: &Value) -> Result<Validator, String> {
    compile_unrolled(&unrolled(schema)?)
}

/// One whose size is known.
pub fn compile_unrolled(unrolled: &Unrolled) -> Result<Validator, String> {
    jsonschema::options()
        .should_validate_formats(true)
        .with_pattern_options(PatternOptions::regex().size_limit(MAX_PATTERN_BYTES))
        .build(&unrolled.schema)
        .map_err(|error| error.to_string().chars().take(MAX_FAULT_CHARS).collect())
}

/// All that is wrong with a value, at most twenty faults.
pub fn faults(validator: &Validator, value: &Value) -> Vec<Fault> {
    let faults = validator.iter_errors(value).take(MAX_FAULTS);
    faults
        .map(|error| Fault {
            path: pointer(&error),
            message: error.to_string().chars().take(MAX_FAULT_CHARS).collect(),
        })
        .collect()
}

/// Where the fault is: of a missing or unknown field that field, not the object
/// around it.
fn pointer(error: &ValidationError<'_>) -> String {
    let field = match error.kind() {
        ValidationErrorKind::Required { property } => property.as_str(),
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected.first().map(String::as_str),
        _ => None,
    };
    let around = error.instance_path().as_str();
    field.map_or_else(
        || around.to_owned(),
        |field| format!("{around}/{}", field.replace('~', "~0").replace('/', "~1")),
    )
}

/// A place in a value, written as fields are elsewhere: `input.items[0]`.
pub fn place(root: &str, pointer: &str) -> String {
    pointer.split('/').skip(1).fold(root.to_owned(), |path, step| match step.parse::<usize>() {
        Ok(index) => format!("{path}[{index}]"),
        Err(_) => format!("{path}.{}", step.replace("~1", "/").replace("~0", "~")),
    })
}

/// The faults of a value that `root` names, in one line.
pub fn told(root: &str, faults: &[Fault]) -> String {
    let told = faults.iter().map(|fault| format!("`{}`: {}", place(root, &fault.path), fault.message));
    told.collect::<Vec<_>>().join("; ")
}
