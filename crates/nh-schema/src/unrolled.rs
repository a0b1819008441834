//! A schema with all that it refers to put in, so that what a check costs can be told from its
//! size. Without this a small schema whose parts refer to each other, twice each, is checked for
//! hours.

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

/// Of schemas and of values in them.
const MAX_NODES: usize = 20_000;
/// Of all names and texts.
const MAX_BYTES: usize = 1_000_000;
/// Schemas within schemas. What is further down is not looked at.
const MAX_DEPTH: usize = 64;
const MAX_PATTERNS: usize = 100;
/// How often what refers to itself is put into itself: as often as there is room. Further down
/// anything is taken.
const ROUNDS: [usize; 4] = [16, 4, 1, 0];

/// Keywords that hold one schema (JSON Schema 2020-12, "Applicators"; 2019-09 and before).
const ONE: [&str; 12] = [
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
    "unevaluatedProperties",
];
const MANY: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const NAMED: [&str; 4] = ["dependencies", "dependentSchemas", "patternProperties", "properties"];
/// What refers, or is referred to, and what only people read.
const LEFT_OUT: [&str; 17] = [
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "$ref",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];
/// What may refuse more where a part of it takes more.
const NOT_WHERE_CUT: [&str; 6] = ["if", "then", "else", "not", "unevaluatedItems", "unevaluatedProperties"];

/// A schema with all that it refers to put in.
pub struct Unrolled {
    pub schema: Value,
    /// The schemas and values in it: what a check costs at most, for each part of a value.
    pub nodes: usize,
    pub patterns: usize,
}

impl Unrolled {
    /// What one that cannot be used may have cost.
    pub const MAX_NODES: usize = MAX_NODES;
}

enum Fault {
    TooLarge,
    Unusable(String),
}

/// The schema, or why it cannot be used.
pub fn unrolled(schema: &Value) -> Result<Unrolled, String> {
    let revision = schema["$schema"].as_str().unwrap_or_default();
    let has_lone_refs = ["draft-04", "draft-06", "draft-07"].iter().any(|draft| revision.contains(draft));
    for rounds in ROUNDS {
        let mut unrolling = Unrolling {
            root: schema,
            has_lone_refs,
            rounds,
            under_way: Vec::new(),
            depth: 0,
            nodes: 0,
            bytes: 0,
            patterns: 0,
            cuts: 0,
        };
        match unrolling.schema(schema) {
            Ok(schema) => {
                let (nodes, patterns) = (unrolling.nodes, unrolling.patterns);
                return Ok(Unrolled { schema, nodes, patterns });
            }
            Err(Fault::Unusable(why)) => return Err(why),
            Err(Fault::TooLarge) => {}
        }
    }
    Err(format!(
        "with all that it refers to put in it has more than {MAX_NODES} parts, {MAX_BYTES} bytes or {MAX_PATTERNS} \
         patterns"
    ))
}

struct Unrolling<'s> {
    root: &'s Value,
    /// What stands beside a `$ref` is nothing, as before 2019-09.
    has_lone_refs: bool,
    rounds: usize,
    /// What the place that is being looked at is within.
    under_way: Vec<&'s str>,
    depth: usize,
    nodes: usize,
    bytes: usize,
    patterns: usize,
    /// Places where anything is taken instead of what was not put in.
    cuts: usize,
}

impl<'s> Unrolling<'s> {
    fn schema(&mut self, schema: &'s Value) -> Result<Value, Fault> {
        self.count(1, 0)?;
        let Value::Object(keywords) = schema else { return Ok(schema.clone()) };
        if self.depth == MAX_DEPTH {
            self.cuts += 1;
            return Ok(Value::Bool(true));
        }
        self.depth += 1;
        let unrolled = self.keywords(keywords);
        self.depth -= 1;
        unrolled
    }

    fn keywords(&mut self, keywords: &'s Map<String, Value>) -> Result<Value, Fault> {
        let cuts = self.cuts;
        let target = match keywords.get("$ref") {
            Some(Value::String(reference)) => Some(self.target(reference)?),
            _ => None,
        };
        if let Some(target) = target.as_ref().filter(|_| self.has_lone_refs) {
            return Ok(target.clone());
        }
        let mut unrolled = Map::new();
        let mut all: Vec<Value> = target.into_iter().collect();
        for (keyword, value) in keywords.iter().filter(|(keyword, _)| !LEFT_OUT.contains(&keyword.as_str())) {
            let cuts = self.cuts;
            let Some(value) = self.keyword(keyword, value)? else { continue };
            match keyword.as_str() {
                // Two may fit where one did.
                "oneOf" if self.cuts > cuts => all.push(Value::from_iter([("anyOf", value)])),
                "allOf" => all.extend(value.as_array().cloned().into_iter().flatten()),
                "contains" if self.cuts > cuts => {}
                _ => drop(unrolled.insert(keyword.clone(), value)),
            }
        }
        if self.cuts > cuts {
            unrolled.retain(|keyword, _| !NOT_WHERE_CUT.contains(&keyword.as_str()));
        }
        if !all.is_empty() {
            unrolled.insert("allOf".to_owned(), Value::Array(all));
        }
        Ok(Value::Object(unrolled))
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
                    self.count(0, name.len())?;
                    named.insert(
                        name.clone(),
                        if schema.is_array() { self.copy(schema)? } else { self.schema(schema)? },
                    );
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
                self.copy(value)?
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
            self.count(1, 0)?;
            self.cuts += 1;
            return Ok(Value::Bool(true));
        }
        self.under_way.push(reference);
        let unrolled = self.schema(target);
        self.under_way.pop();
        unrolled
    }

    fn copy(&mut self, value: &Value) -> Result<Value, Fault> {
        let (nodes, bytes) = size(value);
        self.count(nodes, bytes)?;
        Ok(value.clone())
    }

    fn count(&mut self, nodes: usize, bytes: usize) -> Result<(), Fault> {
        self.nodes += nodes;
        self.bytes += bytes;
        if self.nodes > MAX_NODES || self.bytes > MAX_BYTES { Err(Fault::TooLarge) } else { Ok(()) }
    }

    fn count_patterns(&mut self, patterns: usize) -> Result<(), Fault> {
        self.patterns += patterns;
        if self.patterns > MAX_PATTERNS { Err(Fault::TooLarge) } else { Ok(()) }
    }
}

/// Its parts, and the bytes of its names and texts.
fn size(value: &Value) -> (usize, usize) {
    let sum = |one: (usize, usize), other: (usize, usize)| (one.0 + other.0, one.1 + other.1);
    match value {
        Value::Array(items) => items.iter().map(size).fold((1, 0), sum),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, field)| sum((0, name.len()), size(field)));
            fields.fold((1, 0), sum)
        }
        Value::String(text) => (1, text.len()),
        _ => (1, 0),
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
    fn copies_are_counted_by_their_bytes() {
        let mut doubled = Map::new();
        for place in 0..11 {
            let next = json!({"$ref": format!("#/$defs/a{}", place + 1)});
            doubled.insert(format!("a{place}"), json!({"anyOf": [next, next]}));
        }
        let long = "x".repeat(60_000);
        let listed = json!({"a": vec![""; 20_000]});
        for last in [
            json!({"const": long}),
            json!({"properties": {long.clone(): true}}),
            json!({"dependencies": listed}),
        ] {
            doubled.insert("a11".to_owned(), last);
            assert!(unrolled(&json!({"$ref": "#/$defs/a0", "$defs": doubled})).is_err());
        }
        doubled.insert("a11".to_owned(), json!({"description": long, "type": "string"}));
        assert!(
            unrolled(&json!({"$ref": "#/$defs/a0", "$defs": doubled}))
                .is_ok_and(|small| small.nodes < 17_000)
        );
    }

    /// Each refers to all, so that there is room for few levels.
    #[test]
    fn what_is_not_looked_at_is_taken_under_every_keyword() {
        let any = json!([{"$ref": "#/$defs/and"}, {"$ref": "#/$defs/or"}, {"$ref": "#/$defs/not"}, {"$ref": "#/$defs/is"}]);
        let filter = json!({"type": "object", "oneOf": any, "$defs": {
            "and": {"properties": {"and": {"type": "array", "items": {"oneOf": any}}}, "required": ["and"]},
            "or": {"properties": {"or": {"type": "array", "items": {"oneOf": any}}}, "required": ["or"]},
            "not": {"properties": {"not": {"oneOf": any}}, "required": ["not"]},
            "is": {"properties": {"is": {"type": "string"}}, "required": ["is"]},
        }});
        let filter = compile(&filter).expect("a schema");
        let nested = |levels: usize| (0..levels).fold(json!({"is": "x"}), |inner, _| json!({"and": [inner]}));
        for levels in 0..30 {
            assert!(faults(&filter, &nested(levels)).is_empty(), "{levels}");
        }
        assert!(!faults(&filter, &json!({"and": [{"is": 7}]})).is_empty());
        let wide: Vec<_> = (0..8).map(|_| json!({"$ref": "#"})).collect();
        for keyword in ["not", "if", "contains"] {
            let schema = json!({"properties": {"a": {"anyOf": wide, "minLength": 1}}, keyword: {"$ref": "#/properties/a"},
                "then": false, "maxContains": 0, "unevaluatedProperties": false});
            let schema = compile(&schema).expect("a schema");
            let deep = (0..30).fold(json!({}), |inner, _| json!({"a": inner}));
            assert!(faults(&schema, &deep).len() <= 1, "{keyword}");
        }
        let shut = json!({"allOf": [{"properties": {"a": true}}], "unevaluatedProperties": false});
        assert_eq!(faults(&compile(&shut).expect("a schema"), &json!({"a": 1, "b": 2})).len(), 1);
        let lone = json!({"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"a":
            {"$ref": "#/definitions/b", "maxLength": 1}}, "definitions": {"b": {"type": "string"}}});
        assert!(faults(&compile(&lone).expect("a schema"), &json!({"a": "long"})).is_empty());
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
