//! `GET /v1/tools`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::scope::Scope;

/// A tool as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ToolView {
    pub name: String,
    /// `builtin` in this version.
    pub kind: String,
    pub description: String,
    /// JSON Schema, draft 2020-12, of type object.
    #[schema(value_type = Object)]
    pub input_schema: Value,
    #[schema(value_type = Option<Object>)]
    pub output_schema: Option<Value>,
    /// What a run must hold for the tool to be offered to its agent.
    pub scopes: Vec<Scope>,
    pub timeout_ms: u64,
    /// Whether a call that was in flight at a crash may be made again.
    pub repeatable: bool,
    pub available: bool,
    /// Why not, and the setting that would make it work.
    pub unavailable_reason: Option<String>,
}

/// `GET /v1/tools`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ToolList {
    pub tools: Vec<ToolView>,
    pub next_cursor: Option<String>,
}
