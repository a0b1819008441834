//! A schema with all that it refers to put in, so that what a check costs can be told from its
//! size. Without this a small schema whose parts refer to each other, twice each, is checked for
//! hours.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Of schemas and of values in them.
const MAX_NODES: usize = 20_000;
/// Schemas within schemas. What is further down is not looked at.
const MAX_DEPTH: usize = 64;
const MAX_PATTERNS: usize = 200;
/// How often what refers to itself is put into itself: as often as there is room. Further down
/// anything is taken.
const ROUNDS: [usize; 4] = [16, 4, 1, 0];

/// Keywords that hold one schema (JSON Schema 2020-12, "Applicators"; 2019-09 and before).
const ONE: [&str; 11] = [
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
];
const MANY: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const NAMED: [&str; 4] = ["dependencies", "dependentSchemas", "patternProperties", "properties"];
/// What refers, or is referred to, or depends on what else was looked at, which may be cut.
const LEFT_OUT: [&str; 12] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "definitions",
    "unevaluatedItems",
    "unevaluatedProperties",
];

enum Fault {
    TooLarge,
    Unusable(String),
}

/// The schema, or why it cannot be used.
pub fn unrolled(schema: &Value) -> Result<Value, String> {
    for rounds in ROUNDS {
        let mut unrolling =
            Unrolling { root: schema, under_way: Vec::new(), rounds, depth: 0, nodes: 0, patterns: 0 };
        match unrolling.schema(schema) {
            Ok(unrolled) => return Ok(unrolled),
            Err(Fault::Unusable(why)) => return Err(why),
            Err(Fault::TooLarge) => {}
        }
    }
    Err(format!(
        "with all that it refers to put in it has more than {MAX_NODES} parts, or more than {MAX_PATTERNS} patterns"
    ))
}

struct Unrolling<'s> {
    root: &'s Value,
    /// What the place that is being looked at is within.
    under_way: Vec<&'s str>,
    rounds: usize,
    depth: usize,
    nodes: usize,
    patterns: usize,
}

impl<'s> Unrolling<'s> {
    fn schema(&mut self, schema: &'s Value) -> Result<Value, Fault> {
        self.count(1)?;
        let Value::Object(keywords) = schema else { return Ok(schema.clone()) };
        if self.depth == MAX_DEPTH {
            return Ok(Value::Bool(true));
        }
        self.depth += 1;
        let mut unrolled = Map::new();
        for (keyword, value) in keywords.iter().filter(|(keyword, _)| !LEFT_OUT.contains(&keyword.as_str())) {
            if let Some(value) = self.keyword(keyword, value)? {
                unrolled.insert(keyword.clone(), value);
            }
        }
        let target = match keywords.get("$ref") {
            Some(Value::String(reference)) => Some(self.target(reference)?),
            _ => None,
        };
        self.depth -= 1;
        Ok(match target {
            None => Value::Object(unrolled),
            Some(target) if unrolled.is_empty() => target,
            Some(target) => {
                let mut all = vec![target];
                all.extend(
                    unrolled.remove("allOf").and_then(|all| all.as_array().cloned()).into_iter().flatten(),
                );
                unrolled.insert("allOf".to_owned(), Value::Array(all));
                Value::Object(unrolled)
            }
        })
    }

    fn keyword(&mut self, keyword: &str, value: &'s Value) -> Result<Option<Value>, Fault> {
        let is_list = value.is_array();
        Ok(Some(match value {
            Value::Array(schemas) if MANY.contains(&keyword) || keyword == "items" => {
                Value::Array(schemas.iter().map(|schema| self.schema(schema)).collect::<Result<_, _>>()?)
            }
            Value::Object(schemas) if NAMED.contains(&keyword) => {
                if keyword == "patternProperties" {
                    self.count_patterns(schemas.len())?;
                }
                let mut named = Map::new();
                for (name, schema) in schemas {
                    let schema = if schema.is_array() { schema.clone() } else { self.schema(schema)? };
                    named.insert(name.clone(), schema);
                }
                Value::Object(named)
            }
            _ if ONE.contains(&keyword) && !is_list => self.schema(value)?,
            // Of another revision, or none.
            Value::String(revision) if keyword == "$schema" => {
                let is_known = revision.starts_with("http://json-schema.org/draft-0")
                    || revision.starts_with("https://json-schema.org/draft/20");
                return Ok(is_known.then(|| value.clone()));
            }
            _ => {
                self.count_patterns(usize::from(keyword == "pattern"))?;
                self.count(size(value))?;
                value.clone()
            }
        }))
    }

    fn target(&mut self, reference: &'s str) -> Result<Value, Fault> {
        let elsewhere = || {
            let shown: String = reference.chars().take(100).collect();
            Fault::Unusable(format!("it refers to `{shown}`, which is not in it"))
        };
        let pointer = reference.strip_prefix('#').ok_or_else(elsewhere)?;
        let pointer = percent_decode_str(pointer).decode_utf8().map_err(|_| elsewhere())?;
        let target = self.root.pointer(&pointer).ok_or_else(elsewhere)?;
        let times = self.under_way.iter().filter(|within| **within == reference).count();
        if times > self.rounds {
            self.count(1)?;
            return Ok(Value::Bool(true));
        }
        self.under_way.push(reference);
        let unrolled = self.schema(target);
        self.under_way.pop();
        unrolled
    }

    fn count(&mut self, nodes: usize) -> Result<(), Fault> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES { Err(Fault::TooLarge) } else { Ok(()) }
    }

    fn count_patterns(&mut self, patterns: usize) -> Result<(), Fault> {
        self.patterns += patterns;
        if self.patterns > MAX_PATTERNS { Err(Fault::TooLarge) } else { Ok(()) }
    }
}

fn size(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(fields) => fields.values().map(size).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{compile, faults};

    #[test]
    fn what_refers_to_itself_is_checked_as_deep_as_there_is_room() {
        let tree = json!({"type": "object", "$ref": "#/$defs/node", "$defs": {"node": {
            "properties": {"name": {"type": "string"}, "below": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            "required": ["name"],
        }}});
        let tree = compile(&tree).expect("a schema");
        let nested = |inner: Value| (0..10).fold(inner, |inner, _| json!({"name": "n", "below": [inner]}));
        assert!(faults(&tree, &nested(json!({"name": "leaf"}))).is_empty());
        assert_eq!(faults(&tree, &nested(json!({"name": 7}))).len(), 1);
        assert_eq!(faults(&tree, &nested(json!({}))).len(), 1);
    }

    #[test]
    fn bombs_are_refused_or_cost_little() {
        let mut doubled = Map::new();
        for place in 0..30 {
            let next = json!({"$ref": format!("#/$defs/a{}", place + 1)});
            doubled.insert(format!("a{place}"), json!({"anyOf": [next, next]}));
        }
        doubled.insert("a30".to_owned(), json!({"type": "string"}));
        let doubled = json!({"type": "object", "$ref": "#/$defs/a0", "$defs": doubled});
        assert!(compile(&doubled).is_err_and(|why| why.contains("20000 parts")));

        let branch = json!({"properties": {"a": {"$ref": "#"}}, "required": ["z"]});
        let branching = compile(&json!({"type": "object", "anyOf": [branch, branch]})).expect("a schema");
        let deep = (0..60).fold(json!({}), |inner, _| json!({"a": inner}));
        assert_eq!(faults(&branching, &deep).len(), 1);

        for circle in [json!({"$ref": "#"}), json!({"allOf": [{"$ref": "#"}], "type": "object"})] {
            assert!(faults(&compile(&circle).expect("a schema"), &json!({})).is_empty());
        }
        let patterns: Map<_, _> =
            (0..300).map(|n| (format!("p{n}"), json!({"pattern": format!("x{n}")}))).collect();
        assert!(compile(&json!({"properties": patterns})).is_err());
        assert!(compile(&json!({"pattern": "(x{1000}){1000}"})).is_err());
        let chain =
            (0..500).map(|n| (format!("a{n}"), json!({"items": {"$ref": format!("#/$defs/a{}", n + 1)}})));
        let mut chain: Map<_, _> = chain.collect();
        chain.insert("a500".to_owned(), json!({"type": "string"}));
        compile(&json!({"$ref": "#/$defs/a0", "$defs": chain})).expect("cut");
    }

    #[test]
    fn keywords_are_told_from_names_and_values() {
        let schema = json!({
            "properties": {"$ref": {"type": "integer"}, "enum": {"enum": [{"$ref": "#/nowhere"}]}},
            "$defs": {"unused": {"$ref": "https://elsewhere"}},
        });
        let schema = compile(&schema).expect("a schema");
        assert!(faults(&schema, &json!({"$ref": 1, "enum": {"$ref": "#/nowhere"}})).is_empty());
        assert_eq!(faults(&schema, &json!({"$ref": "x", "enum": 1})).len(), 2);
        for elsewhere in ["https://example.com/s", "#/nowhere", "other.json", "#anchor"] {
            assert!(compile(&json!({"$ref": elsewhere})).is_err_and(|why| why.contains("not in it")));
        }
        let escaped =
            json!({"$ref": "#/$defs/a~1b%20c", "minimum": 2, "$defs": {"a/b c": {"type": "integer"}}});
        let escaped = compile(&escaped).expect("a schema");
        assert_eq!((faults(&escaped, &json!(1)).len(), faults(&escaped, &json!("x")).len()), (1, 1));
        let tuple =
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]});
        assert_eq!(faults(&compile(&tuple).expect("a schema"), &json!([1])).len(), 1);
    }
}
