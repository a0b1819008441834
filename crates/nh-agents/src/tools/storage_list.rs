use futures_util::future::BoxFuture;
use nh_blobs::{Blobs, Listing};
use nh_types::blob::{Named, Pathname};
use nh_types::tool::Effects;
use nh_types::{Scope, WorkspaceId};
use serde_json::{Value, json};

use super::storage_write::{refused, shown, shown_schema};
use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};

const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 500;

/// Tells which files there are.
pub(super) struct StorageList {
    spec: ToolSpec,
    blobs: Blobs,
}

impl StorageList {
    pub(super) fn new(blobs: Blobs) -> Self {
        Self { spec: spec(), blobs }
    }

    async fn list(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let given = call.arguments;
        let folder = folder(call.workspace_id, given["folder"].as_str().unwrap_or_default())?;
        let own = format!("{}/", call.workspace_id);
        let after = given["after"].as_str().map(|name| name.strip_prefix(&own).unwrap_or(name).to_owned());
        let limit = given["limit"].as_u64().unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT) as u32;
        let is_folded = !given["recursive"].as_bool().unwrap_or(false);
        let found =
            self.blobs.list(call.workspace_id, &folder, after, limit, is_folded).await.map_err(refused)?;
        let value = json!({
            "files": found.blobs.iter().map(|blob| shown(call.workspace_id, blob)).collect::<Vec<_>>(),
            "folders": found.folders.iter().map(|name| format!("{}/{name}", call.workspace_id)).collect::<Vec<_>>(),
            "next_after": found.next,
        });
        Ok(ToolOutput::free(told(&found, &folder), value))
    }
}

/// With its slash; of the whole workspace nothing.
fn folder(workspace_id: &WorkspaceId, given: &str) -> Result<String, ToolError> {
    let name = given.trim_end_matches('/');
    if name.is_empty() || name == workspace_id.as_str() {
        return Ok(String::new());
    }
    match Pathname::of(workspace_id, name) {
        Ok(Named::Here(name)) => Ok(format!("{name}/")),
        Ok(Named::Elsewhere) => Err(ToolError::new("not_found", format!("there is no folder `{given}`"))),
        Err(error) => Err(ToolError::new("invalid_arguments", error.to_string())),
    }
}

fn told(found: &Listing, folder: &str) -> String {
    // Quoted, so that a name that holds lines looks like no other.
    let quoted = |name: &str| Value::from(name).to_string();
    let folders = found.folders.iter().map(|name| format!("- {}", quoted(name)));
    let files = found.blobs.iter().map(|blob| {
        format!(
            "- {} ({} bytes, {}, {})",
            quoted(blob.pathname.as_str()),
            blob.size,
            blob.content_type,
            blob.uploaded_at
        )
    });
    let mut lines: Vec<_> = folders.chain(files).collect();
    if lines.is_empty() {
        return match folder {
            "" => "There are no files.".to_owned(),
            _ => format!("There are no files in {}.", quoted(folder)),
        };
    }
    if let Some(next) = &found.next {
        lines.push(format!("There are more: list again with after {}.", quoted(next)));
    }
    lines.join("\n")
}

impl Tool for StorageList {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.list(call))
    }
}

fn spec() -> ToolSpec {
    let file = json!({
        "type": "object",
        "properties": shown_schema(),
        "required": ["pathname", "size", "content_type", "uploaded_at"],
        "additionalProperties": false,
    });
    ToolSpec {
        name: "storage_list".to_owned(),
        description:
            "Lists stored files and folders, by name. Use it before storage_read when you do not know the \
                      file's exact name."
                .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "folder": {
                    "type": "string",
                    "description": "The folder to look in; leave it out for all.",
                    "maxLength": 1000,
                    "examples": ["reports/2026/"],
                },
                "recursive": {
                    "type": "boolean",
                    "default": false,
                    "description": "Whether files in folders below are listed one by one.",
                },
                "limit": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
                "after": {
                    "type": "string",
                    "description": "The last name of the list before.",
                    "maxLength": 1000,
                },
            },
            "additionalProperties": false,
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": {
                "files": {"type": "array", "items": file},
                "folders": {"type": "array", "items": {"type": "string"}},
                "next_after": {"type": ["string", "null"], "description": "Null: there are no more."},
            },
            "required": ["files", "folders", "next_after"],
            "additionalProperties": false,
        })),
        scopes: vec![Scope::StorageRead],
        effects: Effects::READS,
        timeout_ms: 30_000,
        repeatable: true,
        unavailable: None,
    }
}
