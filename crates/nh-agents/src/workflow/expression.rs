//! `{{ … }}` in a workflow: expressions of the Jinja language (minijinja), over
//! what the run has so far. They can compute, and can do nothing: no clock, no
//! randomness, no I/O, and bounded in time and memory.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use minijinja::value::Serde;
use minijinja::{Environment, Expression, UndefinedBehavior};
use serde_json::{Map, Value};

/// About so many instructions, and 64 bytes for each, in one expression.
const FUEL: u64 = 100_000;
/// Of what all expressions in one value come to, with the texts around them.
pub const MAX_VALUE_BYTES: usize = 16 * 1024 * 1024;
/// The same for the values in lists and objects, each of which takes much more
/// memory than its text; as many as a request may hold.
const MAX_VALUES: usize = 500_000;
const MAX_EXPRESSION_BYTES: usize = 4096;

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment
});

/// What expressions are evaluated over.
pub type Context = minijinja::Value;

pub fn context(values: &Value) -> Context {
    Context::from(Serde(values))
}

/// A JSON value with expressions in its texts.
#[derive(Debug)]
pub enum Shape {
    Plain(Value),
    Text(Template),
    List(Vec<Shape>),
    Object(Vec<(String, Shape)>),
}

impl Shape {
    /// An error: the place in the value, and what is wrong there.
    pub fn parse(value: &Value, place: &str) -> Result<Self, (String, String)> {
        match value {
            Value::String(text) if text.contains("{{") => {
                Template::parse(text).map(Self::Text).map_err(|error| (place.to_owned(), error))
            }
            Value::Array(items) => {
                let parsed = items.iter().enumerate();
                let parsed = parsed.map(|(index, item)| Self::parse(item, &format!("{place}[{index}]")));
                Ok(Self::List(parsed.collect::<Result<_, _>>()?))
            }
            Value::Object(fields) => Self::object(fields, place),
            plain => Ok(Self::Plain(plain.clone())),
        }
    }

    pub fn object(fields: &Map<String, Value>, place: &str) -> Result<Self, (String, String)> {
        let mut parsed = Vec::with_capacity(fields.len());
        for (name, value) in fields {
            parsed.push((name.clone(), Self::parse(value, &format!("{place}.{name}"))?));
        }
        Ok(Self::Object(parsed))
    }

    /// `context` is asked for where there are expressions.
    pub fn evaluate(&self, context: &dyn Fn() -> Context) -> Result<Value, String> {
        self.evaluated(context, &mut Room::new())
    }

    fn evaluated(&self, context: &dyn Fn() -> Context, room: &mut Room) -> Result<Value, String> {
        match self {
            // A workflow has a bound of its own.
            Self::Plain(value) => Ok(value.clone()),
            Self::Text(template) => template.evaluated(&context(), room),
            Self::List(items) => items.iter().map(|item| item.evaluated(context, room)).collect(),
            Self::Object(fields) => {
                let mut object = Map::new();
                for (name, shape) in fields {
                    object.insert(name.clone(), shape.evaluated(context, room)?);
                }
                Ok(Value::Object(object))
            }
        }
    }

    /// The variables that it reads, with the fields of them that it names, such
    /// as `steps.sum.output`.
    pub fn variables(&self) -> BTreeSet<String> {
        match self {
            Self::Plain(_) => BTreeSet::new(),
            Self::Text(template) => template.variables(),
            Self::List(items) => items.iter().flat_map(Self::variables).collect(),
            Self::Object(fields) => fields.iter().flat_map(|(_, shape)| shape.variables()).collect(),
        }
    }
}

/// A text with expressions in it. One that is nothing but an expression is what
/// that gives, of any type; any other is a text.
#[derive(Debug)]
pub struct Template(Vec<Part>);

#[derive(Debug)]
enum Part {
    Text(String),
    Expression(String, Expression<'static, 'static>),
}

impl Template {
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let (part, after) = expression_at_the_start(after)?;
            parts.push(part);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// The text is an expression even without braces around it.
    pub fn parse_expression(text: &str) -> Result<Self, String> {
        if text.contains("{{") { Self::parse(text) } else { Ok(Self(vec![compiled(text)?])) }
    }

    pub fn evaluate(&self, context: &Context) -> Result<Value, String> {
        self.evaluated(context, &mut Room::new())
    }

    fn evaluated(&self, context: &Context, room: &mut Room) -> Result<Value, String> {
        if let [Part::Expression(source, expression)] = self.0.as_slice() {
            return evaluate(source, expression, context, room);
        }
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(given) => text.push_str(given),
                Part::Expression(source, expression) => match evaluate(source, expression, context, room)? {
                    Value::String(given) => text.push_str(&given),
                    other => text.push_str(&other.to_string()),
                },
            }
        }
        Ok(Value::String(text))
    }

    pub fn variables(&self) -> BTreeSet<String> {
        let expressions = self.0.iter().filter_map(|part| match part {
            Part::Expression(_, expression) => Some(expression),
            Part::Text(_) => None,
        });
        let named = expressions.flat_map(|expression| expression.undeclared_variables(true));
        named.filter(|name| ENVIRONMENT.globals().all(|(global, _)| global != name)).collect()
    }
}

/// What is true of a value where a condition stands, as in Python and Jinja:
/// all but false, null, 0, and what is empty.
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

/// Up to the first `}}` behind which the expression is whole: texts in it may
/// hold braces too.
fn expression_at_the_start(text: &str) -> Result<(Part, &str), String> {
    let mut first_error = None;
    for (end, _) in text.match_indices("}}").take_while(|(end, _)| *end <= MAX_EXPRESSION_BYTES) {
        // `{{ {"a": {"b": 1}} }}`: the braces before the last two are its own.
        match compiled(&text[..end]) {
            Ok(part) => return Ok((part, &text[end + 2..])),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(first_error.unwrap_or_else(|| {
        format!("a `{{{{` has no `}}}}` within {MAX_EXPRESSION_BYTES} bytes that ends an expression")
    }))
}

fn compiled(source: &str) -> Result<Part, String> {
    let source = source.trim();
    if source.len() > MAX_EXPRESSION_BYTES {
        let bytes = source.len();
        return Err(format!("an expression has {bytes} bytes; at most {MAX_EXPRESSION_BYTES} fit"));
    }
    match ENVIRONMENT.compile_expression_owned(source.to_owned()) {
        Ok(expression) => Ok(Part::Expression(source.to_owned(), expression)),
        Err(error) => Err(format!("`{}` is no expression: {}", shortened(source), told(&error))),
    }
}

fn evaluate(
    source: &str,
    expression: &Expression<'static, 'static>,
    context: &Context,
    room: &mut Room,
) -> Result<Value, String> {
    let failed = |reason: String| format!("`{}` cannot be evaluated: {reason}", shortened(source));
    let value = expression.eval(context.clone()).map_err(|error| failed(told(&error)))?;
    if value.is_undefined() {
        return Err(failed("there is no such value".to_owned()));
    }
    bounded(&value, room).map_err(|error| failed(error.to_string()))
}

/// As JSON: what an expression gives may be a promise of much more than it is.
fn bounded(value: &minijinja::Value, room: &mut Room) -> Result<Value, serde_json::Error> {
    let mut text = Bounded { text: Vec::new(), room };
    serde_json::to_writer(&mut text, value)?;
    serde_json::from_slice(&text.text)
}

/// What may still come.
struct Room {
    bytes: usize,
    values: usize,
}

impl Room {
    fn new() -> Self {
        Self { bytes: MAX_VALUE_BYTES, values: MAX_VALUES }
    }
}

/// Takes as many bytes as there is room for.
struct Bounded<'r> {
    text: Vec<u8>,
    room: &'r mut Room,
}

impl std::io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let Some(left) = self.room.bytes.checked_sub(bytes.len()) else {
            let message = format!("it comes to more than {MAX_VALUE_BYTES} bytes as JSON");
            return Err(std::io::Error::other(message));
        };
        self.room.bytes = left;
        // The writer writes what stands between values by itself.
        if matches!(bytes, b"," | b"[" | b"{") {
            let message = || std::io::Error::other(format!("it holds more than {MAX_VALUES} values"));
            self.room.values = self.room.values.checked_sub(1).ok_or_else(message)?;
        }
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn told(error: &minijinja::Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), str::to_owned)
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn evaluated(text: &str) -> Result<Value, String> {
        let values = json!({"input": {"n": 17, "name": "Ada", "items": [1, 2]},
            "steps": {"a": {"output": {"text": "}} {{"}}}});
        Template::parse(text)?.evaluate(&context(&values))
    }

    #[test]
    fn an_expression_alone_keeps_its_type_and_in_a_text_is_text() {
        for (text, value) in [
            ("{{ input.n * 23 }}", json!(391)),
            ("{{input.items}}", json!([1, 2])),
            ("{{ input.items | length > 1 }}", json!(true)),
            ("{{ input.name }} has {{ input.items }}", json!("Ada has [1,2]")),
            ("{{ steps.a.output.text }}", json!("}} {{")),
            ("{{ '}}' ~ input.name }}!", json!("}}Ada!")),
            ("{{ {'a': {'b': 1}} }}", json!({"a": {"b": 1}})),
            ("{{ input.other | default('none') }}", json!("none")),
            ("no braces", json!("no braces")),
            ("one } and { another", json!("one } and { another")),
        ] {
            assert_eq!(evaluated(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn faults_are_told() {
        for (text, told) in [
            ("{{ input.other }}", "there is no such value"),
            ("{{ input.n.a.b }}", "cannot be evaluated"),
            ("{{ input.n", "has no `}}`"),
            ("{{ }}", "is no expression"),
            ("{{ 1 + }}", "is no expression"),
            ("{{ nothing(1) }}", "unknown"),
            ("{{ 1 / 0 }}", "cannot be evaluated"),
        ] {
            let error = evaluated(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn no_expression_takes_long_or_much() {
        for text in [
            "{{ 'a' * 99999999 }}",
            "{{ input.name * 99999999 ~ input.name * 99999999 }}",
            "{{ [1] * 99999999 }}",
            "{{ ([1] * 99999999) | list }}",
            "{{ range(99999999) | list }}",
            "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
            "{{ '%099999999d' | format(1) }}",
            "{{ 'a' | indent(99999999) }}",
            "{{ [[[[1] * 9999] * 9999] * 9999] * 9999 }}",
        ] {
            let outcome = evaluated(text);
            let bytes = outcome.as_ref().map_or(0, |value| value.to_string().len());
            assert!(bytes <= MAX_VALUE_BYTES, "{text} came to {bytes} bytes");
        }
    }

    #[test]
    fn all_expressions_of_a_value_share_its_bound() {
        let values = json!({"input": {"text": "x".repeat(MAX_VALUE_BYTES / 3)}});
        let of = |count: usize| {
            let shape = Shape::parse(&json!(vec!["{{ input.text }}"; count]), "with").expect("a shape");
            shape.evaluate(&|| context(&values))
        };
        assert!(of(2).is_ok());
        let error = of(4).expect_err("too much");
        assert!(error.contains("it comes to more than 16777216 bytes as JSON"), "{error}");
        let error = evaluated("{{ [[1] * 1000] * 1000 }}").expect_err("too many");
        assert!(error.contains("it holds more than 500000 values"), "{error}");
    }

    #[test]
    fn variables_are_known_before_anything_is_evaluated() {
        let value =
            json!({"a": "{{ input.n + range(3)[0] }}", "b": ["{{ steps.sum.output.text }}", "plain"]});
        let shape = Shape::parse(&value, "with").expect("a shape");
        let named: Vec<_> = shape.variables().into_iter().collect();
        assert_eq!(named, ["input.n", "steps.sum.output.text"]);
        let error = Shape::parse(&json!({"a": ["{{ 1 + }}"]}), "with").expect_err("a fault");
        assert_eq!(error.0, "with.a[0]");
    }
}
