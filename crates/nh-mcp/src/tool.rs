use nh_types::tool::Effects;
use rmcp::model::{CallToolResult, ContentBlock, ResourceContents, Tool, ToolAnnotations};
use serde_json::{Value, json};

/// What a server says that it offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub tools: Vec<OfferedTool>,
    /// Tools that were not taken, as there were too many.
    pub left_out: bool,
}

/// A tool in its server's own words. Nothing of it was checked.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedTool {
    pub name: String,
    pub title: Option<String>,
    pub description: String,
    /// Of type object, as it should be.
    pub input_schema: Value,
    pub output_schema: Option<Value>,
    pub effects: Effects,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    /// The server says that it failed.
    pub is_error: bool,
    /// What a model reads of it.
    pub text: String,
    /// The structured result, if it has one.
    pub structured: Option<Value>,
    /// The blocks, without what is in images, sound and other bytes.
    pub content: Value,
}

impl From<Tool> for OfferedTool {
    fn from(tool: Tool) -> Self {
        let annotated = tool.annotations.as_ref().and_then(|annotations| annotations.title.clone());
        Self {
            name: tool.name.into_owned(),
            title: tool.title.or(annotated),
            description: tool.description.unwrap_or_default().into_owned(),
            input_schema: Value::Object(tool.input_schema.as_ref().clone()),
            output_schema: tool.output_schema.map(|schema| Value::Object(schema.as_ref().clone())),
            effects: effects(&tool.annotations.unwrap_or_default()),
        }
    }
}

/// With the defaults of the specification (2026-07-28, `ToolAnnotations`).
fn effects(hints: &ToolAnnotations) -> Effects {
    let read_only = hints.read_only_hint.unwrap_or(false);
    Effects {
        read_only,
        destructive: !read_only && hints.destructive_hint.unwrap_or(true),
        idempotent: read_only || hints.idempotent_hint.unwrap_or(false),
        open_world: hints.open_world_hint.unwrap_or(true),
    }
}

impl From<CallToolResult> for Called {
    fn from(result: CallToolResult) -> Self {
        let (texts, blocks): (Vec<_>, Vec<_>) = result.content.iter().map(block).unzip();
        let structured = result.structured_content;
        let text = match (texts.is_empty(), &structured) {
            (true, Some(structured)) => structured.to_string(),
            _ => texts.join("\n\n"),
        };
        Self { is_error: result.is_error.unwrap_or(false), text, structured, content: Value::Array(blocks) }
    }
}

/// As a model reads it, and as programs do. Bytes are told of, not given: neither has a place
/// for them.
fn block(block: &ContentBlock) -> (String, Value) {
    match block {
        ContentBlock::Text(text) => (text.text.clone(), json!({"type": "text", "text": text.text})),
        ContentBlock::Image(image) => bytes("image", None, Some(&image.mime_type), &image.data),
        ContentBlock::Audio(audio) => bytes("audio", None, Some(&audio.mime_type), &audio.data),
        ContentBlock::ResourceLink(link) => (
            format!("[{}]({})", link.name, link.uri),
            json!({"type": "resource_link", "name": link.name, "uri": link.uri, "mimeType": link.mime_type}),
        ),
        ContentBlock::Resource(resource) => match &resource.resource {
            ResourceContents::TextResourceContents { uri, mime_type, text, .. } => (
                format!("{uri}:\n{text}"),
                json!({"type": "resource", "uri": uri, "mimeType": mime_type, "text": text}),
            ),
            ResourceContents::BlobResourceContents { uri, mime_type, blob, .. } => {
                bytes("resource", Some(uri), mime_type.as_deref(), blob)
            }
            _ => unknown(),
        },
        _ => unknown(),
    }
}

fn bytes(kind: &str, uri: Option<&str>, media_type: Option<&str>, base64: &str) -> (String, Value) {
    let size = base64.trim_end_matches('=').len() * 3 / 4;
    let media_type = media_type.unwrap_or("application/octet-stream");
    let mut block = json!({"type": kind, "mimeType": media_type, "bytes": size});
    if let Some(uri) = uri {
        block["uri"] = uri.into();
    }
    let at = uri.map(|uri| format!(" {uri}")).unwrap_or_default();
    (format!("[{kind}{at}, {media_type}, {size} bytes, not shown]"), block)
}

fn unknown() -> (String, Value) {
    ("[something of a kind that this hub does not know]".to_owned(), json!({"type": "unknown"}))
}
