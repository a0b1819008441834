//! What may be registered.

use std::collections::BTreeMap;

use nh_store::mcp_servers as rows;
use nh_types::ApiError;
use nh_types::mcp::{ChangeMcpServer, CreateMcpServer, McpServer};
use nh_types::tool::{SecretText, SecretValues};

use crate::secret_headers::{SecretHeaders, check_headers};
use crate::start::invalid;
use crate::tools::own::http::{check_url, origin};

const DEFAULT_SECONDS: u32 = 60;
const MAX_SECONDS: u32 = 240;
const MAX_ALLOWED: usize = 250;
const MAX_TOOL_NAME: usize = 128;
const AUTHORIZATION: &str = "Authorization";
/// The secret that `bearer_token` is short for.
const BEARER_TOKEN: &str = "bearer_token";
/// The protocol's own.
const RESERVED: [&str; 4] = ["accept", "content-type", "last-event-id", "cookie"];

/// The server that is asked for, with the values of its secrets. `generation` is a text that no
/// other has.
pub fn created(new: CreateMcpServer, generation: &str) -> Result<(McpServer, SecretValues), ApiError> {
    let (mut headers, mut secrets) = (new.headers.unwrap_or_default(), new.secrets.unwrap_or_default());
    add_bearer(new.bearer_token, &mut headers, &mut secrets)?;
    let server = checked(
        McpServer {
            name: new.name,
            url: new.url,
            headers,
            secrets: Vec::new(),
            timeout_seconds: new.timeout_seconds.unwrap_or(DEFAULT_SECONDS),
            allowed_tools: new.allowed_tools,
            generation: generation.to_owned(),
        },
        &[],
        &secrets,
    )?;
    Ok((server, secrets))
}

/// `now` with the change made to it, and the values of new secrets.
pub fn changed(now: McpServer, change: ChangeMcpServer) -> Result<(McpServer, SecretValues), ApiError> {
    let mut headers = change.headers.unwrap_or(now.headers);
    let mut secrets = change.secrets.unwrap_or_default();
    add_bearer(change.bearer_token, &mut headers, &mut secrets)?;
    let url = change.url.unwrap_or_else(|| now.url.clone());
    // What was told to one server is told to no other by a change of the address.
    let known = if origin(&url) == origin(&now.url) { now.secrets } else { Vec::new() };
    let server = McpServer {
        name: now.name,
        url,
        headers,
        secrets: Vec::new(),
        timeout_seconds: change.timeout_seconds.unwrap_or(now.timeout_seconds),
        allowed_tools: change.allowed_tools.unwrap_or(now.allowed_tools),
        generation: now.generation,
    };
    Ok((checked(server, &known, &secrets)?, secrets))
}

pub fn secrets_of(server: &McpServer) -> SecretHeaders<'_> {
    SecretHeaders {
        table: rows::TABLE,
        owner: &server.name,
        generation: &server.generation,
        origin: origin(&server.url),
        headers: &server.headers,
        secrets: &server.secrets,
    }
}

fn checked(mut server: McpServer, known: &[String], given: &SecretValues) -> Result<McpServer, ApiError> {
    nh_mcp::check_name(&server.name).map_err(|why| invalid("name", format!("`name` {why}")))?;
    check_url(&server.url)?;
    if server.url.contains('{') {
        return Err(invalid("url", "`url` has a brace; a server's address has no places in it".to_owned()));
    }
    let is_reserved = |name: &&String| {
        let name = name.to_ascii_lowercase();
        RESERVED.contains(&name.as_str()) || name.starts_with("mcp-")
    };
    if let Some(name) = server.headers.keys().find(is_reserved) {
        let at = format!("headers.{}", name.chars().take(80).collect::<String>());
        return Err(invalid(&at, format!("`{at}`: this one is written by the hub itself; leave it out")));
    }
    server.secrets = check_headers(&server.headers, known, Some(given))?;
    if !(1..=MAX_SECONDS).contains(&server.timeout_seconds) {
        let message =
            format!("`timeout_seconds` is {}; it must be 1 to {MAX_SECONDS}", server.timeout_seconds);
        return Err(invalid("timeout_seconds", message));
    }
    let allowed = server.allowed_tools.as_deref().unwrap_or_default();
    if allowed.len() > MAX_ALLOWED || allowed.iter().any(|name| name.len() > MAX_TOOL_NAME) {
        let message =
            format!("`allowed_tools` is at most {MAX_ALLOWED} names of at most {MAX_TOOL_NAME} bytes");
        return Err(invalid("allowed_tools", message));
    }
    Ok(server)
}

fn add_bearer(
    token: Option<SecretText>,
    headers: &mut BTreeMap<String, String>,
    secrets: &mut SecretValues,
) -> Result<(), ApiError> {
    let Some(SecretText(token)) = token else { return Ok(()) };
    let of_token = format!("Bearer {{secret:{BEARER_TOKEN}}}");
    let other =
        headers.iter().find(|(name, value)| name.eq_ignore_ascii_case(AUTHORIZATION) && **value != of_token);
    if other.is_some() || secrets.0.contains_key(BEARER_TOKEN) {
        let message =
            "`bearer_token` is short for a header `Authorization`, which is there too; give one of them";
        return Err(invalid("bearer_token", message.to_owned()));
    }
    headers.retain(|name, _| !name.eq_ignore_ascii_case(AUTHORIZATION));
    headers.insert(AUTHORIZATION.to_owned(), of_token);
    secrets.0.insert(BEARER_TOKEN.to_owned(), token);
    Ok(())
}
