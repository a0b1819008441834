//! `/v1/tools`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::patch::{not_null, present};
use crate::sandbox::CodeLanguage;
use crate::scope::Scope;

/// A tool as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ToolView {
    pub name: String,
    /// `builtin`, or `code`: one that the workspace registered.
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
    /// For the model: what it does, and when to use it.
    pub description: String,
    /// `code`, and nothing else yet.
    #[serde(default)]
    pub kind: Option<String>,
    /// `python` or `nodejs`.
    pub language: CodeLanguage,
    /// It defines a function `main`: in Python it gets the arguments by their names, in
    /// JavaScript as one object, and may be asynchronous. What it returns goes back as JSON.
    pub code: String,
    /// JSON Schema, draft 2020-12, of type object. Absent: any arguments.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub input_schema: Option<Value>,
    /// What is returned has to fit it. With it a run of the tool has the value as its
    /// result, without it the value as text.
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
