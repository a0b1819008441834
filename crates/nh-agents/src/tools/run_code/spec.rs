use nh_types::Scope;
use nh_types::tool::Effects;
use serde_json::json;

use crate::tools::storage_write::{pathname_schema, shown_schema};
use crate::tools::tool::ToolSpec;

const MAX_CODE_CHARS: u64 = 100_000;
const MAX_FILES: usize = 20;
pub(super) const DEFAULT_SECONDS: u64 = 60;
pub(super) const MAX_SECONDS: u64 = 240;

pub(super) fn spec(name: &str, about: &str, example: &str) -> ToolSpec {
    let files = |about: &str| json!({"type": "array", "items": pathname_schema(), "maxItems": MAX_FILES, "description": about});
    ToolSpec {
        name: name.to_owned(),
        description: about.to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "code": {
                    "type": "string",
                    "description": "The code to run.",
                    "minLength": 1,
                    "maxLength": MAX_CODE_CHARS,
                    "examples": [example],
                },
                "files": files("Files of the storage that the code is to find under the same names."),
                "save": files("Files that the code writes and that are then stored under the same names."),
                "overwrite": {
                    "type": "boolean",
                    "default": false,
                    "description": "Whether files of the storage are replaced by those of `save`.",
                },
                "timeout_seconds": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": MAX_SECONDS,
                    "default": DEFAULT_SECONDS,
                    "description": "After so long the code is ended.",
                },
            },
            "required": ["code"],
            "additionalProperties": false,
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": {
                "exit_code": {"type": "integer"},
                "stdout": {"type": "string"},
                "stderr": {"type": "string"},
                "result": {"type": ["string", "null"], "description": "The value of the last expression."},
                "files": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": shown_schema(),
                        "required": ["pathname", "size", "content_type", "uploaded_at"],
                    },
                    "description": "What was stored: the files of `save`, and figures.",
                },
                "not_stored": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"name": {"type": "string"}, "reason": {"type": "string"}}},
                    "description": "What was to be stored and is not.",
                },
                "killed": {"type": ["string", "null"], "description": "The limit that ended it."},
                "state_reset": {"type": "boolean"},
                "truncated": {"type": "boolean"},
            },
            "required": ["exit_code", "stdout", "stderr", "result", "files", "not_stored", "killed", "state_reset", "truncated"],
            "additionalProperties": false,
        })),
        scopes: vec![Scope::ResourcesWrite],
        effects: Effects::ANY_IN_THE_HUB,
        // Room for a start, and for files.
        timeout_ms: (MAX_SECONDS + 60) * 1000,
        // What it does stays in the sandbox, which a crash of the hub ends; what it stores is
        // stored once.
        repeatable: true,
        unavailable: None,
    }
}
