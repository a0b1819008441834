use std::collections::BTreeMap;

use nh_store::tools as rows;
use nh_types::sandbox::CodeLanguage;
use nh_types::tool::{
    ChangeTool, CodeTool, CreateTool, HttpMethod, HttpTool, OwnTool, SecretValues, SkippedOperation,
};
use nh_types::{ApiError, ErrorCode};
use serde_json::{Value, json};

use super::{http, openapi};
use crate::secret_headers::{SecretHeaders, check_headers};
use crate::start::invalid;
use crate::tools::Tools;
use nh_schema as schema;

const MAX_NAME: usize = 64;
const MAX_DESCRIPTION_CHARS: usize = 4000;
const MAX_CODE_CHARS: usize = 100_000;
const MAX_SCHEMA_BYTES: usize = 64 * 1024;
const DEFAULT_SECONDS: u32 = 60;
const MAX_SECONDS: u32 = 240;

/// What other tools are called by: those of runs that an agent may begin.
const RESERVED: [&str; 2] = ["run_agent_", "run_workflow_"];

/// The tool that is asked for, if it can be one beside those of the hub. `generation` is a text
/// that no other has.
pub fn created(new: CreateTool, builtin: &Tools, generation: &str) -> Result<OwnTool, ApiError> {
    let kind = new.kind.as_deref().unwrap_or("code");
    let foreign = match kind {
        "code" => foreign_to_code(&new.method, &new.url, &new.headers, &new.secrets, &new.repeatable),
        "http" => foreign_to_http(&new.language, &new.code),
        _ => {
            let shown: String = kind.chars().take(40).collect();
            let message = format!("`kind` is `{shown}`; it must be `code`, `http` or `openapi`");
            return Err(invalid("kind", message));
        }
    };
    refuse_foreign(foreign, kind)?;
    if new.document.is_some() {
        refuse_foreign(vec![("document", true)], kind)?;
    }
    check_name(&new.name, builtin)?;
    let missing =
        |field: &str| invalid(field, format!("`{field}` is missing; a tool of the kind `{kind}` has one"));
    let input_schema = new.input_schema.unwrap_or_else(|| json!({"type": "object"}));
    let timeout_seconds = new.timeout_seconds.unwrap_or(DEFAULT_SECONDS);
    if kind == "code" {
        return check_code(CodeTool {
            name: new.name,
            description: new.description,
            language: new.language.ok_or_else(|| missing("language"))?,
            code: new.code.ok_or_else(|| missing("code"))?,
            input_schema,
            output_schema: new.output_schema,
            timeout_seconds,
        });
    }
    let method = new.method.ok_or_else(|| missing("method"))?;
    check_http(
        HttpTool {
            name: new.name,
            description: new.description,
            method,
            url: new.url.ok_or_else(|| missing("url"))?,
            headers: new.headers.unwrap_or_default(),
            input_schema,
            output_schema: new.output_schema,
            timeout_seconds,
            repeatable: new.repeatable.unwrap_or_else(|| http::is_idempotent(method)),
            secrets: Vec::new(),
            query: Vec::new(),
            body: None,
            generation: generation.to_owned(),
        },
        &[],
        new.secrets.as_ref(),
    )
}

/// The tools that a document's operations are. The secrets are of all of them alike: each has
/// those that the headers name.
pub fn imported(
    new: CreateTool,
    builtin: &Tools,
    generation: &str,
) -> Result<(Vec<OwnTool>, Vec<SkippedOperation>), ApiError> {
    let mut foreign = foreign_to_http(&new.language, &new.code);
    foreign.extend([
        ("method", new.method.is_some()),
        ("input_schema", new.input_schema.is_some()),
        ("output_schema", new.output_schema.is_some()),
    ]);
    refuse_foreign(foreign, "openapi")?;
    check_name(&new.name, builtin)?;
    let document = new.document.as_ref().ok_or_else(|| {
        invalid("document", "`document` is missing; it is an OpenAPI 3 document, as JSON".to_owned())
    })?;
    let read = openapi::read(document, new.url.as_deref(), &new.name);
    let (operations, mut skipped) = read.map_err(|(field, message)| invalid(field, message))?;
    let headers = new.headers.unwrap_or_default();
    check_headers(&headers, &[], new.secrets.as_ref())?;
    let timeout_seconds = new.timeout_seconds.unwrap_or(DEFAULT_SECONDS);
    let mut tools = Vec::new();
    for operation in operations {
        let tool = HttpTool {
            name: operation.name,
            description: operation.description,
            method: operation.method,
            url: operation.url,
            headers: headers.clone(),
            input_schema: operation.input_schema,
            output_schema: None,
            timeout_seconds,
            repeatable: new.repeatable.unwrap_or_else(|| http::is_idempotent(operation.method)),
            secrets: Vec::new(),
            query: operation.query,
            body: operation.body,
            generation: generation.to_owned(),
        };
        let checked =
            check_name(&tool.name, builtin).and_then(|()| check_http(tool, &[], new.secrets.as_ref()));
        match checked {
            Ok(tool) => tools.push(tool),
            // What is wrong with all of them is wrong with the request.
            Err(error) if error.param.as_deref() == Some("timeout_seconds") => return Err(error),
            Err(error) => {
                skipped.push(SkippedOperation { operation: operation.shown, reason: error.message });
            }
        }
    }
    if tools.is_empty() {
        let why = skipped.first().map(|first| format!(": {}: {}", first.operation, first.reason));
        let message = format!("no operation of `document` can be a tool{}", why.unwrap_or_default());
        return Err(invalid("document", message));
    }
    Ok((tools, skipped))
}

/// `now` with the change made to it.
pub fn changed(now: OwnTool, change: &ChangeTool) -> Result<OwnTool, ApiError> {
    let change = change.clone();
    match now {
        OwnTool::Code(now) => {
            let ChangeTool { method, url, headers, secrets, repeatable, .. } = &change;
            refuse_foreign(foreign_to_code(method, url, headers, secrets, repeatable), "code")?;
            check_code(CodeTool {
                name: now.name,
                description: change.description.unwrap_or(now.description),
                language: change.language.unwrap_or(now.language),
                code: change.code.unwrap_or(now.code),
                input_schema: change.input_schema.unwrap_or(now.input_schema),
                output_schema: change.output_schema.unwrap_or(now.output_schema),
                timeout_seconds: change.timeout_seconds.unwrap_or(now.timeout_seconds),
            })
        }
        OwnTool::Mcp(now) => {
            let message = format!("`{}` is as its server says; change the server", now.name);
            Err(ApiError::new(ErrorCode::Conflict, message))
        }
        OwnTool::Http(now) => {
            refuse_foreign(foreign_to_http(&change.language, &change.code), "http")?;
            // What was told to one server is told to no other by a change of the address.
            let goes_elsewhere =
                change.url.as_ref().is_some_and(|url| http::origin(url) != http::origin(&now.url));
            let known = if goes_elsewhere { Vec::new() } else { now.secrets };
            check_http(
                HttpTool {
                    name: now.name,
                    description: change.description.unwrap_or(now.description),
                    method: change.method.unwrap_or(now.method),
                    url: change.url.unwrap_or(now.url),
                    headers: change.headers.unwrap_or(now.headers),
                    input_schema: change.input_schema.unwrap_or(now.input_schema),
                    output_schema: change.output_schema.unwrap_or(now.output_schema),
                    timeout_seconds: change.timeout_seconds.unwrap_or(now.timeout_seconds),
                    repeatable: change.repeatable.unwrap_or(match change.method {
                        Some(method) if method != now.method => http::is_idempotent(method),
                        _ => now.repeatable,
                    }),
                    generation: now.generation,
                    secrets: Vec::new(),
                    query: now.query,
                    body: now.body,
                },
                &known,
                change.secrets.as_ref(),
            )
        }
    }
}

/// The secrets of a tool, if its kind has any.
pub fn secrets_of(tool: &OwnTool) -> Option<SecretHeaders<'_>> {
    match tool {
        OwnTool::Http(tool) => Some(http_secrets(tool)),
        OwnTool::Code(_) | OwnTool::Mcp(_) => None,
    }
}

pub(in crate::tools) fn http_secrets(tool: &HttpTool) -> SecretHeaders<'_> {
    SecretHeaders {
        table: rows::TABLE,
        owner: &tool.name,
        generation: &tool.generation,
        origin: http::origin(&tool.url),
        headers: &tool.headers,
        secrets: &tool.secrets,
    }
}

fn foreign_to_code(
    method: &Option<HttpMethod>,
    url: &Option<String>,
    headers: &Option<BTreeMap<String, String>>,
    secrets: &Option<SecretValues>,
    repeatable: &Option<bool>,
) -> Vec<(&'static str, bool)> {
    vec![
        ("method", method.is_some()),
        ("url", url.is_some()),
        ("headers", headers.is_some()),
        ("secrets", secrets.is_some()),
        ("repeatable", repeatable.is_some()),
    ]
}

fn foreign_to_http(language: &Option<CodeLanguage>, code: &Option<String>) -> Vec<(&'static str, bool)> {
    vec![("language", language.is_some()), ("code", code.is_some())]
}

fn refuse_foreign(fields: Vec<(&'static str, bool)>, kind: &str) -> Result<(), ApiError> {
    match fields.into_iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((field, _)) => Err(invalid(field, format!("a tool of the kind `{kind}` has no `{field}`"))),
    }
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

fn check_code(tool: CodeTool) -> Result<OwnTool, ApiError> {
    if tool.language == CodeLanguage::Bash {
        return Err(invalid(
            "language",
            "`language` is `bash`; a tool is in `python` or `nodejs`".to_owned(),
        ));
    }
    check_length("code", &tool.code, MAX_CODE_CHARS)?;
    if tool.code.contains('\0') {
        return Err(invalid("code", "`code` has the character U+0000, which no program can have".to_owned()));
    }
    check_rest(&tool.description, &tool.input_schema, tool.output_schema.as_ref(), tool.timeout_seconds)?;
    Ok(OwnTool::Code(tool))
}

/// `known` are the secrets that there are, `given` those that come now. The tool keeps those
/// that its headers name.
fn check_http(
    mut tool: HttpTool,
    known: &[String],
    given: Option<&SecretValues>,
) -> Result<OwnTool, ApiError> {
    check_rest(&tool.description, &tool.input_schema, tool.output_schema.as_ref(), tool.timeout_seconds)?;
    http::check_url(&tool.url)?;
    tool.secrets = check_headers(&tool.headers, known, given)?;
    Ok(OwnTool::Http(tool))
}

fn check_rest(
    description: &str,
    input_schema: &Value,
    output_schema: Option<&Value>,
    seconds: u32,
) -> Result<(), ApiError> {
    check_length("description", description, MAX_DESCRIPTION_CHARS)?;
    check_schema("input_schema", input_schema)?;
    if input_schema.get("type").and_then(Value::as_str) != Some("object") {
        let message = "`input_schema` must be of `\"type\": \"object\"`: a tool's arguments have names";
        return Err(invalid("input_schema", message.to_owned()));
    }
    if let Some(schema) = output_schema {
        check_schema("output_schema", schema)?;
    }
    if !(1..=MAX_SECONDS).contains(&seconds) {
        let message = format!("`timeout_seconds` is {seconds}; it must be 1 to {MAX_SECONDS}");
        return Err(invalid("timeout_seconds", message));
    }
    Ok(())
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
