//! Every fault of a configuration at once: first by its JSON Schema (shape,
//! types, unknown fields), then by deserialising it (addresses, URLs, CIDRs).
//! What is wrong is noted and taken out, so that the rest is still checked.

use jsonschema::error::ValidationErrorKind;
use jsonschema::paths::{Location, LocationSegment};
use nh_mcp::LocalServer;
use nh_models::ModelAlias;
use serde_json::Value;
use serde_path_to_error::{Path, Segment};

use super::schema::Schema;
use super::{Config, Fault};

/// Enough for a person to mend in one go; ends the search in a hostile file.
const MAX_FAULTS: usize = 64;

/// A word that differs by more than this is no typing error.
const LIKENESS: f64 = 0.8;

/// A step from a table or list to what is in it.
#[derive(Clone)]
pub(super) enum Step {
    Field(String),
    Item(usize),
}

pub(super) fn checked(mut tree: Value, schema: &Schema) -> (Option<Config>, Vec<Fault>) {
    let mut faults = Vec::new();
    for (path, message) in by_schema(&tree, schema) {
        faults.push(Fault { at: dotted(&path), message });
        take_out(&mut tree, &path);
    }
    while faults.len() < MAX_FAULTS {
        let error = match serde_path_to_error::deserialize::<_, Config>(&tree) {
            Ok(config) => {
                faults.extend(by_meaning(&config));
                return (Some(config), faults);
            }
            Err(error) => error,
        };
        let path = steps_of(error.path());
        let message = readable(&tree, &path, error.inner());
        // The field may be one that was taken out for its own fault.
        if faults.is_empty() || !message.starts_with("missing field") {
            faults.push(Fault { at: dotted(&path), message });
        }
        if path.is_empty() || !take_out(&mut tree, &path) {
            break;
        }
    }
    (None, faults)
}

/// What only a value of the right type can have wrong.
fn by_meaning(config: &Config) -> Vec<Fault> {
    let level = crate::log::targets(&config.log.level).err().map(|message| ("log.level", message));
    let address = config.server.public_url.as_ref().filter(|url| !matches!(url.scheme(), "http" | "https"));
    let address = address
        .map(|url| ("server.public_url", format!("`{}://` should be http:// or https://", url.scheme())));
    let origin = config.blobs.public_origin.as_ref().and_then(|url| {
        let is_origin = matches!(url.scheme(), "http" | "https")
            && url.path() == "/"
            && url.query().is_none()
            && url.username().is_empty();
        let message =
            format!("`{url}` should be a scheme and a host alone, such as https://blobs.example.com");
        (!is_origin).then_some(("blobs.public_origin", message))
    });
    let domain = sandbox_domain(config).map(|message| ("compute.sandbox_domain", message));
    let faults = [level, address, origin, domain].into_iter().flatten();
    let faults = faults.map(|(at, message)| Fault { at: at.to_owned(), message });
    let aliases = ModelAlias::faults(&config.model_aliases).into_iter().map(Fault::from);
    let limits =
        config.workspace_limits.faults().into_iter().chain(config.response_cache.faults()).map(Fault::from);
    let patterns = config.log.redact.iter().enumerate().filter_map(|(place, pattern)| {
        let message = crate::log::compiled(pattern).err()?;
        Some(Fault { at: format!("log.redact[{place}]"), message })
    });
    faults.chain(mcp_servers(&config.mcp_servers)).chain(aliases).chain(limits).chain(patterns).collect()
}

fn mcp_servers(servers: &[LocalServer]) -> impl Iterator<Item = Fault> {
    servers.iter().enumerate().flat_map(|(place, server)| {
        let fault = |field: &str, message| Fault { at: format!("mcp_servers[{place}].{field}"), message };
        let name = nh_mcp::check_name(&server.name).err().map(|why| fault("name", why));
        let twin = servers[..place].iter().any(|other| other.name == server.name);
        let twin =
            twin.then(|| fault("name", format!("`{}` is the name of another server too", server.name)));
        let is_empty = server.command.trim().is_empty();
        let command = is_empty.then(|| fault("command", "is missing; it is a program to start".to_owned()));
        [name.or(twin), command].into_iter().flatten()
    })
}

/// All below the domain is sandboxes', so the hub's own names may not be.
fn sandbox_domain(config: &Config) -> Option<String> {
    let domain = config.compute.sandbox_domain.as_deref()?;
    let is_label = |label: &str| {
        let is_inner = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
        (1..=63).contains(&label.len())
            && label.bytes().all(is_inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if !domain.split('.').all(is_label) {
        return Some(format!(
            "`{domain}` should be a DNS name alone, in lower case, such as sandboxes.example.com"
        ));
    }
    let own = [config.server.public_url.as_ref(), config.blobs.public_origin.as_ref()];
    let hosts = own.into_iter().flatten().filter_map(|url| url.host_str());
    let below = hosts
        .map(str::to_ascii_lowercase)
        .find(|host| host == domain || host.strip_suffix(domain).is_some_and(|before| before.ends_with('.')));
    below.map(|host| {
        format!("`{domain}` has the hub's own `{host}` in it, and all below it is sandboxes'; choose another")
    })
}

/// The standard library's words for what is no address, with the value and
/// what would be right.
fn readable(tree: &Value, path: &[Step], error: &serde_json::Error) -> String {
    let message = error.to_string();
    let right = match message.as_str() {
        "invalid socket address syntax" => "an address with a port, such as 127.0.0.1:8080",
        "invalid IP address syntax" => "a network, such as 10.1.0.0/16",
        "relative URL without a base" => "a whole URL, such as https://hub.example.com",
        _ => return message,
    };
    let given = path.iter().try_fold(tree, |at, step| match step {
        Step::Field(name) => at.get(name),
        Step::Item(index) => at.get(index),
    });
    format!("{} should be {right}", given.map_or_else(|| "the value".to_owned(), shown))
}

/// What the schema finds, with the place of the value that is to go.
fn by_schema(tree: &Value, schema: &Schema) -> Vec<(Vec<Step>, String)> {
    let validator = match jsonschema::validator_for(schema.document()) {
        Ok(validator) => validator,
        Err(error) => return vec![(Vec::new(), format!("the schema itself is wrong: {error}"))],
    };
    let mut found = Vec::new();
    for error in validator.iter_errors(tree).take(MAX_FAULTS) {
        let path = steps_at(error.instance_path());
        let shape = shape_at(schema, &path);
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                found.extend(unexpected.iter().map(|name| {
                    let field = path.iter().cloned().chain([Step::Field(name.clone())]).collect();
                    (field, unknown(schema, shape, name))
                }));
            }
            ValidationErrorKind::Required { property } => {
                found.push((
                    path,
                    format!("the field `{}` is missing", property.as_str().unwrap_or_default()),
                ));
            }
            ValidationErrorKind::Type { .. }
            | ValidationErrorKind::Enum { .. }
            | ValidationErrorKind::Constant { .. }
            | ValidationErrorKind::AnyOf { .. }
            | ValidationErrorKind::OneOfNotValid { .. } => {
                let given = shown(error.instance());
                found.push((path, format!("{given} should be {}", expected(schema, shape))));
            }
            _ => found.push((path, error.masked_with(shown(error.instance())).to_string())),
        }
    }
    found
}

/// The value, if it can be no secret: a text might be a key in a wrong place.
fn shown(value: &Value) -> String {
    match value {
        Value::Bool(_) | Value::Number(_) | Value::Null => format!("`{value}`"),
        Value::String(text) if text.len() <= 16 => format!("`{text}`"),
        Value::String(_) => "the text".to_owned(),
        Value::Array(_) => "the list".to_owned(),
        Value::Object(_) => "the table".to_owned(),
    }
}

/// What would be right, in words.
pub(super) fn expected(schema: &Schema, shape: &Value) -> String {
    let words = schema.words(shape);
    if !words.is_empty() {
        return format!("one of {}", words.join(", "));
    }
    let of = |word| schema.allows_type(shape, word);
    match () {
        () if of("object") => "a table".to_owned(),
        () if of("array") => "a list".to_owned(),
        () if of("boolean") => "true or false".to_owned(),
        () if of("integer") => "a whole number".to_owned(),
        () if of("number") => "a number".to_owned(),
        () => "a text in quotes".to_owned(),
    }
}

pub(super) fn unknown(schema: &Schema, shape: &Value, name: &str) -> String {
    let near = schema
        .field_names(shape)
        .map(|known| (strsim::jaro_winkler(known, name), known))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, known)) => format!("`{name}` is unknown here; did you mean `{known}`?"),
        None => {
            let known: Vec<&str> = schema.field_names(shape).collect();
            format!("`{name}` is unknown here; known are {}", known.join(", "))
        }
    }
}

fn shape_at<'a>(schema: &'a Schema, path: &[Step]) -> &'a Value {
    path.iter().fold(schema.root(), |shape, step| {
        let next = match step {
            Step::Field(name) => schema.field(shape, name).map(|field| schema.resolve(field)),
            Step::Item(_) => schema.items(shape),
        };
        next.unwrap_or(&Value::Null)
    })
}

fn steps_at(location: &Location) -> Vec<Step> {
    location
        .iter()
        .map(|segment| match segment {
            LocationSegment::Property(name) => Step::Field(name.to_string()),
            LocationSegment::Index(index) => Step::Item(index),
        })
        .collect()
}

fn steps_of(path: &Path) -> Vec<Step> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Item(*index)),
            Segment::Map { key } => Some(Step::Field(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Field(name) if text.is_empty() => text.push_str(name),
            Step::Field(name) => text.extend([".", name]),
            Step::Item(index) => text.push_str(&format!("[{index}]")),
        }
    }
    if text.is_empty() { "configuration".to_owned() } else { text }
}

/// Removes what is at the path, so that the next fault can be found; false
/// when nothing was there. An item of a list takes the whole list with it:
/// the others would change their numbers.
fn take_out(tree: &mut Value, path: &[Step]) -> bool {
    let end = path.iter().rposition(|step| matches!(step, Step::Field(_)));
    let Some(end) = end else { return false };
    let mut at = tree;
    for step in &path[..end] {
        let next = match step {
            Step::Field(name) => at.get_mut(name),
            Step::Item(index) => at.get_mut(index),
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    match (&path[end], at) {
        (Step::Field(name), Value::Object(fields)) => fields.shift_remove(name).is_some(),
        _ => false,
    }
}
