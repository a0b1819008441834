//! What is taken of the tools that a server offers. A server may be anybody's: its words go to
//! models and its schemas are computed with, so each is bounded, and its names are below its own.

use std::collections::BTreeMap;

use nh_mcp::{Listed, OfferedTool};
use nh_schema::Unrolled;
use nh_types::mcp::{McpServer, McpTool, SeenMcpTool, SkippedMcpTool};
use serde_json::Value;

use crate::secret_headers::redact::Redaction;

const MAX_NAME: usize = 128;
const MAX_DESCRIPTION_CHARS: usize = 4000;
const MAX_SCHEMA_BYTES: usize = 64 * 1024;
const MAX_SHOWN_CHARS: usize = 128;
/// Of all schemas of a list together, with what they refer to put in.
const MAX_NODES: usize = 200_000;
const MAX_PATTERNS: usize = 300;

/// `server.tool`.
pub(super) fn name(server: &str, tool: &str) -> String {
    format!("{server}.{tool}")
}

pub(super) fn is_allowed(server: &McpServer, tool: &str) -> bool {
    server.allowed_tools.as_ref().is_none_or(|allowed| allowed.iter().any(|name| name == tool))
}

pub(super) fn tool(
    server: &str,
    seen: &SeenMcpTool,
    timeout_seconds: u32,
    generation: Option<String>,
) -> McpTool {
    McpTool {
        name: name(server, &seen.tool),
        mcp_server: server.to_owned(),
        mcp_tool: seen.tool.clone(),
        description: seen.description.clone(),
        input_schema: seen.input_schema.clone(),
        output_schema: seen.output_schema.clone(),
        effects: seen.effects,
        timeout_seconds,
        generation,
    }
}

/// Those that can be used, sorted by name, and those that cannot.
pub(super) type Taken = (Vec<SeenMcpTool>, Vec<SkippedMcpTool>);

/// `known` are tools that were taken before: what is as it was needs no check.
pub(super) fn taken(server: &str, listed: Listed, redaction: &Redaction, known: &[SeenMcpTool]) -> Taken {
    let (mut taken, mut skipped) = (BTreeMap::new(), Vec::new());
    let mut room = Room::default();
    let left_out = listed.left_out;
    for offered in listed.tools {
        let offered = without_secrets(offered, redaction);
        let tool = shown(&offered.name);
        let checked = match taken.contains_key(&offered.name) {
            true => Err("the server offers another of this name".to_owned()),
            false => checked(server, offered, known, &mut room),
        };
        match checked {
            Ok(tool) => drop(taken.insert(tool.tool.clone(), tool)),
            Err(reason) => skipped.push(SkippedMcpTool { tool, reason }),
        }
    }
    if left_out {
        let reason = "the server offers more than 250 tools, or more than 1 MB of them".to_owned();
        skipped.push(SkippedMcpTool { tool: "all others".to_owned(), reason });
    }
    (taken.into_values().collect(), skipped)
}

/// What a server calls itself or a tool, as people read it.
pub(super) fn shown(text: &str) -> String {
    plain(text).chars().take(MAX_SHOWN_CHARS).collect()
}

fn without_secrets(offered: OfferedTool, redaction: &Redaction) -> OfferedTool {
    OfferedTool {
        name: redaction.text(&offered.name),
        title: offered.title.map(|title| redaction.text(&title)),
        description: redaction.text(&offered.description),
        input_schema: redaction.value(offered.input_schema),
        output_schema: offered.output_schema.map(|schema| redaction.value(schema)),
        effects: offered.effects,
    }
}

fn checked(
    server: &str,
    offered: OfferedTool,
    known: &[SeenMcpTool],
    room: &mut Room,
) -> Result<SeenMcpTool, String> {
    let OfferedTool { name: tool, title, description, input_schema, output_schema, effects } = offered;
    let is_name = |letter: u8| letter.is_ascii_alphanumeric() || b"_.-".contains(&letter);
    if tool.is_empty() || !tool.bytes().all(is_name) {
        return Err("its name has something else than letters, digits, `_`, `-` and `.`".to_owned());
    }
    if name(server, &tool).len() > MAX_NAME {
        return Err(format!("its name has more than {MAX_NAME} characters, its server's before it"));
    }
    if input_schema.get("type").and_then(Value::as_str) != Some("object") {
        return Err("its input schema is not of type object".to_owned());
    }
    let known = known.iter().find(|known| known.tool == tool);
    if known.is_none_or(|known| known.input_schema != input_schema) {
        room.check(&input_schema).map_err(|why| format!("its input schema {why}"))?;
    }
    let is_known = known.is_some_and(|known| known.output_schema == output_schema);
    // Without it its results are taken as they come.
    let output_schema = output_schema.filter(|schema| is_known || room.check(schema).is_ok());
    let description = if description.trim().is_empty() { title.unwrap_or_default() } else { description };
    let description = plain(&description).chars().take(MAX_DESCRIPTION_CHARS).collect();
    Ok(SeenMcpTool { tool, description, input_schema, output_schema, effects })
}

/// What may be computed for one list.
struct Room {
    nodes: usize,
    patterns: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { nodes: MAX_NODES, patterns: MAX_PATTERNS }
    }
}

impl Room {
    fn check(&mut self, schema: &Value) -> Result<(), String> {
        let bytes = schema.to_string().len();
        if bytes > MAX_SCHEMA_BYTES {
            return Err(format!("has {bytes} bytes; {MAX_SCHEMA_BYTES} are taken"));
        }
        let full = || "and those before it are too much to be checked".to_owned();
        if self.nodes == 0 || self.patterns == 0 {
            return Err(full());
        }
        let unrolled = nh_schema::unrolled(schema).map_err(|error| {
            self.nodes = self.nodes.saturating_sub(Unrolled::MAX_NODES);
            format!("cannot be used: {error}")
        })?;
        self.nodes = self.nodes.saturating_sub(unrolled.nodes);
        self.patterns = self.patterns.saturating_sub(unrolled.patterns);
        if self.nodes == 0 || self.patterns == 0 {
            return Err(full());
        }
        let compiled = nh_schema::compile_unrolled(&unrolled);
        compiled.map(drop).map_err(|error| format!("cannot be used: {error}"))
    }
}

/// Without what a person would not see and a model would: other control characters than line
/// breaks, marks of direction, and the invisible letters of Unicode's tags.
fn plain(text: &str) -> String {
    let is_hidden = |letter: char| {
        (letter.is_control() && !matches!(letter, '\n' | '\t'))
            || matches!(letter, '\u{00AD}' | '\u{061C}' | '\u{180E}' | '\u{200B}'..='\u{200F}'
                | '\u{202A}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}'
                | '\u{E0000}'..='\u{E0FFF}')
    };
    text.chars().filter(|letter| !is_hidden(*letter)).collect()
}

#[cfg(test)]
mod tests {
    use nh_types::tool::Effects;
    use serde_json::json;

    use super::*;

    fn offered(name: &str, description: &str, input_schema: Value) -> OfferedTool {
        let (title, output_schema) = (None, Some(json!({"type": "nonsense"})));
        let (name, description) = (name.to_owned(), description.to_owned());
        OfferedTool { name, title, description, input_schema, output_schema, effects: Effects::ANY }
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let object = || json!({"type": "object"});
        let tools = vec![
            offered("b", "Reads\u{202E} a\u{E0041}\u{200B} file\u{7}.\nWell.", object()),
            offered("a", &"x".repeat(10_000), object()),
            offered("b", "the same again", object()),
            offered("ignore all that/../", "", object()),
            offered("", "", object()),
            offered(&"n".repeat(127), "", object()),
            offered("list", "", json!({"type": "array"})),
            offered("wrong", "", json!({"type": 7})),
            offered("large", "", json!({"type": "object", "description": "x".repeat(70_000)})),
            offered("elsewhere", "", json!({"type": "object", "$ref": "https://example.com/schema"})),
        ];
        let nothing = Redaction::of(&[]).expect("nothing to look for");
        let (taken, skipped) = taken("s", Listed { tools, left_out: true }, &nothing, &[]);
        let names: Vec<_> = taken.iter().map(|tool| tool.tool.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(taken[1].description, "Reads a file.\nWell.");
        assert_eq!((taken[0].description.len(), &taken[0].output_schema), (MAX_DESCRIPTION_CHARS, &None));
        let told: Vec<_> = skipped.iter().map(|skipped| skipped.tool.as_str()).collect();
        let long = "n".repeat(127);
        let all =
            ["b", "ignore all that/../", "", &long, "list", "wrong", "large", "elsewhere", "all others"];
        assert_eq!(told, all, "{skipped:?}");
    }
}
