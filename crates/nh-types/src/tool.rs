//! `/v1/tools`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::mcp::McpTool;
use crate::patch::{not_null, present};
use crate::sandbox::CodeLanguage;
use crate::scope::Scope;

/// A tool as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ToolView {
    pub name: String,
    /// `builtin`, of one that the workspace registered `code` or `http`, and `mcp` of a server's.
    pub kind: String,
    pub description: String,
    /// JSON Schema, draft 2020-12, of type object.
    #[schema(value_type = Object)]
    pub input_schema: Value,
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Value>,
    /// What a run must hold for the tool to be offered to its agent.
    pub scopes: Vec<Scope>,
    pub effects: Effects,
    pub timeout_ms: u64,
    /// Whether a call that was in flight at a crash may be made again.
    pub repeatable: bool,
    pub available: bool,
    /// Why not, and the setting that would make it work.
    pub unavailable_reason: Option<String>,
    /// Of a tool of kind `code`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<CodeLanguage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Of a tool of kind `http`: what it asks. The values of its secrets are shown to nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<HttpMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    /// The names of its secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// Arguments that are the query although there is a body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<String>,
    /// The argument that is the whole body; absent: all that is left is its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Of a tool of kind `mcp`: the server that it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp_server: Option<String>,
}

/// What became of an OpenAPI document.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ImportedTools {
    pub tools: Vec<ToolView>,
    /// The operations that are no tools.
    pub skipped: Vec<SkippedOperation>,
}

/// What `POST /v1/tools` made.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum CreatedTools {
    One(Box<ToolView>),
    /// Of a document.
    Several(ImportedTools),
}

/// An operation that is no tool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SkippedOperation {
    /// Its method and path.
    pub operation: String,
    pub reason: String,
}

/// What a call may change: hints for people and for clients, as the annotations of the Model
/// Context Protocol are (specification 2026-07-28, `ToolAnnotations`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Effects {
    /// It changes nothing.
    pub read_only: bool,
    /// It may replace or delete what is there.
    pub destructive: bool,
    /// The same call again changes nothing more.
    pub idempotent: bool,
    /// It reaches what is outside of the hub.
    pub open_world: bool,
}

impl Effects {
    pub const READS: Self = Self { read_only: true, destructive: false, idempotent: true, open_world: false };
    pub const READS_OUTSIDE: Self = Self { open_world: true, ..Self::READS };
    pub const ADDS: Self = Self { read_only: false, idempotent: false, ..Self::READS };
    pub const REPLACES: Self = Self { read_only: false, destructive: true, ..Self::READS };
    pub const ANY_IN_THE_HUB: Self = Self { idempotent: false, ..Self::REPLACES };
    pub const ANY: Self = Self { open_world: true, ..Self::ANY_IN_THE_HUB };
}

/// A tool that a workspace registered, or one of a server that it did, as rows and runs keep it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OwnTool {
    Code(CodeTool),
    Http(HttpTool),
    Mcp(McpTool),
}

impl OwnTool {
    pub fn name(&self) -> &str {
        match self {
            Self::Code(tool) => &tool.name,
            Self::Http(tool) => &tool.name,
            Self::Mcp(tool) => &tool.name,
        }
    }
}

/// One request to a server, which is a tool of its workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpTool {
    pub name: String,
    pub description: String,
    pub method: HttpMethod,
    /// In its path and query `{argument}` is replaced.
    pub url: String,
    /// `{secret:NAME}` is replaced, when the request is made.
    pub headers: BTreeMap<String, String>,
    /// JSON Schema, draft 2020-12, of type object.
    pub input_schema: Value,
    /// Of the JSON that is answered.
    pub output_schema: Option<Value>,
    pub timeout_seconds: u32,
    /// Whether a request that was in flight at a crash may be made again.
    pub repeatable: bool,
    /// The names of its secrets, sorted; their values are kept sealed elsewhere.
    pub secrets: Vec<String>,
    /// Arguments that are the query although there is a body.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<String>,
    /// The argument that is the whole body; absent: all that is left is its fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Of one that is registered anew under its name another: it has its own secrets.
    pub generation: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
}

/// Values that are told to nobody again, by their names.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct SecretValues(pub BTreeMap<String, String>);

impl fmt::Debug for SecretValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A value that is told to nobody again.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

/// A function in Python or JavaScript that is a tool of its workspace. It runs in the
/// sandbox of the run that calls it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CodeTool {
    pub name: String,
    pub description: String,
    pub language: CodeLanguage,
    /// It defines a function `main`.
    pub code: String,
    /// JSON Schema, draft 2020-12, of type object.
    pub input_schema: Value,
    pub output_schema: Option<Value>,
    pub timeout_seconds: u32,
}

/// `POST /v1/tools`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "vat", "description": "Adds value-added tax to a price.", "kind": "code", "language": "python", "code": "def main(price, rate=0.19):\n    return round(price * (1 + rate), 2)", "input_schema": {"type": "object", "properties": {"price": {"type": "number"}, "rate": {"type": "number"}}, "required": ["price"]}}))]
pub struct CreateTool {
    /// 1 to 64 of letters, digits, `_` and `-`, a letter first; not that of a built-in tool.
    pub name: String,
    /// For the model: what it does, and when to use it. The tools of an `openapi` document have
    /// their own.
    #[serde(default)]
    pub description: String,
    /// `code`, a function that runs in a sandbox, `http`, a request to a server, or `openapi`, a
    /// document whose operations become tools of the kind `http`. Absent: `code`.
    #[serde(default)]
    pub kind: Option<String>,
    /// Of `code`: `python` or `nodejs`.
    #[serde(default)]
    pub language: Option<CodeLanguage>,
    /// Of `code`: it defines a function `main`. In Python it gets the arguments by their names, in
    /// JavaScript as one object, and may be asynchronous. What it returns goes back as JSON.
    #[serde(default)]
    pub code: Option<String>,
    /// Of `http`.
    #[serde(default)]
    pub method: Option<HttpMethod>,
    /// Of `http`: `{argument}` in its path and query is replaced; other arguments are the query
    /// of GET, HEAD and DELETE, and a JSON body otherwise. Of `openapi`: where the operations are,
    /// if not at the first of the document's own servers.
    #[serde(default)]
    #[schema(max_length = 2048)]
    pub url: Option<String>,
    /// Of `http`: `{secret:NAME}` is replaced.
    #[serde(default)]
    pub headers: Option<BTreeMap<String, String>>,
    /// Of `http`: what its headers name. Kept encrypted, and shown to nobody.
    #[serde(default)]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    pub secrets: Option<SecretValues>,
    /// Of `http`: whether a request that was in flight at a crash may be made again. Absent: as
    /// the method says (RFC 9110, section 9.2.2).
    #[serde(default)]
    pub repeatable: Option<bool>,
    /// Of `openapi`: a document of OpenAPI 3.0 or 3.1. The names of its tools begin with `name`.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub document: Option<Value>,
    /// JSON Schema, draft 2020-12, of type object. Absent: any arguments.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub input_schema: Option<Value>,
    /// What comes back has to fit it. With it a run of the tool has the value as its
    /// result, without it a text.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Value>,
    /// After so long a call is ended; absent: 60.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 240)]
    pub timeout_seconds: Option<u32>,
}

/// `PATCH /v1/tools/{name}`: what is absent stays as it is. Runs under way go on with what
/// they began with.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"description": "Adds German value-added tax to a price."}))]
pub struct ChangeTool {
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub description: Option<String>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = CodeLanguage, required = false)]
    pub language: Option<CodeLanguage>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub code: Option<String>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = HttpMethod, required = false)]
    pub method: Option<HttpMethod>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false)]
    pub url: Option<String>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    pub headers: Option<BTreeMap<String, String>>,
    /// Those that are named here are put in the place of those that there were; the others stay,
    /// as long as a header names them.
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = BTreeMap<String, String>, required = false)]
    pub secrets: Option<SecretValues>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required = false)]
    pub repeatable: Option<bool>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, required = false)]
    pub input_schema: Option<Value>,
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Option<Value>>,
    #[serde(default, deserialize_with = "not_null", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u32, required = false)]
    pub timeout_seconds: Option<u32>,
}

/// `GET /v1/tools`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ToolList {
    pub tools: Vec<ToolView>,
    pub next_cursor: Option<String>,
}
