use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use nh_blobs::{BlobError, Blobs};
use nh_types::Scope;
use nh_types::tool::Effects;
use serde_json::json;

use super::storage_write::{named, nothing, pathname_schema, refused, shown, shown_schema};
use super::tool::{Tool, ToolCall, ToolError, ToolOutput, ToolSpec};

/// What a model takes in well at once.
const DEFAULT_BYTES: u64 = 32 * 1024;
const MAX_BYTES: u64 = 256 * 1024;

/// Reads a file, or a part of it.
pub(super) struct StorageRead {
    spec: ToolSpec,
    blobs: Blobs,
}

impl StorageRead {
    pub(super) fn new(blobs: Blobs) -> Self {
        Self { spec: spec(), blobs }
    }

    async fn read(&self, call: ToolCall<'_>) -> Result<ToolOutput, ToolError> {
        let given = call.arguments;
        let pathname = named(call.workspace_id, &given["pathname"])?;
        let opened = self.blobs.open(call.workspace_id, &pathname).await.map_err(refused)?;
        let opened = opened.ok_or_else(|| nothing(pathname.as_str()))?;
        let blob = opened.blob.clone();
        let most = given["max_bytes"].as_u64().unwrap_or(DEFAULT_BYTES).clamp(1, MAX_BYTES);
        let first = given["offset"].as_u64().unwrap_or_default().min(blob.size);
        let range = first..first.saturating_add(most).min(blob.size);
        let read = opened.read(range.clone()).await.map_err(refused)?.try_fold(
            Vec::new(),
            |mut bytes, more| async move {
                bytes.extend_from_slice(&more);
                Ok(bytes)
            },
        );
        let bytes = read.await.map_err(|error| refused(BlobError::Files(error)))?;
        let (content, encoding, range) = in_json(bytes, range, blob.size);
        let mut value = shown(call.workspace_id, &blob);
        value["content"] = content.as_str().into();
        value["encoding"] = encoding.into();
        value["next_offset"] = (range.end < blob.size).then_some(range.end).into();
        let rest = match range.end < blob.size {
            true => format!(
                "\n\n[bytes {} to {} of {}; the rest with offset {}]",
                range.start, range.end, blob.size, range.end
            ),
            false => String::new(),
        };
        let head = if encoding == "base64" {
            format!("[{}, as base64]\n", blob.content_type)
        } else {
            String::new()
        };
        Ok(ToolOutput::free(format!("{head}{content}{rest}"), value))
    }
}

/// Text where it is text, up to the last whole character; else base64.
fn in_json(mut bytes: Vec<u8>, range: Range<u64>, size: u64) -> (String, &'static str, Range<u64>) {
    let text_bytes = match std::str::from_utf8(&bytes) {
        Ok(text) => text.len(),
        // Cut within a character, not wrong.
        Err(error) if error.error_len().is_none() && range.end < size => error.valid_up_to(),
        Err(_) => 0,
    };
    if text_bytes > 0 || bytes.is_empty() {
        bytes.truncate(text_bytes);
        let end = range.start + text_bytes as u64;
        return (String::from_utf8_lossy(&bytes).into_owned(), "text", range.start..end);
    }
    (STANDARD.encode(&bytes), "base64", range)
}

impl Tool for StorageRead {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn call<'a>(&'a self, call: ToolCall<'a>) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.read(call))
    }
}

fn spec() -> ToolSpec {
    let mut properties = shown_schema();
    properties["content"] = json!({"type": "string"});
    properties["encoding"] = json!({"enum": ["text", "base64"]});
    properties["next_offset"] =
        json!({"type": ["integer", "null"], "description": "Where the rest begins; null: there is none."});
    ToolSpec {
        name: "storage_read".to_owned(),
        description: "Reads a stored file: what was uploaded, or written by an earlier run. Of a long one it gives the \
                      beginning, and with `offset` the next part."
            .to_owned(),
        input_schema: json!({
            "type": "object",
            "properties": {
                "pathname": pathname_schema(),
                "offset": {
                    "type": "integer",
                    "minimum": 0,
                    "default": 0,
                    "description": "How many bytes to pass over.",
                },
                "max_bytes": {"type": "integer", "minimum": 1, "maximum": MAX_BYTES, "default": DEFAULT_BYTES},
            },
            "required": ["pathname"],
            "additionalProperties": false,
        }),
        output_schema: Some(json!({
            "type": "object",
            "properties": properties,
            "required": ["pathname", "size", "content_type", "uploaded_at", "content", "encoding", "next_offset"],
            "additionalProperties": false,
        })),
        scopes: vec![Scope::StorageRead],
        effects: Effects::READS,
        timeout_ms: 60_000,
        repeatable: true,
        unavailable: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_bytes_are_encoded() {
        let told = |bytes: &[u8], size: u64| in_json(bytes.to_vec(), 10..10 + bytes.len() as u64, size);
        assert_eq!(told("aä".as_bytes(), 13), ("aä".to_owned(), "text", 10..13));
        assert_eq!(told(&"aä".as_bytes()[..2], 13), ("a".to_owned(), "text", 10..11));
        assert_eq!(told(b"a\xff", 12), ("Yf8=".to_owned(), "base64", 10..12));
        assert_eq!(told(&"aä".as_bytes()[..2], 12), ("YcM=".to_owned(), "base64", 10..12));
        assert_eq!(told(b"", 10), (String::new(), "text", 10..10));
    }
}
