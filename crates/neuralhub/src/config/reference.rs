//! `neuralhub config reference`: the commented reference, printed from the
//! structs' doc comments and defaults.

use nh_mcp::LocalServer;
use nh_models::{ModelAlias, ModelSettings, ProviderSettings};
use serde_json::Value;

use super::schema::Schema;
use super::{Config, environment};

/// The width that comments are wrapped to.
const WIDTH: usize = 88;

/// A `neuralhub.toml` with every setting, its default and what it means. All
/// settings are commented out, so it can be copied as it is.
pub fn reference() -> Result<String, anyhow::Error> {
    let schema = Schema::of_config();
    let mut page = Page { schema: &schema, text: String::new() };
    let sections = serde_json::to_value(Config::default())?;
    for (name, defaults) in sections.as_object().into_iter().flatten() {
        let Some(field) = schema.field(schema.root(), name) else { continue };
        match name.as_str() {
            "providers" => page.list(name, field, &serde_json::to_value(ProviderSettings::default())?),
            "model_aliases" => page.list(name, field, &serde_json::to_value(an_alias())?),
            "mcp_servers" => page.list(name, field, &serde_json::to_value(a_local_server())?),
            _ => page.section(name, field, defaults),
        }
        if name == "providers" {
            let provider = schema.items(field).unwrap_or(&Value::Null);
            let models = schema.field(provider, "models").unwrap_or(&Value::Null);
            page.list("providers.models", models, &serde_json::to_value(ModelSettings::default())?);
        }
    }
    Ok(page.text)
}

/// What has no default is an example.
fn an_alias() -> ModelAlias {
    let models = ["openai/gpt-5-mini", "google/gemini-2.5-flash-lite"].map(str::to_owned).to_vec();
    ModelAlias { name: "fast".to_owned(), models, weights: None }
}

fn a_local_server() -> LocalServer {
    LocalServer { name: "files".to_owned(), command: "npx".to_owned(), ..LocalServer::default() }
}

struct Page<'a> {
    schema: &'a Schema,
    text: String,
}

impl Page<'_> {
    fn section(&mut self, name: &str, field: &Value, defaults: &Value) {
        self.heading(name, field);
        self.text.push_str(&format!("[{name}]\n"));
        self.settings(&name.to_ascii_uppercase(), self.schema.resolve(field), defaults);
    }

    /// A list of tables; its variables name the first item of each list.
    fn list(&mut self, name: &str, field: &Value, defaults: &Value) {
        self.heading(name, field);
        self.text.push_str(&format!("# [[{name}]]\n"));
        let path = format!("{}__0", name.to_ascii_uppercase().replace('.', "__0__"));
        self.settings(&path, self.schema.items(field).unwrap_or(&Value::Null), defaults);
    }

    fn heading(&mut self, name: &str, field: &Value) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        let about = self.schema.description(field).unwrap_or_default();
        let about = about.trim_start_matches(&format!("`[{name}]`: "));
        let mut letters = about.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        self.comment(&first.into_iter().chain(letters).collect::<String>());
    }

    fn settings(&mut self, path: &str, shape: &Value, defaults: &Value) {
        for (name, default) in defaults.as_object().into_iter().flatten() {
            let Some(field) = self.schema.field(shape, name) else { continue };
            if self.schema.items(field).is_some_and(|items| self.schema.allows_type(items, "object")) {
                continue; // a section of its own
            }
            self.comment(self.schema.description(field).unwrap_or_default());
            let words = self.schema.words(field);
            if !words.is_empty() {
                self.comment(&format!("One of {}.", words.join(", ")));
            }
            let variable = format!("{}{path}__{}", environment::PREFIX, name.to_ascii_uppercase());
            self.text.push_str(&format!("# Variable: {variable}\n"));
            self.text.push_str(&match default {
                Value::Null => format!("# {name} =\n"),
                value => format!("# {name} = {}\n", toml_value(value)),
            });
        }
    }

    /// Wraps a doc comment's paragraphs into comment lines.
    fn comment(&mut self, about: &str) {
        let paragraphs = about.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty());
        for (index, paragraph) in paragraphs.enumerate() {
            if index > 0 {
                self.text.push_str("#\n");
            }
            let mut line = String::from("#");
            for word in paragraph.split_whitespace() {
                if line.len() + 1 + word.len() > WIDTH && line.len() > 1 {
                    self.text.push_str(&line);
                    self.text.push('\n');
                    line = String::from("#");
                }
                line.push(' ');
                line.push_str(word);
            }
            self.text.push_str(&line);
            self.text.push('\n');
        }
    }
}

fn toml_value(value: &Value) -> String {
    toml::Value::try_from(value).map(|value| value.to_string()).unwrap_or_default()
}
