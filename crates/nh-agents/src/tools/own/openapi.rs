//! A document of OpenAPI 3 turned into tools: one for each operation that is a request with
//! JSON, as the specification 3.1 (and 3.0 before it) describes operations.

use std::collections::BTreeSet;

use nh_types::tool::{HttpMethod, SkippedOperation};
use serde_json::{Map, Value, json};
use url::Url;

/// Operations beyond these are told as skipped.
const MAX_OPERATIONS: usize = 100;
/// What refers to itself is cut there: anything fits from there on.
const MAX_DEPTH: usize = 12;
/// Parts of one operation's schemas, references replaced.
const MAX_NODES: usize = 5_000;
const MAX_NAME: usize = 64;
/// Keywords of OpenAPI that say nothing of what fits (3.1, section 4.8.24; 3.0 has more).
const IGNORED: [&str; 6] = ["discriminator", "example", "externalDocs", "xml", "deprecated", "nullable"];

/// An operation as a tool, before it is checked.
pub(super) struct Operation {
    /// As the document calls it.
    pub(super) shown: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) method: HttpMethod,
    pub(super) url: String,
    pub(super) input_schema: Value,
    /// Arguments that are the query although there is a body.
    pub(super) query: Vec<String>,
    /// The argument that is the whole body; None: all that is left.
    pub(super) body: Option<String>,
}

/// What can be tools, and what cannot.
pub(super) type Read = (Vec<Operation>, Vec<SkippedOperation>);

/// What of the document can be tools whose names begin with `prefix`; an error is a field of
/// the request and what is wrong with it.
pub(super) fn read(
    document: &Value,
    server: Option<&str>,
    prefix: &str,
) -> Result<Read, (&'static str, String)> {
    let version = document["openapi"].as_str().unwrap_or_default();
    if !version.starts_with("3.") {
        let message = "`document` is no OpenAPI 3 document: its `openapi` must be 3.0 or 3.1".to_owned();
        return Err(("document", message));
    }
    let server = server_of(document, server).map_err(|message| ("url", message))?;
    let Some(paths) = document["paths"].as_object() else {
        return Err(("document", "`document` has no `paths`".to_owned()));
    };
    let (mut operations, mut skipped, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (path, item) in paths {
        let item = resolve(document, item);
        for (word, method) in METHODS {
            let Some(operation) = item.get(word).filter(|operation| operation.is_object()) else { continue };
            let shown = format!("{} {path}", word.to_uppercase());
            let place = Place { document, server: &server, path, item, operation, method };
            let read = match operations.len() < MAX_OPERATIONS {
                true => place.read(shown.clone(), prefix, &mut names),
                false => Err(format!("there are more than {MAX_OPERATIONS} operations")),
            };
            match read {
                Ok(operation) => operations.push(operation),
                Err(reason) => skipped.push(SkippedOperation { operation: shown, reason }),
            }
        }
    }
    Ok((operations, skipped))
}

const METHODS: [(&str, HttpMethod); 6] = [
    ("get", HttpMethod::Get),
    ("head", HttpMethod::Head),
    ("post", HttpMethod::Post),
    ("put", HttpMethod::Put),
    ("patch", HttpMethod::Patch),
    ("delete", HttpMethod::Delete),
];

/// Where the operations are, without a slash at the end.
fn server_of(document: &Value, given: Option<&str>) -> Result<String, String> {
    let named = document["servers"][0]["url"].as_str();
    let Some(server) = given.or(named) else {
        return Err(
            "`url` is missing: the document names no server, so say where its operations are".to_owned()
        );
    };
    let is_whole = !server.contains(['{', '}', '?', '#']) && Url::parse(server).is_ok();
    if !is_whole {
        let shown: String = server.chars().take(200).collect();
        return Err(format!("the server `{shown}` is no whole address; give one as `url`"));
    }
    Ok(server.trim_end_matches('/').to_owned())
}

struct Place<'d> {
    document: &'d Value,
    server: &'d str,
    path: &'d str,
    item: &'d Value,
    operation: &'d Value,
    method: HttpMethod,
}

impl Place<'_> {
    fn read(&self, shown: String, prefix: &str, names: &mut BTreeSet<String>) -> Result<Operation, String> {
        let mut nodes = MAX_NODES;
        let (mut properties, mut required, mut query) = (Map::new(), BTreeSet::new(), Vec::new());
        for parameter in self.parameters() {
            let name = parameter["name"].as_str().unwrap_or_default();
            let is_required = parameter["required"] == true;
            match parameter["in"].as_str() {
                Some("path") => {
                    required.insert(name.to_owned());
                }
                Some("query") => {
                    query.push(name.to_owned());
                    if is_required {
                        required.insert(name.to_owned());
                    }
                }
                Some(other) if is_required => return Err(format!("it needs the {other} parameter `{name}`")),
                _ => continue,
            }
            let mut schema = self.inline(&parameter["schema"], 0, &mut nodes);
            if let (Some(about), Some(schema)) = (parameter["description"].as_str(), schema.as_object_mut()) {
                schema.entry("description").or_insert_with(|| about.into());
            }
            properties.insert(name.to_owned(), schema);
        }
        let has_body = matches!(self.method, HttpMethod::Post | HttpMethod::Put | HttpMethod::Patch);
        let body = if has_body { self.body(&mut properties, &mut required, &mut nodes)? } else { None };
        let mut input_schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            input_schema["required"] = json!(required);
        }
        Ok(Operation {
            shown,
            name: self.name(prefix, names),
            description: self.description(),
            method: self.method,
            url: format!("{}{}", self.server, self.path),
            input_schema,
            query: if has_body { query } else { Vec::new() },
            body,
        })
    }

    /// An operation's own come in the place of its path's.
    fn parameters(&self) -> Vec<&Value> {
        let mut found: Vec<&Value> = Vec::new();
        for list in [&self.operation["parameters"], &self.item["parameters"]] {
            for parameter in list.as_array().into_iter().flatten() {
                let parameter = resolve(self.document, parameter);
                let is_known =
                    |known: &&Value| (&known["name"], &known["in"]) == (&parameter["name"], &parameter["in"]);
                if !found.iter().any(is_known) {
                    found.push(parameter);
                }
            }
        }
        found
    }

    /// An object's properties are arguments themselves, unless one has a parameter's name.
    fn body(
        &self,
        properties: &mut Map<String, Value>,
        required: &mut BTreeSet<String>,
        nodes: &mut usize,
    ) -> Result<Option<String>, String> {
        let body = resolve(self.document, &self.operation["requestBody"]);
        let Some(content) = body["content"].as_object().filter(|content| !content.is_empty()) else {
            return Ok(None);
        };
        let is_json = |kind: &&String| {
            let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            kind == "application/json" || kind.ends_with("+json") || kind == "*/*"
        };
        let Some(kind) = content.keys().find(is_json) else {
            return Err("its body is no JSON".to_owned());
        };
        let schema = self.inline(&content[kind]["schema"], 0, nodes);
        let own = schema["properties"].as_object().filter(|_| schema["type"] == "object");
        if let Some(own) = own.filter(|own| !own.keys().any(|name| properties.contains_key(name))) {
            properties.extend(own.clone());
            if body["required"] == true {
                let names = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                required.extend(names.map(str::to_owned));
            }
            return Ok(None);
        }
        let argument =
            (1..).map(|number| if number == 1 { "body".to_owned() } else { format!("body_{number}") });
        let argument = argument.take(100).find(|name| !properties.contains_key(name)).unwrap_or_default();
        properties.insert(argument.clone(), schema);
        if body["required"] == true {
            required.insert(argument.clone());
        }
        Ok(Some(argument))
    }

    fn description(&self) -> String {
        let said = [&self.operation["summary"], &self.operation["description"]];
        let said: Vec<_> =
            said.into_iter().filter_map(Value::as_str).filter(|text| !text.trim().is_empty()).collect();
        let text =
            if said.is_empty() { format!("Asks {}{}.", self.server, self.path) } else { said.join("\n\n") };
        text.chars().take(4000).collect()
    }

    /// Such as `desk_list_tickets`; with a number behind it where another has that name.
    fn name(&self, prefix: &str, names: &mut BTreeSet<String>) -> String {
        let own = self.operation["operationId"].as_str().map(str::to_owned);
        let own = own.unwrap_or_else(|| format!("{:?}_{}", self.method, self.path).to_lowercase());
        let mut name = String::new();
        for letter in format!("{prefix}_{own}").chars() {
            let letter = if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
            if letter != '_' || !name.ends_with('_') {
                name.push(letter);
            }
        }
        let name: String = name.trim_end_matches('_').chars().take(MAX_NAME - 4).collect();
        let numbered =
            (1..).map(|number| if number == 1 { name.clone() } else { format!("{name}_{number}") });
        let name = numbered.take(MAX_OPERATIONS + 1).find(|name| !names.contains(name)).unwrap_or_default();
        names.insert(name.clone());
        name
    }

    /// The schema with its references replaced, in the words of JSON Schema 2020-12.
    fn inline(&self, schema: &Value, depth: usize, nodes: &mut usize) -> Value {
        if depth > MAX_DEPTH || *nodes == 0 {
            return json!({});
        }
        *nodes -= 1;
        let fields = match resolve(self.document, schema) {
            Value::Object(fields) => fields,
            Value::Bool(any) => return Value::Bool(*any),
            _ => return json!({}),
        };
        let mut inlined = Map::new();
        for (name, value) in fields {
            let value = match (name.as_str(), value) {
                (ignored, _) if IGNORED.contains(&ignored) || ignored == "$ref" => continue,
                ("properties" | "patternProperties" | "$defs", Value::Object(inner)) => inner
                    .iter()
                    .map(|(name, schema)| (name.clone(), self.inline(schema, depth + 1, nodes)))
                    .collect(),
                ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(inner)) => {
                    inner.iter().map(|schema| self.inline(schema, depth + 1, nodes)).collect()
                }
                (
                    "items" | "additionalProperties" | "not" | "contains" | "propertyNames",
                    value @ Value::Object(_),
                ) => self.inline(value, depth + 1, nodes),
                // 3.0: whether the limit itself is out.
                ("exclusiveMinimum" | "exclusiveMaximum", Value::Bool(is_out)) => {
                    let limit = if name == "exclusiveMinimum" { "minimum" } else { "maximum" };
                    match fields.get(limit).filter(|_| *is_out) {
                        Some(limit) => limit.clone(),
                        None => continue,
                    }
                }
                (_, value) => value.clone(),
            };
            inlined.insert(name.clone(), value);
        }
        // 3.0: a type that may be null too.
        if fields.get("nullable") == Some(&Value::Bool(true))
            && let Some(kind) = inlined.get("type").and_then(Value::as_str).map(str::to_owned)
        {
            inlined.insert("type".to_owned(), json!([kind, "null"]));
            if let Some(values) = inlined.get_mut("enum").and_then(Value::as_array_mut) {
                values.push(Value::Null);
            }
        }
        Value::Object(inlined)
    }
}

/// What a reference within the document leads to; itself where it is none. One that leads
/// elsewhere, or round in a circle, leads to nothing.
fn resolve<'d>(document: &'d Value, mut value: &'d Value) -> &'d Value {
    for _ in 0..MAX_DEPTH {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return value };
        match reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer)) {
            Some(found) => value = found,
            None => return &Value::Null,
        }
    }
    &Value::Null
}
