//! `/v1/mcp/servers`: servers of the Model Context Protocol whose tools a workspace uses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::patch::{not_null, present};
use crate::tool::{Effects, SecretText, SecretValues};

/// A remote server that a workspace registered, as its row keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct McpServer {
    pub name: String,
    pub url: String,
    /// `{secret:NAME}` is replaced, when a request is made.
    pub headers: BTreeMap<String, String>,
    /// The names of its secrets, sorted; their values are kept sealed elsewhere.
    pub secrets: Vec<String>,
    pub timeout_seconds: u32,
    /// The tools that are taken, by the server's own names. None: all.
    pub allowed_tools: Option<Vec<String>>,
    /// Of one that is registered anew under its name another: it has its own secrets, and is not
    /// called by runs of before.
    pub generation: String,
}

/// What was last seen of a server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct McpSeen {
    /// Why it cannot be used. None: it can.
    pub fault: Option<String>,
    /// What it calls itself.
    pub server: Option<String>,
    /// The revision of the protocol that is spoken.
    pub protocol_version: Option<String>,
    /// Those of the last time that it could be used, sorted by name.
    pub tools: Vec<SeenMcpTool>,
    pub skipped: Vec<SkippedMcpTool>,
}

/// A tool that a server offers, and that can be used.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenMcpTool {
    /// As the server calls it.
    pub tool: String,
    pub description: String,
    /// JSON Schema, of type object.
    pub input_schema: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_schema: Option<Value>,
    pub effects: Effects,
}

/// A tool of a server, as runs keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct McpTool {
    /// `server.tool`.
    pub name: String,
    pub mcp_server: String,
    /// The server's own name for it.
    pub mcp_tool: String,
    pub description: String,
    /// JSON Schema, of type object.
    pub input_schema: Value,
    pub output_schema: Option<Value>,
    pub effects: Effects,
    pub timeout_seconds: u32,
    /// [`McpServer::generation`]; None of a server in the configuration.
    pub generation: Option<String>,
}

/// A tool that a server offers and that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkippedMcpTool {
    /// As the server calls it.
    pub tool: String,
    pub reason: String,
}

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum McpServerKind {
    /// Registered by its URL.
    Remote,
    /// A program in the hub's configuration, which nobody changes over the API.
    Local,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum McpServerStatus {
    /// It was not asked yet.
    Pending,
    Available,
    /// Its tools cannot be called now; it is asked again.
    Unavailable,
}

/// A server as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct McpServerView {
    pub name: String,
    pub kind: McpServerKind,
    pub status: McpServerStatus,
    /// Why it is unavailable.
    pub unavailable_reason: Option<String>,
    /// Of a remote one. The values of its secrets are shown to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    /// The names of its secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_tools: Option<Vec<String>>,
    pub timeout_seconds: u32,
    /// What it calls itself.
    pub server: Option<String>,
    /// The revision of the protocol that is spoken.
    pub protocol_version: Option<String>,
    /// The names of its tools; `GET /v1/tools` has all of them.
    pub tools: Vec<String>,
    /// Those that cannot be used.
    pub skipped: Vec<SkippedMcpTool>,
    /// When it was last asked for its tools.
    pub checked_at: Option<Timestamp>,
    /// When it is asked next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_check_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

/// `POST /v1/mcp/servers`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "tickets", "url": "https://mcp.example.com/mcp", "bearer_token": "a-token-of-yours"}))]
pub struct CreateMcpServer {
    /// What its tools' names begin with: 1 to 32 of a-z, 0-9 and `-`, a letter first.
    pub name: String,
    /// Where it speaks streamable HTTP.
    #[schema(max_length = 2048)]
    pub url: String,
    /// Kept encrypted, and shown to nobody: short for a header `Authorization: Bearer …` with a
    /// secret in it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub bearer_token: Option<SecretText>,
    /// `{secret:NAME}` is replaced.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, String>>,
    /// What its headers name. Kept encrypted, and shown to nobody.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub secrets: Option<SecretValues>,
    /// The tools that are taken, by the server's own names. Absent: all.
    #[serde(default)]
    pub allowed_tools: Option<Vec<String>>,
    /// After so long a call is ended; absent: 60.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 240)]
    pub timeout_seconds: Option<u32>,
}

/// `PATCH /v1/mcp/servers/{name}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"timeout_seconds": 120}))]
pub struct ChangeMcpServer {
    /// At another origin (scheme, host, port) the secrets have to be given anew.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub url: Option<String>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub bearer_token: Option<SecretText>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    pub headers: Option<BTreeMap<String, String>>,
    /// Those that are named here are put in the place of those that there were; the others stay,
    /// as long as a header names them.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    pub secrets: Option<SecretValues>,
    /// null: all.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub allowed_tools: Option<Option<Vec<String>>>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, required = false)]
    pub timeout_seconds: Option<u32>,
}

/// `GET /v1/mcp/servers`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct McpServerList {
    pub servers: Vec<McpServerView>,
    pub next_cursor: Option<String>,
}
