use nh_types::sandbox::CodeLanguage;
use nh_types::tool::{ChangeTool, CodeTool, CreateTool};
use nh_types::{ApiError, ErrorCode};
use serde_json::{Value, json};

use crate::schema;
use crate::start::invalid;
use crate::tools::Tools;

const MAX_NAME: usize = 64;
const MAX_DESCRIPTION_CHARS: usize = 4000;
const MAX_CODE_CHARS: usize = 100_000;
const MAX_SCHEMA_BYTES: usize = 64 * 1024;
const DEFAULT_SECONDS: u32 = 60;
const MAX_SECONDS: u32 = 240;

/// What other tools are called by: those of runs that an agent may begin.
const RESERVED: [&str; 2] = ["run_agent_", "run_workflow_"];

/// The tool that is asked for, if it can be one beside those of the hub.
pub fn created(new: CreateTool, builtin: &Tools) -> Result<CodeTool, ApiError> {
    if let Some(kind) = new.kind.filter(|kind| kind != "code") {
        let kind: String = kind.chars().take(40).collect();
        let message =
            format!("`kind` is `{kind}`; tools of the kind `code` can be registered, no others yet");
        return Err(ApiError::new(ErrorCode::NotAvailable, message).param("kind"));
    }
    check_name(&new.name, builtin)?;
    check(CodeTool {
        name: new.name,
        description: new.description,
        language: new.language,
        code: new.code,
        input_schema: new.input_schema.unwrap_or_else(|| json!({"type": "object"})),
        output_schema: new.output_schema,
        timeout_seconds: new.timeout_seconds.unwrap_or(DEFAULT_SECONDS),
    })
}

/// `now` with the change made to it.
pub fn changed(now: CodeTool, change: ChangeTool) -> Result<CodeTool, ApiError> {
    check(CodeTool {
        name: now.name,
        description: change.description.unwrap_or(now.description),
        language: change.language.unwrap_or(now.language),
        code: change.code.unwrap_or(now.code),
        input_schema: change.input_schema.unwrap_or(now.input_schema),
        output_schema: change.output_schema.unwrap_or(now.output_schema),
        timeout_seconds: change.timeout_seconds.unwrap_or(now.timeout_seconds),
    })
}

fn check_name(name: &str, builtin: &Tools) -> Result<(), ApiError> {
    let shown: String = name.chars().take(80).collect();
    let mut letters = name.bytes();
    let is_name = (1..=MAX_NAME).contains(&name.len())
        && letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|letter| letter.is_ascii_alphanumeric() || b"_-".contains(&letter));
    if !is_name {
        let message = format!(
            "`name` is `{shown}`; it must be 1 to {MAX_NAME} of letters, digits, `_` and `-`, a letter first"
        );
        return Err(invalid("name", message));
    }
    if builtin.get(name).is_some() {
        let message = format!("`{shown}` is a tool of the hub; choose another name");
        return Err(ApiError::new(ErrorCode::AlreadyExists, message).param("name"));
    }
    if let Some(start) = RESERVED.iter().find(|start| name.starts_with(*start)) {
        let message = format!("names that begin with `{start}` are those of runs; choose another");
        return Err(invalid("name", message));
    }
    Ok(())
}

fn check(tool: CodeTool) -> Result<CodeTool, ApiError> {
    if tool.language == CodeLanguage::Bash {
        return Err(invalid(
            "language",
            "`language` is `bash`; a tool is in `python` or `nodejs`".to_owned(),
        ));
    }
    check_length("description", &tool.description, MAX_DESCRIPTION_CHARS)?;
    check_length("code", &tool.code, MAX_CODE_CHARS)?;
    if tool.code.contains('\0') {
        return Err(invalid("code", "`code` has the character U+0000, which no program can have".to_owned()));
    }
    check_schema("input_schema", &tool.input_schema)?;
    if tool.input_schema.get("type").and_then(Value::as_str) != Some("object") {
        let message = "`input_schema` must be of `\"type\": \"object\"`: a tool's arguments have names";
        return Err(invalid("input_schema", message.to_owned()));
    }
    if let Some(schema) = &tool.output_schema {
        check_schema("output_schema", schema)?;
    }
    let seconds = tool.timeout_seconds;
    if !(1..=MAX_SECONDS).contains(&seconds) {
        let message = format!("`timeout_seconds` is {seconds}; it must be 1 to {MAX_SECONDS}");
        return Err(invalid("timeout_seconds", message));
    }
    Ok(tool)
}

fn check_length(field: &str, text: &str, most: usize) -> Result<(), ApiError> {
    let count = text.chars().count();
    match (1..=most).contains(&count) {
        true => Ok(()),
        false => Err(invalid(field, format!("`{field}` has {count} characters; it must have 1 to {most}"))),
    }
}

fn check_schema(field: &str, schema: &Value) -> Result<(), ApiError> {
    let bytes = schema.to_string().len();
    if bytes > MAX_SCHEMA_BYTES {
        return Err(invalid(field, format!("`{field}` is {bytes} bytes; it may be {MAX_SCHEMA_BYTES}")));
    }
    let compiled = schema::compile(schema);
    compiled.map(drop).map_err(|error| invalid(field, format!("`{field}` is no JSON Schema: {error}")))
}
