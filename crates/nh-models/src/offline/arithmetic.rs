//! Expressions in a text: `17 * 23`, `15% of 240`, `the sum of 3 and 4`, `the
//! square root of 144`, `5 km in miles`.

/// An expression that stands in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expression {
    /// In the notation that calculators share.
    pub(super) text: String,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Number(String),
    /// An operator between two values.
    Infix(&'static str),
    /// What follows its value: `%`, `^2`, `!`.
    Postfix(&'static str),
    /// What precedes its value: `sqrt`.
    Function(&'static str),
    Open,
    Close,
    /// `of` after a percentage.
    Of,
    /// `km`, `miles`.
    Unit(String),
    /// `in`, `to`: only between units.
    Into,
    Separator,
    Other,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Words that mean an operator; the longest first.
const PHRASES: &[(&str, Kind)] = &[
    ("raised to the power of", Kind::Infix("^")),
    ("to the power of", Kind::Infix("^")),
    ("the square root of", Kind::Function("sqrt")),
    ("square root of", Kind::Function("sqrt")),
    ("the cube root of", Kind::Function("cbrt")),
    ("cube root of", Kind::Function("cbrt")),
    ("multiplied by", Kind::Infix("*")),
    ("multiplied with", Kind::Infix("*")),
    ("divided by", Kind::Infix("/")),
    ("percent of", Kind::Postfix("% of")),
    ("per cent", Kind::Postfix("%")),
    ("percent", Kind::Postfix("%")),
    ("plus", Kind::Infix("+")),
    ("minus", Kind::Infix("-")),
    ("times", Kind::Infix("*")),
    ("modulo", Kind::Infix("mod")),
    ("mod", Kind::Infix("mod")),
    ("squared", Kind::Postfix("^2")),
    ("cubed", Kind::Postfix("^3")),
    ("factorial", Kind::Postfix("!")),
    ("sqrt", Kind::Function("sqrt")),
    ("sin", Kind::Function("sin")),
    ("cos", Kind::Function("cos")),
    ("tan", Kind::Function("tan")),
    ("ln", Kind::Function("ln")),
    ("log", Kind::Function("log")),
    ("abs", Kind::Function("abs")),
    ("of", Kind::Of),
    ("into", Kind::Into),
    ("in", Kind::Into),
    ("to", Kind::Into),
    ("and", Kind::Separator),
];

const NUMBER_WORDS: &[(&str, &str)] = &[
    ("zero", "0"),
    ("one", "1"),
    ("two", "2"),
    ("three", "3"),
    ("four", "4"),
    ("five", "5"),
    ("six", "6"),
    ("seven", "7"),
    ("eight", "8"),
    ("nine", "9"),
    ("ten", "10"),
    ("eleven", "11"),
    ("twelve", "12"),
    ("thirteen", "13"),
    ("fifteen", "15"),
    ("twenty", "20"),
    ("thirty", "30"),
    ("forty", "40"),
    ("fifty", "50"),
    ("hundred", "100"),
    ("thousand", "1000"),
];

const UNITS: &[&str] = &[
    "km",
    "kilometer",
    "kilometers",
    "kilometre",
    "kilometres",
    "m",
    "meter",
    "meters",
    "metre",
    "metres",
    "cm",
    "centimeters",
    "centimetres",
    "mm",
    "mile",
    "miles",
    "mi",
    "feet",
    "foot",
    "ft",
    "inch",
    "inches",
    "yards",
    "yard",
    "kg",
    "kilogram",
    "kilograms",
    "g",
    "gram",
    "grams",
    "lb",
    "lbs",
    "pound",
    "pounds",
    "oz",
    "ounce",
    "ounces",
    "celsius",
    "fahrenheit",
    "kelvin",
    "second",
    "seconds",
    "minute",
    "minutes",
    "hour",
    "hours",
    "day",
    "days",
    "week",
    "weeks",
    "liter",
    "liters",
    "litre",
    "litres",
    "gallon",
    "gallons",
    "mb",
    "gb",
    "kb",
    "bytes",
    "kph",
    "mph",
];

/// The longest expression of a text; None when nothing in it is to be
/// calculated. Text between `masked` ranges (URLs, quotations) is left alone.
pub(super) fn find(text: &str, masked: &[std::ops::Range<usize>]) -> Option<Expression> {
    let tokens = tokens(text, masked);
    worded(text, &tokens).or_else(|| longest_run(&tokens))
}

fn tokens(text: &str, masked: &[std::ops::Range<usize>]) -> Vec<Token> {
    let mut found: Vec<Token> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if let Some(range) = masked.iter().find(|range| range.contains(&at)) {
            found.push(Token { kind: Kind::Other, start: at, end: range.end });
            at = range.end.max(at + 1);
            continue;
        }
        let rest = &text[at..];
        let letter = rest.chars().next().unwrap_or(' ');
        if letter.is_whitespace() {
            at += letter.len_utf8();
            continue;
        }
        let (kind, length) = token(rest, letter, found.last().map(|token| &token.kind));
        found.push(Token { kind, start: at, end: at + length });
        at += length;
    }
    found
}

fn token(rest: &str, letter: char, before: Option<&Kind>) -> (Kind, usize) {
    let after_value = matches!(before, Some(Kind::Number(_) | Kind::Close | Kind::Postfix(_)));
    if letter.is_ascii_digit() || (letter == '.' && rest[1..].starts_with(|next: char| next.is_ascii_digit()))
    {
        return number(rest);
    }
    let symbol = match letter {
        '+' => Kind::Infix("+"),
        '-' | '−' | '–' => Kind::Infix("-"),
        '*' if rest.starts_with("**") => return (Kind::Infix("^"), 2),
        '*' | '×' | '·' => Kind::Infix("*"),
        '/' | '÷' => Kind::Infix("/"),
        '^' => Kind::Infix("^"),
        '(' => Kind::Open,
        ')' => Kind::Close,
        '%' => Kind::Postfix("%"),
        '!' if after_value && !rest[1..].trim().is_empty() => Kind::Postfix("!"),
        ',' => Kind::Separator,
        '$' | '€' | '£' => return (Kind::Separator, letter.len_utf8()),
        'x' | 'X' if after_value && !rest[1..].starts_with(char::is_alphabetic) => Kind::Infix("*"),
        _ if letter.is_alphabetic() => return word(rest),
        _ => Kind::Other,
    };
    (symbol, letter.len_utf8())
}

/// `1,234.5` is one number; `2026-02-06` and `1.2.3` are none.
fn number(rest: &str) -> (Kind, usize) {
    let bytes = rest.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let is_date = rest.len() >= 10
        && bytes[..10]
            .iter()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { *byte == b'-' } else { byte.is_ascii_digit() });
    if is_date {
        return (Kind::Other, 10);
    }
    let mut end = 0;
    let mut points = 0;
    while end < bytes.len() {
        let grouped = bytes[end] == b',' && (1..=3).all(|next| is_digit(end + next)) && !is_digit(end + 4);
        let point = bytes[end] == b'.' && is_digit(end + 1);
        if !(is_digit(end) || grouped || point) {
            break;
        }
        points += usize::from(point);
        end += 1;
    }
    if points > 1 {
        return (Kind::Other, end);
    }
    (Kind::Number(rest[..end].replace(',', "")), end)
}

fn word(rest: &str) -> (Kind, usize) {
    let length = rest.find(|letter: char| !letter.is_alphanumeric() && letter != '\'').unwrap_or(rest.len());
    for (phrase, kind) in PHRASES {
        let is_here = rest.get(..phrase.len()).is_some_and(|head| head.eq_ignore_ascii_case(phrase))
            && !rest[phrase.len()..].starts_with(char::is_alphanumeric);
        if is_here {
            return (kind.clone(), phrase.len());
        }
    }
    let word = rest[..length].to_lowercase();
    if let Some((_, digits)) = NUMBER_WORDS.iter().find(|(name, _)| *name == word) {
        return (Kind::Number((*digits).to_owned()), length);
    }
    if UNITS.contains(&word.as_str()) {
        return (Kind::Unit(word), length);
    }
    (Kind::Other, length)
}

/// `add 5 and 7`, `the sum of 1, 2 and 3`, `subtract 4 from 10`, `the average of
/// 3 and 5`.
fn worded(text: &str, tokens: &[Token]) -> Option<Expression> {
    const FORMS: &[(&str, Form)] = &[
        ("sum of", Form::Join("+")),
        ("product of", Form::Join("*")),
        ("difference between", Form::Join("-")),
        ("difference of", Form::Join("-")),
        ("average of", Form::Mean),
        ("mean of", Form::Mean),
        ("half of", Form::Half),
        ("add", Form::Join("+")),
        ("multiply", Form::Join("*")),
        ("divide", Form::Join("/")),
        ("subtract", Form::Reverse("-")),
    ];
    let lower = text.to_ascii_lowercase();
    for (phrase, form) in FORMS {
        let Some(start) = find_word(&lower, phrase) else { continue };
        let numbers = numbers_after(&lower, tokens, start + phrase.len());
        let (Some(last), values) =
            (numbers.last(), numbers.iter().map(|(value, _)| value.as_str()).collect::<Vec<_>>())
        else {
            continue;
        };
        let expression = match form {
            Form::Half => format!("{} / 2", values[0]),
            _ if values.len() < 2 => continue,
            Form::Join(operator) => values.join(&format!(" {operator} ")),
            Form::Mean => format!("({}) / {}", values.join(" + "), values.len()),
            Form::Reverse(operator) => format!("{} {operator} {}", values[1], values[0]),
        };
        return Some(Expression { text: expression, start, end: last.1 });
    }
    None
}

#[derive(Clone, Copy)]
enum Form {
    Join(&'static str),
    Reverse(&'static str),
    Mean,
    Half,
}

fn find_word(text: &str, phrase: &str) -> Option<usize> {
    let at = text.find(phrase)?;
    let begins = !text[..at].ends_with(char::is_alphanumeric);
    let ends = !text[at + phrase.len()..].starts_with(char::is_alphanumeric);
    (begins && ends).then_some(at)
}

/// The numbers of a list such as `1, 2 and 3` or `4 from 10`, with their ends.
/// An operator among them makes it no list.
fn numbers_after(lower: &str, tokens: &[Token], from: usize) -> Vec<(String, usize)> {
    let mut numbers = Vec::new();
    for token in tokens.iter().skip_while(|token| token.start < from) {
        match &token.kind {
            Kind::Number(value) => numbers.push((value.clone(), token.end)),
            Kind::Separator | Kind::Into => {}
            Kind::Infix("-") if numbers.is_empty() => return Vec::new(),
            Kind::Other
                if matches!(&lower[token.start..token.end], "by" | "from" | "with" | "the" | "numbers") => {}
            Kind::Infix(_) | Kind::Postfix(_) | Kind::Function(_) | Kind::Open | Kind::Close | Kind::Of => {
                return Vec::new();
            }
            Kind::Unit(_) | Kind::Other => break,
        }
    }
    numbers
}

fn longest_run(tokens: &[Token]) -> Option<Expression> {
    let mut best: Option<Expression> = None;
    let mut at = 0;
    while at < tokens.len() {
        match run(&tokens[at..]) {
            Some((expression, used)) => {
                if best.as_ref().is_none_or(|best| expression.text.len() > best.text.len()) {
                    best = Some(expression);
                }
                at += used.max(1);
            }
            None => at += 1,
        }
    }
    best
}

/// Reads as long as it makes sense; gives the text up to the last whole value.
fn run(tokens: &[Token]) -> Option<(Expression, usize)> {
    let mut text = String::new();
    let mut whole: Option<(String, usize)> = None;
    let (mut depth, mut has_value, mut operators) = (0_usize, false, 0_usize);
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match &token.kind {
            Kind::Number(value) if !has_value => {
                text.push_str(value);
                has_value = true;
                if let Some((unit, target)) = conversion(&tokens[at..]) {
                    text.push_str(&format!(" {unit} to {target}"));
                    return Some((expression(text, tokens, at + 3), at + 4));
                }
            }
            Kind::Infix("-") if !has_value && !text.ends_with('-') => text.push('-'),
            Kind::Infix(operator) if has_value => {
                text.push_str(&format!(" {operator} "));
                (has_value, operators) = (false, operators + 1);
            }
            Kind::Postfix(sign) if has_value => {
                let ends_value = !sign.ends_with("of");
                text.push_str(sign);
                if !ends_value {
                    text.push(' ');
                }
                (has_value, operators) = (ends_value, operators + 1);
            }
            Kind::Of if has_value && text.ends_with('%') => {
                text.push_str(" of ");
                has_value = false;
            }
            Kind::Function(name) if !has_value => {
                let is_called = matches!(tokens.get(at + 1).map(|next| &next.kind), Some(Kind::Open));
                text.push_str(name);
                operators += 1;
                if !is_called {
                    let Some(Kind::Number(value)) = tokens.get(at + 1).map(|next| &next.kind) else { break };
                    text.push_str(&format!("({value})"));
                    has_value = true;
                    at += 1;
                }
            }
            Kind::Open if !has_value => {
                text.push('(');
                depth += 1;
            }
            Kind::Close if has_value && depth > 0 => {
                text.push(')');
                depth -= 1;
            }
            _ => break,
        }
        if has_value && depth == 0 && operators > 0 && text.bytes().any(|byte| byte.is_ascii_digit()) {
            // A percentage alone is not yet a calculation.
            let is_bare_percentage = operators == 1 && text.ends_with('%');
            if !is_bare_percentage {
                whole = Some((text.clone(), at));
            }
        }
        at += 1;
    }
    whole.map(|(text, last)| (expression(text, tokens, last), last + 1))
}

fn expression(text: String, tokens: &[Token], last: usize) -> Expression {
    Expression { text, start: tokens[0].start, end: tokens[last].end }
}

/// `5 km in miles`.
fn conversion(tokens: &[Token]) -> Option<(&str, &str)> {
    match (&tokens.get(1)?.kind, &tokens.get(2)?.kind, &tokens.get(3)?.kind) {
        (Kind::Unit(from), Kind::Into, Kind::Unit(into)) => Some((from, into)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<String> {
        find(text, &[]).map(|expression| expression.text)
    }

    #[test]
    fn expressions_are_found_in_plain_words() {
        for (text, expected) in [
            ("What is 17 * 23", "17 * 23"),
            ("calculate 15% of 240", "15% of 240"),
            ("15 percent of 240", "15% of 240"),
            ("what's 3x4?", "3 * 4"),
            ("(1 + 2) * 3 = ?", "(1 + 2) * 3"),
            ("how much is seven times eight", "7 * 8"),
            ("the square root of 144 plus 3", "sqrt(144) + 3"),
            ("2 to the power of 10", "2 ^ 10"),
            ("5 squared", "5^2"),
            ("1,234 * 5", "1234 * 5"),
            ("-5 + 3.5", "-5 + 3.5"),
            ("the sum of 1, 2 and 3", "1 + 2 + 3"),
            ("subtract 4 from 10", "10 - 4"),
            ("divide 10 by 4", "10 / 4"),
            ("the average of 3 and 5", "(3 + 5) / 2"),
            ("convert 5 km to miles", "5 km to miles"),
            ("sqrt(16) / 2", "sqrt(16) / 2"),
            ("12 ÷ 4 − 1", "12 / 4 - 1"),
        ] {
            assert_eq!(found(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_calculation_is_none() {
        for text in [
            "the year 2026",
            "on 2026-02-06",
            "version 1.2.3",
            "a + b",
            "5",
            "50%",
            "",
            "- -",
            "top 5 and 6",
            "in Tokyo",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn masked_text_is_left_alone() {
        let text = "http://x/1+2 and 3 + 4";
        assert_eq!(
            find(text, std::slice::from_ref(&(0..12))).map(|found| found.text).as_deref(),
            Some("3 + 4")
        );
    }
}
