//! `NEURALHUB__SECTION__KEY`: every setting as a variable.

use serde_json::{Map, Value};

use super::Fault;
use super::check::{self, Step};
use super::schema::Schema;

pub(super) const PREFIX: &str = "NEURALHUB__";

/// A list in a variable may name items up to this one.
const MAX_ITEMS: usize = 64;

/// Puts the variables over the tree; answers what was wrong with them.
/// A number in a path is an item of a list: `NEURALHUB__PROVIDERS__0__NAME`.
pub(super) fn overlay(tree: &mut Value, variables: &[(String, String)], schema: &Schema) -> Vec<Fault> {
    let mut own: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
    own.sort();
    own.into_iter().filter_map(|(name, text)| put(tree, name, text, schema).err()).collect()
}

fn put(tree: &mut Value, name: &str, text: &str, schema: &Schema) -> Result<(), Fault> {
    let fault = |message: String| Fault { at: name.to_owned(), message };
    let (steps, shape) = place(name.trim_start_matches(PREFIX), schema).map_err(fault)?;
    let value = typed(text, shape, schema).map_err(fault)?;
    let mut at = tree;
    for step in &steps {
        at = match step {
            Step::Field(name) => field(at, name),
            Step::Item(index) => item(at, *index)
                .ok_or_else(|| fault(format!("item {index} would leave a gap in the list")))?,
        };
    }
    *at = value;
    Ok(())
}

/// Where a variable's value belongs, and its schema.
fn place<'a>(name: &str, schema: &'a Schema) -> Result<(Vec<Step>, &'a Value), String> {
    let mut shape = schema.root();
    let mut steps = Vec::new();
    for part in name.to_ascii_lowercase().split("__") {
        if schema.allows_type(shape, "array") {
            let index = part.parse().ok().filter(|index| *index < MAX_ITEMS);
            let index = index.ok_or_else(|| format!("`{part}` should be the number of an item, from 0"))?;
            shape = schema.items(shape).unwrap_or(&Value::Null);
            steps.push(Step::Item(index));
        } else {
            let field = schema.field(shape, part).ok_or_else(|| check::unknown(schema, shape, part))?;
            shape = schema.resolve(field);
            steps.push(Step::Field(part.to_owned()));
        }
    }
    Ok((steps, shape))
}

fn field<'a>(at: &'a mut Value, name: &str) -> &'a mut Value {
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    &mut at[name]
}

fn item(at: &mut Value, index: usize) -> Option<&mut Value> {
    if !at.is_array() {
        *at = Value::Array(Vec::new());
    }
    let list = at.as_array_mut()?;
    if list.len() == index {
        list.push(Value::Null);
    }
    list.get_mut(index)
}

/// The text as the schema's type: a variable has no types of its own.
fn typed(text: &str, shape: &Value, schema: &Schema) -> Result<Value, String> {
    let is = |word| schema.allows_type(shape, word);
    if is("array") || is("object") {
        return list_or_table(text, is("array"));
    }
    if is("boolean") || is("integer") || is("number") {
        let value = text.trim().parse::<Value>().ok().filter(|value| value.is_boolean() || value.is_number());
        return value.ok_or_else(|| format!("`{text}` should be {}", check::expected(schema, shape)));
    }
    Ok(Value::String(text.to_owned()))
}

/// TOML, or for a list of texts simply `a,b,c`.
fn list_or_table(text: &str, is_list: bool) -> Result<Value, String> {
    let parsed = format!("value = {text}").parse::<toml::Table>().ok();
    let value = parsed.and_then(|mut table| table.remove("value")).map(serde_json::to_value);
    match value {
        Some(Ok(value)) if value.is_array() || value.is_object() => Ok(value),
        _ if is_list => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            Ok(parts.map(|part| Value::String(part.to_owned())).collect())
        }
        _ => Err("should be a TOML table, such as {name = \"x\"}".to_owned()),
    }
}
