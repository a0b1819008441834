//! Filters over metadata: `{"a.b": value}`, with `$` operators.
//!
//! A path goes through objects (a key that holds the dots itself comes first).
//! A value that is a list meets a condition when the list itself or one of its
//! elements does. What is compared is compared within its own kind: numbers
//! with numbers, texts with texts (byte by byte, so times in RFC 3339 work).

use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::{Map, Number, Value};

/// How deeply `$and`, `$or` and `$not` may be nested.
const MAX_DEPTH: usize = 8;
/// Conditions in one filter.
const MAX_CONDITIONS: usize = 50;
/// Values after `$in`, all of a filter together.
const MAX_VALUES: usize = 1000;
/// Of them, lists and objects: each is compared with each.
const MAX_WHOLE_VALUES: usize = 20;
const MAX_PATH_BYTES: usize = 256;

/// What a memory's metadata must be like.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    All(Vec<Filter>),
    Any(Vec<Filter>),
    Not(Box<Filter>),
    Field { path: String, test: Test },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    In(Values),
    Compare(Vec<Ordering>, Value),
    Exists(bool),
}

/// Values to be equal to one of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Values {
    /// Of those that are one thing: so written that equal ones are written alike.
    plain: HashSet<String>,
    /// Lists and objects.
    whole: Vec<Value>,
}

impl Values {
    fn of(values: &[Value]) -> Self {
        let mut of = Self::default();
        for value in values {
            match plain(value) {
                Some(text) => drop(of.plain.insert(text)),
                None => of.whole.push(value.clone()),
            }
        }
        of
    }

    fn has(&self, value: &Value) -> bool {
        match plain(value) {
            Some(text) => self.plain.contains(&text),
            None => self.whole.iter().any(|one| is_equal(one, value)),
        }
    }
}

/// None of a list or an object. A whole number is written as one, however it came.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => Some(match (number.as_i128(), number.as_f64()) {
            (None, Some(real)) if real.fract() == 0.0 && real.abs() < 1e15 => format!("{}", real as i64),
            _ => number.to_string(),
        }),
        Value::Array(_) | Value::Object(_) => None,
        other => Some(other.to_string()),
    }
}

/// What is wrong with a filter, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{at}` {problem}")]
pub struct BadFilter {
    /// Such as `filter.$or[1].price.$gt`.
    pub at: String,
    pub problem: String,
}

fn bad(at: &str, problem: impl Into<String>) -> BadFilter {
    BadFilter { at: at.chars().take(300).collect(), problem: problem.into() }
}

impl Filter {
    /// Reads the JSON text of a filter; `at` is what the caller calls it.
    pub fn parse(at: &str, text: &str) -> Result<Self, BadFilter> {
        let value = serde_json::from_str(text).map_err(|error| bad(at, format!("is not JSON: {error}")))?;
        Self::read(at, &value)
    }

    pub fn read(at: &str, value: &Value) -> Result<Self, BadFilter> {
        Reading { conditions: 0, values: 0, whole: 0 }.filter(at, value, 0)
    }

    pub fn matches(&self, metadata: &Map<String, Value>) -> bool {
        match self {
            Self::All(filters) => filters.iter().all(|filter| filter.matches(metadata)),
            Self::Any(filters) => filters.iter().any(|filter| filter.matches(metadata)),
            Self::Not(filter) => !filter.matches(metadata),
            Self::Field { path, test } => test.holds(find(metadata, path)),
        }
    }
}

struct Reading {
    conditions: usize,
    /// After `$in`, so far.
    values: usize,
    whole: usize,
}

impl Reading {
    fn filter(&mut self, at: &str, value: &Value, depth: usize) -> Result<Filter, BadFilter> {
        if depth > MAX_DEPTH {
            return Err(bad(at, format!("is nested more than {MAX_DEPTH} deep")));
        }
        let Value::Object(fields) = value else {
            return Err(bad(
                at,
                format!("is {}; it must be an object such as {{\"source\": \"chat\"}}", shown(value)),
            ));
        };
        let mut filters = Vec::with_capacity(fields.len());
        for (key, value) in fields {
            filters.push(self.entry(&format!("{at}.{key}"), key, value, depth)?);
        }
        Ok(one_or(filters, Filter::All))
    }

    fn entry(&mut self, at: &str, key: &str, value: &Value, depth: usize) -> Result<Filter, BadFilter> {
        match key {
            "$and" => Ok(Filter::All(self.list(at, value, depth)?)),
            "$or" => Ok(Filter::Any(self.list(at, value, depth)?)),
            "$not" => Ok(Filter::Not(Box::new(self.filter(at, value, depth + 1)?))),
            _ if key.starts_with('$') => {
                Err(bad(at, "is no operator here; `$and`, `$or` and `$not` are, and names of fields"))
            }
            _ if key.is_empty() || key.len() > MAX_PATH_BYTES => {
                Err(bad(at, format!("names no field; a path has 1 to {MAX_PATH_BYTES} bytes")))
            }
            _ => self.field(at, key, value, depth),
        }
    }

    fn list(&mut self, at: &str, value: &Value, depth: usize) -> Result<Vec<Filter>, BadFilter> {
        let Value::Array(items) = value else {
            return Err(bad(at, format!("is {}; it must be a list of filters", shown(value))));
        };
        if items.is_empty() {
            return Err(bad(at, "is an empty list; give at least one filter"));
        }
        let read = |(place, item)| self.filter(&format!("{at}[{place}]"), item, depth + 1);
        items.iter().enumerate().map(read).collect()
    }

    fn field(&mut self, at: &str, path: &str, value: &Value, depth: usize) -> Result<Filter, BadFilter> {
        let operators = match value {
            Value::Object(fields) if fields.keys().any(|key| key.starts_with('$')) => fields,
            _ => return self.one_of(at, path, std::slice::from_ref(value)),
        };
        let mut filters = Vec::with_capacity(operators.len());
        for (operator, operand) in operators {
            let at = format!("{at}.{operator}");
            filters.push(self.operator(&at, path, operator, operand, depth)?);
        }
        Ok(one_or(filters, Filter::All))
    }

    fn operator(
        &mut self,
        at: &str,
        path: &str,
        operator: &str,
        operand: &Value,
        depth: usize,
    ) -> Result<Filter, BadFilter> {
        use Ordering::{Equal, Greater, Less};
        match operator {
            "$eq" => self.one_of(at, path, std::slice::from_ref(operand)),
            "$ne" => Ok(Filter::Not(Box::new(self.one_of(at, path, std::slice::from_ref(operand))?))),
            "$in" => match operand {
                Value::Array(values) if values.len() <= MAX_VALUES => self.one_of(at, path, values),
                _ => Err(bad(
                    at,
                    format!("is {}; it must be a list of at most {MAX_VALUES} values", shown(operand)),
                )),
            },
            "$gt" => self.compare(at, path, vec![Greater], operand),
            "$gte" => self.compare(at, path, vec![Greater, Equal], operand),
            "$lt" => self.compare(at, path, vec![Less], operand),
            "$lte" => self.compare(at, path, vec![Less, Equal], operand),
            "$exists" => match operand {
                Value::Bool(exists) => self.test(at, path, Test::Exists(*exists)),
                _ => Err(bad(at, format!("is {}; it must be true or false", shown(operand)))),
            },
            "$not" if depth < MAX_DEPTH => {
                Ok(Filter::Not(Box::new(self.field(at, path, operand, depth + 1)?)))
            }
            "$not" => Err(bad(at, format!("is nested more than {MAX_DEPTH} deep"))),
            _ => Err(bad(
                at,
                "is no operator; use $eq, $ne, $in, $gt, $gte, $lt, $lte, $exists or $not (and $and, $or outside of a field)",
            )),
        }
    }

    fn one_of(&mut self, at: &str, path: &str, values: &[Value]) -> Result<Filter, BadFilter> {
        let values = (values.len(), Values::of(values));
        self.values += values.0;
        self.whole += values.1.whole.len();
        if self.values > MAX_VALUES + MAX_CONDITIONS || self.whole > MAX_WHOLE_VALUES {
            let most = format!(
                "is more than a filter may have: {MAX_VALUES} values, {MAX_WHOLE_VALUES} of them lists or objects"
            );
            return Err(bad(at, most));
        }
        self.test(at, path, Test::In(values.1))
    }

    fn compare(
        &mut self,
        at: &str,
        path: &str,
        orders: Vec<Ordering>,
        operand: &Value,
    ) -> Result<Filter, BadFilter> {
        match operand {
            Value::Number(_) | Value::String(_) => {
                self.test(at, path, Test::Compare(orders, operand.clone()))
            }
            _ => Err(bad(at, format!("is {}; only numbers and texts have an order", shown(operand)))),
        }
    }

    fn test(&mut self, at: &str, path: &str, test: Test) -> Result<Filter, BadFilter> {
        self.conditions += 1;
        if self.conditions > MAX_CONDITIONS {
            return Err(bad(
                at,
                format!("is one condition more than the {MAX_CONDITIONS} that a filter may have"),
            ));
        }
        Ok(Filter::Field { path: path.to_owned(), test })
    }
}

fn one_or(mut filters: Vec<Filter>, all: impl FnOnce(Vec<Filter>) -> Filter) -> Filter {
    match filters.pop() {
        Some(only) if filters.is_empty() => only,
        Some(last) => {
            filters.push(last);
            all(filters)
        }
        None => all(filters),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Array(items) if items.len() > MAX_VALUES => format!("a list of {} values", items.len()),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string().chars().take(60).collect(),
    }
}

/// The key itself, else one object deeper for each dot.
fn find<'v>(fields: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    if let Some(value) = fields.get(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(dot, _)| match fields.get(&path[..dot]) {
        Some(Value::Object(inner)) => find(inner, &path[dot + 1..]),
        _ => None,
    })
}

impl Test {
    fn holds(&self, found: Option<&Value>) -> bool {
        match (self, found) {
            (Self::Exists(exists), found) => found.is_some() == *exists,
            (_, None) => false,
            (Self::In(values), Some(found)) => meets(found, |one| values.has(one)),
            (Self::Compare(orders, value), Some(found)) => {
                meets(found, |one| compare(one, value).is_some_and(|order| orders.contains(&order)))
            }
        }
    }
}

fn meets(found: &Value, test: impl Fn(&Value) -> bool) -> bool {
    test(found) || matches!(found, Value::Array(items) if items.iter().any(test))
}

fn is_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare_numbers(one, other) == Some(Ordering::Equal),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_equal(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(key, value)| other.get(key).is_some_and(|other| is_equal(value, other)))
        }
        _ => one == other,
    }
}

fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare_numbers(one, other),
        (Value::String(one), Value::String(other)) => Some(one.cmp(other)),
        _ => None,
    }
}

/// Whole numbers exactly, others as 64-bit floats.
fn compare_numbers(one: &Number, other: &Number) -> Option<Ordering> {
    match (one.as_i128(), other.as_i128()) {
        (Some(one), Some(other)) => Some(one.cmp(&other)),
        _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(filter: Value, metadata: Value) -> bool {
        let filter = Filter::read("filter", &filter).expect("a filter");
        filter.matches(metadata.as_object().expect("an object"))
    }

    fn fault(filter: Value) -> String {
        Filter::read("filter", &filter).expect_err("a bad filter").to_string()
    }

    #[test]
    fn fields_are_compared_within_their_kind() {
        let of = json!({"n": 3, "word": "b", "tags": ["x", "y"], "a": {"b": {"c": 1.0}}, "a.d": true, "none": null});
        for (filter, expected) in [
            (json!({}), true),
            (json!({"n": 3}), true),
            (json!({"n": 3.0}), true),
            (json!({"n": "3"}), false),
            (json!({"n": {"$gt": 2, "$lte": 3}}), true),
            (json!({"n": {"$gt": "2"}}), false),
            (json!({"word": {"$gte": "a", "$lt": "c"}}), true),
            (json!({"tags": "y"}), true),
            (json!({"tags": ["x", "y"]}), true),
            (json!({"tags": {"$in": ["z", "x"]}}), true),
            (json!({"tags": {"$ne": "x"}}), false),
            (json!({"a.b.c": 1}), true),
            (json!({"a": {"b": {"c": 1}}}), true),
            (json!({"a.d": true}), true),
            (json!({"a.missing": {"$exists": false}}), true),
            (json!({"none": null}), true),
            (json!({"gone": null}), false),
            (json!({"gone": {"$ne": 1}}), true),
            (json!({"n": {"$not": {"$gt": 5}}}), true),
            (json!({"$not": {"n": 3}}), false),
            (json!({"$or": [{"n": 4}, {"word": "b"}]}), true),
            (json!({"$and": [{"n": 3}, {"word": "c"}]}), false),
            (json!({"n": {"$in": []}}), false),
            (json!({"n": {"$in": [1, "x", 3.0, [3]]}}), true),
            (json!({"tags": {"$in": [["x", "y"]]}}), true),
            (json!({"word": {"$in": ["\"b\"", null]}}), false),
        ] {
            assert_eq!(matches(filter.clone(), of.clone()), expected, "{filter}");
        }
        assert!(!matches(json!({"n": 9007199254740993_i64}), json!({"n": 9007199254740992_i64})));
    }

    #[test]
    fn a_bad_part_is_named() {
        for (filter, told) in [
            (json!([]), "`filter` is a list; it must be an object"),
            (json!({"$nor": []}), "`filter.$nor` is no operator here"),
            (json!({"a": {"$regex": "x"}}), "`filter.a.$regex` is no operator"),
            (json!({"a": {"$gt": true}}), "`filter.a.$gt` is true; only numbers and texts"),
            (json!({"a": {"$in": 1}}), "`filter.a.$in` is 1; it must be a list"),
            (json!({"a": {"$exists": 1}}), "`filter.a.$exists` is 1; it must be true or false"),
            (json!({"$or": []}), "`filter.$or` is an empty list"),
            (json!({"$or": [{"a": 1}, 2]}), "`filter.$or[1]` is 2"),
            (json!({"a": {"$eq": 1, "b": 2}}), "`filter.a.b` is no operator"),
            (json!({"": 1}), "`filter.` names no field"),
        ] {
            let fault = fault(filter);
            assert!(fault.starts_with(told), "{fault}");
        }
        let deep = (0..20).fold(json!({"a": 1}), |inner, _| json!({"$not": inner}));
        assert!(fault(deep).contains("nested more than 8 deep"));
        let deep = (0..20).fold(json!({"$eq": 1}), |inner, _| json!({"$not": inner}));
        assert!(fault(json!({"a": deep})).contains("nested more than 8 deep"));
        let many: Vec<Value> = (0..21).map(|number| json!([number])).collect();
        assert!(
            fault(json!({"a": {"$in": many}})).starts_with("`filter.a.$in` is more than a filter may have")
        );
        let wide: Map<String, Value> = (0..51).map(|number| (format!("k{number}"), json!(1))).collect();
        assert!(fault(Value::Object(wide)).contains("one condition more than the 50"));
    }
}
