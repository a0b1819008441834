//! Single values in a text: numbers, dates, words after a name.

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::toolbox::Tool;
use super::words::{
    self, Word, identifier_words, is_command, is_stop_word, stem, strip_phrase, without_politeness,
};
use super::{arithmetic, spans};

/// Which values of the clause are used already.
#[derive(Default)]
pub(super) struct Taken(Vec<String>);

impl Taken {
    pub(super) fn first_new(&mut self, values: Vec<String>) -> Option<String> {
        let value = values.into_iter().find(|value| !self.0.contains(value))?;
        self.0.push(value.clone());
        Some(value)
    }

    /// A value that only one property may have.
    pub(super) fn once(&mut self, what: &str, value: impl FnOnce() -> Option<String>) -> Option<String> {
        if self.0.iter().any(|taken| taken == what) {
            return None;
        }
        let value = value()?;
        self.0.push(what.to_owned());
        Some(value)
    }
}

/// The choice that the clause names; the longest, so that `celsius` is not
/// taken for `c`.
pub(super) fn chosen(clause: &str, choices: &[Value]) -> Option<Value> {
    let said: Vec<String> = words::words(clause).iter().map(|word| word.text.to_lowercase()).collect();
    let joined = format!(" {} ", said.join(" "));
    let names = |choice: &&Value| {
        let text = choice.as_str().map_or_else(|| choice.to_string(), str::to_owned);
        let words = identifier_words(&text).join(" ");
        !words.is_empty() && joined.contains(&format!(" {words} "))
    };
    choices.iter().filter(names).max_by_key(|choice| choice.as_str().map_or(1, str::len)).cloned()
}

pub(super) fn boolean(clause: &str, name: &str) -> Option<Value> {
    let words = words::words(clause);
    let wanted: Vec<String> = identifier_words(name).iter().map(|word| stem(word)).collect();
    let at = words.iter().position(|word| wanted.contains(&stem(&word.text.to_lowercase())))?;
    let before = at.checked_sub(1).and_then(|before| words.get(before)).map(|word| word.text.to_lowercase());
    let is_denied =
        before.is_some_and(|word| matches!(word.as_str(), "no" | "not" | "without" | "don't" | "never"));
    Some(Value::Bool(!is_denied))
}

/// A number beside the property's name (`limit 5`, `5 results`); for a required
/// property, any number. It keeps to the schema's bounds.
pub(super) fn number(
    clause: &str,
    name: &str,
    schema: &Value,
    is_integer: bool,
    is_required: bool,
    taken: &mut Taken,
) -> Option<Value> {
    let masked = spans::blank(clause, &spans::masks(clause));
    let words = words::words(&masked);
    let mut wanted: Vec<String> = identifier_words(name).iter().map(|word| stem(word)).collect();
    wanted.extend(counted(schema));
    let is_name =
        |word: Option<&Word<'_>>| word.is_some_and(|word| wanted.contains(&stem(&word.text.to_lowercase())));
    let numbers = numbers(&masked);
    let beside = numbers.iter().find(|(_, start, end)| {
        let before = words.iter().rev().find(|word| word.end <= *start);
        let after = words.iter().find(|word| word.start >= *end);
        is_name(before) || is_name(after)
    });
    let text = match beside {
        Some((text, ..)) => taken.first_new(vec![text.clone()])?,
        None if is_required => taken.first_new(numbers.into_iter().map(|(text, ..)| text).collect())?,
        None => return None,
    };
    let bound = |field: &str| schema.get(field).and_then(Value::as_f64);
    let value: f64 = text.parse().ok()?;
    let value = bound("minimum").map_or(value, |least| value.max(least));
    let value = bound("maximum").map_or(value, |most| value.min(most));
    if is_integer {
        return (value.abs() < 9e15).then(|| Value::from(value.round() as i64));
    }
    serde_json::Number::from_f64(value).map(Value::Number)
}

/// What a property counts: `results` in "How many results to give".
fn counted(schema: &Value) -> Option<String> {
    let description = schema.get("description")?.as_str()?.to_lowercase();
    let rest = ["how many ", "number of "].iter().find_map(|lead| Some(description.split_once(lead)?.1))?;
    words::words(rest).first().map(|word| stem(word.text))
}

/// The numbers of a text, as they would be written in JSON, and where they are.
fn numbers(text: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let begins = bytes[at].is_ascii_digit() && (at == 0 || !bytes[at - 1].is_ascii_alphanumeric());
        if !begins {
            at += 1;
            continue;
        }
        let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let mut end = at;
        while is_digit(end) || (matches!(bytes.get(end), Some(b'.' | b',')) && is_digit(end + 1)) {
            end += 1;
        }
        let is_negative = at > 0 && bytes[at - 1] == b'-' && (at == 1 || bytes[at - 2] == b' ');
        let digits = text[at..end].replace(',', "");
        if digits.parse::<f64>().is_ok() {
            found.push((if is_negative { format!("-{digits}") } else { digits }, at, end));
        }
        at = end.max(at + 1);
    }
    found
}

fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let is_edge =
        |letter: char| matches!(letter, ',' | '.' | ';' | ':' | '!' | '?' | '(' | ')' | '"' | '\'' | '`');
    text.split_whitespace().map(move |token| token.trim_matches(is_edge)).filter(|token| !token.is_empty())
}

fn has_shape(text: &str, shape: &str) -> bool {
    text.len() == shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, kind)| match kind {
            b'9' => byte.is_ascii_digit(),
            b'f' => byte.is_ascii_hexdigit(),
            other => byte == other,
        })
}

/// `2026-02-06`.
pub(super) fn date(clause: &str) -> Option<String> {
    tokens(clause).find(|token| has_shape(token, "9999-99-99")).map(str::to_owned)
}

/// RFC 3339, or a date's first instant in UTC.
pub(super) fn date_time(clause: &str) -> Option<String> {
    let whole = tokens(clause).find(|token| nh_types::Timestamp::parse(token).is_ok()).map(str::to_owned);
    whole.or_else(|| date(clause).map(|date| format!("{date}T00:00:00Z")))
}

pub(super) fn uuid(clause: &str) -> Option<String> {
    tokens(clause).find(|token| has_shape(token, "ffffffff-ffff-ffff-ffff-ffffffffffff")).map(str::to_owned)
}

/// Steps back that one match may take. A pattern may be written so that it
/// needs more than the universe has time for.
const MAX_BACKTRACKS: usize = 2_000;
/// Of a compiled pattern.
const MAX_PATTERN_BYTES: usize = 256 * 1024;
/// Words of a clause that are held against a pattern.
const MAX_WORDS_MATCHED: usize = 40;

/// A validator of a schema that anybody may have written.
pub(super) fn validator(schema: &Value) -> Option<Validator> {
    let patterns =
        PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS).size_limit(MAX_PATTERN_BYTES);
    jsonschema::options().with_pattern_options(patterns).build(&nh_schema::unrolled(schema).ok()?.schema).ok()
}

pub(super) fn matches(text: &str, pattern: &Value) -> bool {
    validator(&serde_json::json!({"pattern": pattern}))
        .is_some_and(|validator| validator.is_valid(&Value::from(text)))
}

/// The first word, or run of up to four words, that matches a pattern.
pub(super) fn matching(clause: &str, pattern: &Value) -> Option<String> {
    let validator = validator(&serde_json::json!({"pattern": pattern}))?;
    let fits = |text: &&str| validator.is_valid(&Value::from(*text));
    if let Some(token) = tokens(clause).take(MAX_WORDS_MATCHED).find(fits) {
        return Some(token.to_owned());
    }
    let mut words = words::words(clause);
    words.truncate(MAX_WORDS_MATCHED);
    let runs = (0..words.len()).flat_map(|from| (from..words.len().min(from + 4)).map(move |to| (from, to)));
    runs.map(|(from, to)| &clause[words[from].start..words[to].end]).find(fits).map(str::to_owned)
}

/// `city Paris`, `subject: "Hello"`, `to = x`.
pub(super) fn after_name(clause: &str, name: &str) -> Option<String> {
    let name = identifier_words(name).join(" ");
    if name.len() < 3 {
        return None;
    }
    let lower = clause.to_ascii_lowercase();
    let at = lower.find(&name)?;
    let is_whole = !lower[..at].ends_with(char::is_alphanumeric)
        && !lower[at + name.len()..].starts_with(char::is_alphanumeric);
    let rest = clause[at + name.len()..].trim_start_matches([' ', ':', '=']);
    if !is_whole {
        return None;
    }
    if let Some((range, text)) = spans::quotations(rest).into_iter().next()
        && range.start == 0
    {
        return Some(text);
    }
    let is_marked = clause[at + name.len()..].trim_start().starts_with([':', '=']);
    let next = tokens(rest).next()?;
    let is_name_like = next.starts_with(char::is_uppercase) || next.bytes().any(|byte| byte.is_ascii_digit());
    (is_marked || is_name_like).then(|| next.to_owned())
}

/// What a clause is about: its text without the command at its beginning and
/// the tool's own words.
pub(super) fn subject(clause: &str, tool: &Tool) -> Option<String> {
    const LEADS: &[&str] = &[
        "the web",
        "the internet",
        "online",
        "for me",
        "up",
        "for",
        "about",
        "the",
        "latest news about",
        "that",
        "of",
        "on",
        "to",
        "with",
    ];
    let mut rest = without_politeness(clause.trim());
    rest = strip_phrase(rest, &tool.name).unwrap_or(rest);
    if let Some(first) = words::words(rest).first()
        && first.start == 0
        && is_command(&first.text.to_lowercase())
    {
        rest = rest[first.end..].trim_start();
        for _ in 0..2 {
            for lead in LEADS {
                rest = strip_phrase(rest, lead).unwrap_or(rest);
            }
        }
    }
    let rest = rest.trim_matches(|letter: char| {
        letter.is_whitespace() || matches!(letter, '.' | '!' | '?' | ',' | ':' | '"' | '“' | '”')
    });
    let says_something = words::words(rest).iter().any(|word| !is_stop_word(&word.text.to_lowercase()));
    says_something.then(|| rest.to_owned())
}

/// The number that an output brings: what stands behind its last `=`, else its
/// only number.
fn result_of(output: &str) -> Option<String> {
    if let Some((_, result)) = output.rsplit_once(['=', '≈']) {
        return numbers(result).into_iter().next().map(|(number, ..)| number);
    }
    match numbers(output).as_slice() {
        [(number, ..)] => Some(number.clone()),
        _ => None,
    }
}

/// The clause with a number of `source` in place of the word that refers to it;
/// the clause itself when it is whole without. None when a number is wanted and
/// there is none.
pub(super) fn with_number_for_pronoun(clause: &str, source: &str) -> Option<String> {
    const BACK: [&str; 8] =
        ["the result", "that result", "this result", "the answer", "that number", "it", "that", "this"];
    let lower = clause.to_ascii_lowercase();
    let masks = spans::masks(clause);
    for phrase in BACK {
        let Some(word) = words::words(&lower).into_iter().find(|word| {
            lower[word.start..].starts_with(phrase)
                && !lower[word.start + phrase.len()..].starts_with(char::is_alphanumeric)
        }) else {
            continue;
        };
        let number = result_of(source)?;
        let replaced = format!("{}{number}{}", &clause[..word.start], &clause[word.start + phrase.len()..]);
        return Some(replaced);
    }
    arithmetic::find(clause, &masks).map(|_| clause.to_owned())
}
