use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use nh_blobs::{Author, BlobError, Blobs, New};
use nh_store::blobs::{BlobRecord, Condition, PutDone};
use nh_store::{Idempotency, Once};
use nh_types::blob::{Access, Named, Pathname};
use nh_types::tool::Effects;
use nh_types::{Scope, WorkspaceId};
use serde_json::{Value, json};

use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};

/// Of one call. A tool's arguments are in the run's journal.
const MAX_CONTENT_CHARS: usize = 1_000_000;

/// Keeps a file for people, and for later runs.
pub(super) struct StorageWrite {
    spec: ToolSpec,
    blobs: Blobs,
}

impl StorageWrite {
    pub(super) fn new(blobs: Blobs) -> Self {
        Self { spec: spec(), blobs }
    }

    async fn write(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let given = call.arguments;
        let content = given["content"].as_str().unwrap_or_default();
        let bytes = match given["encoding"].as_str() {
            Some("base64") => STANDARD.decode(content).map_err(|error| {
                ToolError::new("invalid_arguments", format!("content: it is not base64 ({error})"))
            })?,
            _ => content.as_bytes().to_vec(),
        };
        let pathname = named(call.workspace_id, &given["pathname"])?;
        let is_replacing = given["overwrite"].as_bool().unwrap_or(false);
        let new = New {
            pathname: pathname.clone(),
            content_type: None,
            access: Access::Private,
            cache_seconds: None,
            expires_at: None,
            condition: if is_replacing { Condition::Any } else { Condition::Absent },
            size: Some(bytes.len() as u64),
        };
        let author = Author {
            workspace_id: call.workspace_id.clone(),
            created_by: call.created_by.to_owned(),
            run: Some((call.run_id, call.step_id.to_owned())),
        };
        // A step that is done again after a crash has the answer of the first time.
        let once = |sha256: &[u8; 32]| Idempotency {
            owner: format!("{}/run:{}", call.workspace_id, call.run_id),
            key: call.idempotency_key.to_owned(),
            body_hash: *sha256,
            at: call.clock.now(),
        };
        let bytes = stream::iter([Ok::<_, BlobError>(Bytes::from(bytes))]);
        let done = self.blobs.put(author, new, bytes, Some(once)).await.map_err(refused)?;
        let (Once::First(done) | Once::Replay(done)) = done else {
            return Err(ToolError::new("conflict", "the step came before with other content"));
        };
        match done {
            PutDone::Stored(blob) => {
                let text = format!("Stored {} ({} bytes, {}).", blob.pathname, blob.size, blob.content_type);
                Ok(ToolOutput::free(text, shown(call.workspace_id, &blob)))
            }
            PutDone::OverQuota { used, quota } => Err(ToolError::new(
                "quota_exceeded",
                format!("it does not fit: {used} of the {quota} bytes that the workspace may have are taken"),
            )),
            PutDone::Exists | PutDone::Changed => Err(ToolError::new(
                "blob_exists",
                format!(
                    "there is a file `{pathname}` already; choose another name, or set overwrite to replace it"
                ),
            )),
        }
    }
}

/// An object as the storage tools give it.
pub(super) fn shown(workspace_id: &WorkspaceId, blob: &BlobRecord) -> Value {
    json!({
        "pathname": blob.pathname.full(workspace_id),
        "size": blob.size,
        "content_type": blob.content_type,
        "uploaded_at": blob.uploaded_at,
    })
}

pub(super) fn shown_schema() -> Value {
    json!({
        "pathname": {"type": "string"},
        "size": {"type": "integer", "minimum": 0},
        "content_type": {"type": "string"},
        "uploaded_at": {"type": "string", "format": "date-time"},
    })
}

pub(super) fn named(workspace_id: &WorkspaceId, given: &Value) -> Result<Pathname, ToolError> {
    let given = given.as_str().unwrap_or_default();
    match Pathname::of(workspace_id, given) {
        Ok(Named::Here(pathname)) if !pathname.is_folder() => Ok(pathname),
        Ok(Named::Here(_)) => {
            Err(ToolError::new("invalid_arguments", "pathname: a file's name has no slash at its end"))
        }
        Ok(Named::Elsewhere) => Err(nothing(given)),
        Err(error) => Err(ToolError::new("invalid_arguments", error.to_string())),
    }
}

pub(super) fn nothing(name: &str) -> ToolError {
    ToolError::new("not_found", format!("there is no file `{name}`; storage_list tells which there are"))
}

pub(super) fn refused(error: BlobError) -> ToolError {
    match error {
        BlobError::Refused(error) => ToolError::new(error.code.as_str(), error.message),
        error => {
            tracing::warn!(%error, "a tool could not use the storage");
            ToolError::new("component_unavailable", "the storage cannot be used at present; try again later")
        }
    }
}

pub(super) fn pathname_schema() -> Value {
    json!({
        "type": "string",
        "description": "The file's name, with folders before it where there are some.",
        "minLength": 1,
        "maxLength": 1000,
        "examples": ["reports/2026/may.md"],
    })
}

impl Tool for StorageWrite {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.write(call))
    }
}

fn spec() -> ToolSpec {
    ToolSpec {
        name: "storage_write".to_owned(),
        description: "Stores a file that people can download and later runs can read: a report, a table, code, notes. \
                      Use it when asked to save, write or export something. Say the file's name in your answer."
            .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "pathname": pathname_schema(),
                "content": {
                    "type": "string",
                    "description": "The whole content.",
                    "maxLength": MAX_CONTENT_CHARS,
                },
                "encoding": {
                    "enum": ["text", "base64"],
                    "default": "text",
                    "description": "base64: the content is bytes, encoded.",
                },
                "overwrite": {
                    "type": "boolean",
                    "default": false,
                    "description": "Whether a file of that name is replaced.",
                },
            },
            "required": ["pathname", "content"],
            "additionalProperties": false,
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": shown_schema(),
            "required": ["pathname", "size", "content_type", "uploaded_at"],
            "additionalProperties": false,
        })),
        scopes: vec![Scope::StorageWrite],
        effects: Effects::REPLACES,
        timeout_ms: 60_000,
        repeatable: true,
        unavailable: None,
    }
}
