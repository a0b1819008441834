//! The JSON Schema of [`Config`], as utoipa derives it from the structs.

use serde_json::{Value, json};
use utoipa::{PartialSchema, ToSchema};

use super::Config;

/// How deep references and wrappers are followed.
const MAX_DEPTH: usize = 16;

/// The schema of the whole configuration, with its parts as components.
pub struct Schema {
    document: Value,
}

impl Schema {
    pub fn of_config() -> Self {
        let mut parts = vec![(Config::name().into_owned(), Config::schema())];
        Config::schemas(&mut parts);
        let schemas: serde_json::Map<String, Value> = parts
            .into_iter()
            .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()))
            .collect();
        let root = format!("#/components/schemas/{}", Config::name());
        Self { document: json!({"$ref": root, "components": {"schemas": schemas}}) }
    }

    /// As a JSON Schema document (draft 2020-12).
    pub fn document(&self) -> &Value {
        &self.document
    }

    pub fn root(&self) -> &Value {
        self.resolve(&self.document)
    }

    /// What a field is for: its own comment, else that of its type.
    pub fn description<'a>(&'a self, schema: &'a Value) -> Option<&'a str> {
        let mut at = schema;
        for _ in 0..MAX_DEPTH {
            if let Some(text) = at.get("description").and_then(Value::as_str) {
                return Some(text);
            }
            at = self.next(at)?;
        }
        None
    }

    /// What `schema` says once its reference is followed and `null` is taken
    /// out of its choices.
    pub fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let mut at = schema;
        for _ in 0..MAX_DEPTH {
            match self.next(at) {
                Some(next) => at = next,
                None => return at,
            }
        }
        at
    }

    /// Behind a reference or an `Option`.
    fn next<'a>(&'a self, schema: &'a Value) -> Option<&'a Value> {
        self.referred(schema).or_else(|| only_choice(schema))
    }

    fn referred(&self, schema: &Value) -> Option<&Value> {
        let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
        self.document.pointer(pointer)
    }

    /// The schema of one field of an object, not yet resolved: its own
    /// description stands beside its `$ref`.
    pub fn field<'a>(&'a self, object: &'a Value, name: &str) -> Option<&'a Value> {
        self.resolve(object).get("properties")?.get(name)
    }

    /// The schema of an array's items, resolved.
    pub fn items<'a>(&'a self, array: &'a Value) -> Option<&'a Value> {
        Some(self.resolve(self.resolve(array).get("items")?))
    }

    /// The names of an object's fields, in the order of the struct.
    pub fn field_names<'a>(&'a self, object: &'a Value) -> impl Iterator<Item = &'a str> {
        let fields = self.resolve(object).get("properties").and_then(Value::as_object);
        fields.into_iter().flat_map(|fields| fields.keys().map(String::as_str))
    }

    /// Whether a value of this schema may be of the JSON type `word`.
    pub fn allows_type(&self, schema: &Value, word: &str) -> bool {
        match self.resolve(schema).get("type") {
            Some(Value::String(only)) => only == word,
            Some(Value::Array(words)) => words.iter().any(|one| one == word),
            _ => false,
        }
    }

    /// The values that an enumeration allows: listed together, or one by one
    /// where each has a comment of its own.
    pub fn words<'a>(&'a self, schema: &'a Value) -> Vec<&'a str> {
        let schema = self.resolve(schema);
        let alone = schema.get("const").into_iter();
        let listed = schema.get("enum").and_then(Value::as_array).into_iter().flatten();
        let choices = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
        let own = alone.chain(listed).filter_map(Value::as_str);
        own.chain(choices.flat_map(|choice| self.words(choice))).collect()
    }
}

/// The one choice that is not `null`, as `Option<…>` is written.
fn only_choice(schema: &Value) -> Option<&Value> {
    let choices = ["oneOf", "anyOf", "allOf"].iter().find_map(|word| schema.get(*word)?.as_array())?;
    let mut real = choices.iter().filter(|choice| choice.get("type") != Some(&json!("null")));
    let first = real.next()?;
    real.next().is_none().then_some(first)
}
