//! The tools of a request, and what their names, descriptions and schemas say
//! they are for.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use jsonschema::Validator;
use moka::sync::Cache;
use serde_json::{Map, Value};

use super::values;
use super::words::{identifier_words, kindred, stem, stems};

/// What a property wants, as far as its words tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Url,
    Expression,
    /// A time zone.
    Zone,
    /// What to search for.
    Query,
    Place,
    Mail,
    Other,
}

/// A tool that may be called.
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) schema: Value,
    name_stems: Vec<String>,
    description_stems: Vec<String>,
    property_stems: Vec<String>,
    roles: BTreeMap<String, Role>,
    required: Vec<String>,
    /// Of the schema, once it was asked for; None when there can be none.
    validator: OnceLock<Option<Arc<Validator>>>,
    has_patterns: bool,
}

/// The tools of recent requests, by what described them: an agent offers the same ones
/// at every turn, and reading them is most of the work of a turn.
pub(crate) struct Toolbox(Cache<Value, Arc<Tool>>);

/// Of all kept tools as JSON. Read, they take about twenty times as much.
const MAX_KEPT_BYTES: u64 = 512 * 1024;

impl Toolbox {
    pub(crate) fn new() -> Self {
        let weigh = |offer: &Value, _: &Arc<Tool>| u32::try_from(offer.to_string().len()).unwrap_or(u32::MAX);
        Self(Cache::builder().weigher(weigh).max_capacity(MAX_KEPT_BYTES).build())
    }

    /// The tool that `offer` describes, if it was read before.
    pub(super) fn find(&self, offer: &Value) -> Option<Arc<Tool>> {
        self.0.get(offer)
    }

    pub(super) fn keep(&self, offer: &Value, tool: &Arc<Tool>) {
        self.0.insert(offer.clone(), tool.clone());
    }
}

/// A schema within this many levels is looked at.
const MAX_DESCRIPTION_CHARS: usize = 4_000;

impl Tool {
    /// From OpenAI's `{"type": "function", "function": {name, description,
    /// parameters}}`.
    pub(super) fn read(offer: &Value) -> Option<Self> {
        let function = offer.get("function")?;
        let name = function.get("name")?.as_str()?.to_owned();
        let description: String = text(function, "description").chars().take(MAX_DESCRIPTION_CHARS).collect();
        let schema = match function.get("parameters") {
            Some(schema @ Value::Object(_)) => schema.clone(),
            _ => Value::Object(Map::from_iter([("type".to_owned(), Value::from("object"))])),
        };
        let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let required = required(&schema);
        let roles = properties
            .iter()
            .map(|(name, property)| (name.clone(), role(name, property, &description)))
            .collect();
        let mut property_stems: Vec<String> = properties
            .iter()
            .flat_map(|(name, property)| {
                let own = identifier_words(name).into_iter().map(|word| stem(&word));
                own.chain(stems(text(property, "description"))).collect::<Vec<_>>()
            })
            .collect();
        property_stems.sort();
        property_stems.dedup();
        Some(Self {
            name_stems: identifier_words(&name).iter().map(|word| stem(word)).collect(),
            description_stems: stems(&description),
            property_stems,
            roles,
            required,
            validator: OnceLock::new(),
            has_patterns: schema.to_string().contains("\"pattern"),
            name,
            schema,
        })
    }

    /// None when the schema cannot be read.
    pub(super) fn validator(&self) -> Option<Arc<Validator>> {
        let compile = || values::validator(&self.schema).map(Arc::new);
        // A short pattern can be compiled to many megabytes: too much to keep.
        if self.has_patterns { compile() } else { self.validator.get_or_init(compile).clone() }
    }

    pub(super) fn has(&self, role: Role) -> bool {
        self.roles.values().any(|own| *own == role)
    }

    /// Whether it cannot be called without a value of this kind.
    pub(super) fn requires(&self, role: Role) -> bool {
        self.roles.iter().any(|(name, own)| *own == role && self.required.contains(name))
    }

    pub(super) fn role_of(&self, property: &str) -> Role {
        self.roles.get(property).copied().unwrap_or(Role::Other)
    }

    /// Whether a text without structure is what it mainly takes.
    pub(super) fn takes_free_text(&self) -> bool {
        let structured = [Role::Url, Role::Expression, Role::Zone, Role::Place];
        !structured.iter().any(|role| self.has(*role))
    }

    /// How much a word's stem speaks for this tool: 0 to 3.
    /// Whether its name says that it keeps what it is given.
    pub(super) fn keeps(&self) -> bool {
        ["store", "save", "write"].iter().any(|verb| self.name_stems.contains(&stem(verb)))
    }

    fn weight(&self, stem: &str) -> f64 {
        let holds = |stems: &[String], of: &str| stems.iter().any(|one| one == of);
        if holds(&self.name_stems, stem) {
            return 3.0;
        }
        if kindred(stem).any(|other| holds(&self.name_stems, other)) {
            return 1.8;
        }
        if holds(&self.description_stems, stem) {
            return 1.0;
        }
        if holds(&self.property_stems, stem) {
            return 0.6;
        }
        if kindred(stem).any(|other| holds(&self.description_stems, other)) { 0.5 } else { 0.0 }
    }
}

/// How much the words of a clause speak for each tool. A word that speaks for
/// many tools says little about which.
pub(super) fn affinities(clause: &[String], tools: &[Arc<Tool>]) -> Vec<f64> {
    let mut sums = vec![0.0; tools.len()];
    let mut seen: Vec<&String> = Vec::new();
    for stem in clause {
        if seen.contains(&stem) {
            continue;
        }
        seen.push(stem);
        let weights: Vec<f64> = tools.iter().map(|tool| tool.weight(stem)).collect();
        let strong = weights.iter().filter(|weight| **weight >= 0.5).count().max(1);
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += weight / (strong as f64).sqrt();
        }
    }
    sums
}

pub(super) fn required(schema: &Value) -> Vec<String> {
    let names = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

pub(super) fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn role(name: &str, property: &Value, tool: &str) -> Role {
    let words = identifier_words(name);
    let named = |any: &[&str]| words.iter().any(|word| any.contains(&word.as_str()));
    let description = text(property, "description").to_lowercase();
    let described = |any: &[&str]| any.iter().any(|phrase| description.contains(phrase));
    let joined = words.concat();
    match text(property, "format") {
        "uri" | "url" | "iri" | "uri-reference" => return Role::Url,
        "email" | "idn-email" => return Role::Mail,
        _ => {}
    }
    if property.get("type").is_some_and(|kind| kind != "string" && !kind.is_array()) {
        return Role::Other;
    }
    if named(&["url", "uri", "link", "href"]) {
        Role::Url
    } else if named(&["expression", "formula", "equation", "calculation", "expr"])
        || described(&["arithmetic", "math expression", "mathematical expression"])
    {
        Role::Expression
    } else if named(&["zone", "timezone", "tz"])
        || joined == "timezone"
        || described(&["time zone", "timezone", "iana"])
    {
        Role::Zone
    } else if named(&["query", "q", "search", "keywords", "keyword", "terms", "question"]) {
        Role::Query
    } else if named(&["city", "place", "location", "country", "town", "region"]) {
        if tool.to_lowercase().contains("time zone") { Role::Zone } else { Role::Place }
    } else if named(&["email", "mail", "recipient"]) {
        Role::Mail
    } else {
        Role::Other
    }
}
