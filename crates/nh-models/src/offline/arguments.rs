//! Fills a tool's arguments from the words of a clause, so that they fit the
//! tool's schema; or says what is missing.

use serde_json::{Map, Value};

use super::arithmetic;
use super::places;
use super::spans;
use super::toolbox::{Role, Tool, required, text};
use super::values::{self, Taken};

/// Schemas nested deeper than this are not filled.
const MAX_DEPTH: usize = 4;

/// Arguments for `tool` out of `clause`. `source` is what an earlier call
/// brought, for a clause that refers to it. The error is what to tell the user.
pub(super) fn fill(tool: &Tool, clause: &str, source: Option<&str>) -> Result<Map<String, Value>, String> {
    let validator =
        tool.validator().ok_or_else(|| format!("the schema of `{}` cannot be read", tool.name))?;
    let filler = Filler { tool, clause, source };
    let mut taken = Taken::default();
    let (arguments, missing) = filler.object(&tool.schema, &mut taken, 0);
    if let Some(name) = missing.first() {
        return Err(format!("`{}` needs `{name}`, which I cannot find in it", tool.name));
    }
    let whole = Value::Object(arguments);
    if validator.is_valid(&whole) {
        return Ok(into_map(whole));
    }
    // What was optional may have been too much.
    let names = required(&tool.schema);
    let mut least = into_map(whole.clone());
    least.retain(|name, _| names.contains(name));
    let least = Value::Object(least);
    if validator.is_valid(&least) {
        return Ok(into_map(least));
    }
    let fault = validator.iter_errors(&whole).next().map(|error| error.to_string()).unwrap_or_default();
    let fault: String = fault.chars().take(200).collect();
    Err(format!("what I find in it does not fit the arguments of `{}` ({fault})", tool.name))
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

struct Filler<'a> {
    tool: &'a Tool,
    clause: &'a str,
    source: Option<&'a str>,
}

impl Filler<'_> {
    /// The object, and the names of required properties that found no value.
    fn object(&self, schema: &Value, taken: &mut Taken, depth: usize) -> (Map<String, Value>, Vec<String>) {
        let mut object = Map::new();
        let mut missing = Vec::new();
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return (object, required(schema));
        };
        let needed = required(schema);
        let (first, second): (Vec<_>, Vec<_>) =
            properties.iter().partition(|(name, _)| needed.contains(name));
        for (is_required, (name, property)) in
            first.into_iter().map(|one| (true, one)).chain(second.into_iter().map(|one| (false, one)))
        {
            match self.value(name, property, is_required, taken, depth) {
                Some(value) => {
                    object.insert(name.clone(), value);
                }
                None if is_required => missing.push(name.clone()),
                None => {}
            }
        }
        missing.extend(needed.into_iter().filter(|name| !properties.contains_key(name)));
        (object, missing)
    }

    fn value(
        &self,
        name: &str,
        schema: &Value,
        is_required: bool,
        taken: &mut Taken,
        depth: usize,
    ) -> Option<Value> {
        let schema = one_of_several(schema);
        if let Some(constant) = schema.get("const") {
            return is_required.then(|| constant.clone());
        }
        if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
            let is_said = |choice: &Value| is_required || schema.get("default") != Some(choice);
            return values::chosen(self.clause, choices).filter(is_said).or_else(|| {
                let only = if choices.len() == 1 { choices.first() } else { None };
                if is_required { schema.get("default").or(only).cloned() } else { None }
            });
        }
        let found = match type_of(schema) {
            "string" => self.string(name, schema, is_required, taken).map(Value::from),
            kind @ ("integer" | "number") => {
                values::number(self.clause, name, schema, kind == "integer", is_required, taken)
            }
            "boolean" => values::boolean(self.clause, name),
            "array" => self.array(name, schema, is_required, taken, depth),
            "object" if depth < MAX_DEPTH => {
                let (object, missing) = self.object(schema, taken, depth + 1);
                (missing.is_empty() && (is_required || !object.is_empty())).then_some(Value::Object(object))
            }
            "null" => is_required.then_some(Value::Null),
            _ => None,
        };
        found.or_else(|| {
            let fallback = || {
                schema
                    .get("default")
                    .cloned()
                    .or_else(|| (type_of(schema) == "boolean").then_some(Value::Bool(false)))
            };
            if is_required { fallback() } else { None }
        })
    }

    fn string(&self, name: &str, schema: &Value, is_required: bool, taken: &mut Taken) -> Option<String> {
        let found = match self.tool.role_of(name) {
            Role::Url => self.url(taken),
            Role::Expression => self.expression(),
            Role::Zone => places::find(self.clause)
                .map(|place| place.zone)
                .or_else(|| is_required.then(|| "UTC".to_owned())),
            Role::Mail => taken.first_new(spans::mail_addresses(self.clause)),
            role => self.text_value(name, role, schema, is_required, taken),
        }?;
        let bounded = match schema.get("maxLength").and_then(Value::as_u64) {
            Some(most) => found.chars().take(usize::try_from(most).unwrap_or(usize::MAX)).collect(),
            None => found,
        };
        (!bounded.is_empty()).then_some(bounded)
    }

    /// A URL of the clause, else of what the earlier call brought.
    fn url(&self, taken: &mut Taken) -> Option<String> {
        let of = |text: &str| spans::urls(text).into_iter().map(|(_, url)| url).collect::<Vec<_>>();
        taken.first_new(of(self.clause)).or_else(|| taken.first_new(of(self.source?)))
    }

    fn expression(&self) -> Option<String> {
        let clause = match self.source {
            Some(source) => values::with_number_for_pronoun(self.clause, source)?,
            None => self.clause.to_owned(),
        };
        arithmetic::find(&clause, &spans::masks(&clause)).map(|expression| expression.text)
    }

    fn text_value(
        &self,
        name: &str,
        role: Role,
        schema: &Value,
        is_required: bool,
        taken: &mut Taken,
    ) -> Option<String> {
        match text(schema, "format") {
            "date" => return values::date(self.clause),
            "date-time" => return values::date_time(self.clause),
            "uuid" => return values::uuid(self.clause),
            _ => {}
        }
        let text = self.free_text(name, role, is_required, taken);
        let Some(pattern) = schema.get("pattern") else { return text };
        if text.as_ref().is_some_and(|text| values::matches(text, pattern)) {
            return text;
        }
        if is_required { values::matching(self.clause, pattern) } else { None }
    }

    fn free_text(&self, name: &str, role: Role, is_required: bool, taken: &mut Taken) -> Option<String> {
        let named = values::after_name(self.clause, name);
        let quoted = || spans::quotations(self.clause).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        match role {
            Role::Place => {
                places::find(self.clause).map(|place| self.clause[place.start..place.end].to_owned())
            }
            _ if !is_required => named,
            Role::Query => taken.first_new(quoted()).or_else(|| values::subject(self.clause, self.tool)),
            _ => named
                .or_else(|| taken.first_new(quoted()))
                .or_else(|| self.source.map(|source| source.trim().to_owned()))
                .or_else(|| taken.once("subject", || values::subject(self.clause, self.tool))),
        }
    }

    /// One item for each value that the clause holds.
    fn array(
        &self,
        name: &str,
        schema: &Value,
        is_required: bool,
        taken: &mut Taken,
        depth: usize,
    ) -> Option<Value> {
        let items = schema.get("items").unwrap_or(&Value::Null);
        if !is_required {
            // Of what may be absent, the one that is said by its name.
            let named = (type_of(items) == "string").then(|| values::after_name(self.clause, name)).flatten();
            return named.map(|one| Value::Array(vec![one.into()]));
        }
        if depth >= MAX_DEPTH {
            return None;
        }
        let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(32).min(32);
        let mut found = Vec::new();
        while (found.len() as u64) < most {
            let Some(value) = self.value(name, items, true, taken, depth + 1) else { break };
            if found.contains(&value) {
                break;
            }
            found.push(value);
        }
        (!found.is_empty()).then_some(Value::Array(found))
    }
}

/// `anyOf` and `oneOf` mostly say "this or null": the first that is not null.
fn one_of_several(schema: &Value) -> &Value {
    let several = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    several
        .and_then(|several| several.iter().find(|one| one.get("type").is_none_or(|kind| kind != "null")))
        .unwrap_or(schema)
}

/// A schema without a type takes anything: a text.
fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null")
        }
        _ if schema.get("properties").is_some() => "object",
        _ => "string",
    }
}
