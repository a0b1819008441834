//! `neuralhub config reference`: the commented reference, printed from the
//! structs' doc comments and defaults.

use serde_json::Value;

use super::schema::Schema;
use super::{Config, environment};

/// The width that comments are wrapped to.
const WIDTH: usize = 88;

/// A `neuralhub.toml` with every setting, its default and what it means. All
/// settings are commented out, so it can be copied as it is.
pub fn reference() -> Result<String, anyhow::Error> {
    let schema = Schema::of_config();
    let defaults = serde_json::to_value(Config::default())?;
    let mut text = String::new();
    for section in schema.field_names(schema.root()) {
        let Some(field) = schema.field(schema.root(), section) else { continue };
        let is_list = schema.allows_type(field, "array");
        let shape = if is_list { schema.items(field).unwrap_or(&Value::Null) } else { schema.resolve(field) };
        if !text.is_empty() {
            text.push('\n');
        }
        let about = description(field).or_else(|| description(shape)).unwrap_or_default();
        comment(&mut text, about);
        text.push_str(&if is_list { format!("# [[{section}]]\n") } else { format!("[{section}]\n") });
        let path = if is_list { format!("{section}__0") } else { section.to_owned() };
        for name in schema.field_names(shape) {
            setting(&mut text, &schema, shape, name, &path, &defaults[section][name]);
        }
    }
    Ok(text)
}

/// One setting: what it means, its variable, its default.
fn setting(text: &mut String, schema: &Schema, section: &Value, name: &str, path: &str, default: &Value) {
    let Some(field) = schema.field(section, name) else { return };
    let about = description(field).or_else(|| description(schema.resolve(field))).unwrap_or_default();
    comment(text, about);
    let words = schema.words(field);
    if !words.is_empty() {
        comment(text, &format!("One of {}.", words.join(", ")));
    }
    let variable = format!("{}{path}__{name}", environment::PREFIX).to_ascii_uppercase();
    text.push_str(&format!("# Variable: {variable}\n"));
    text.push_str(&match default {
        Value::Null => format!("# {name} =\n"),
        Value::Array(items) if items.is_empty() => format!("# {name} = []\n"),
        value => format!("# {name} = {}\n", toml_value(value)),
    });
}

fn toml_value(value: &Value) -> String {
    toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default()
}

fn description(schema: &Value) -> Option<&str> {
    schema.get("description")?.as_str()
}

/// Wraps a doc comment's paragraphs into comment lines.
fn comment(text: &mut String, about: &str) {
    let paragraphs: Vec<&str> = about.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).collect();
    for (index, paragraph) in paragraphs.iter().enumerate() {
        if index > 0 {
            text.push_str("#\n");
        }
        let mut line = String::from("#");
        for word in paragraph.split_whitespace() {
            if line.len() + 1 + word.len() > WIDTH && line.len() > 1 {
                text.push_str(&line);
                text.push('\n');
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        text.push_str(&line);
        text.push('\n');
    }
}
