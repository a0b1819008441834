//! The symbols, numbers and words of a text that can be part of an expression.

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
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
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
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

pub(super) fn tokens(text: &str, masked: &[std::ops::Range<usize>]) -> Vec<Token> {
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
        let (kind, length) = token(rest, letter, &found);
        found.push(Token { kind, start: at, end: at + length });
        at += length;
    }
    found
}

fn token(rest: &str, letter: char, found: &[Token]) -> (Kind, usize) {
    let before = found.last().map(|token| &token.kind);
    let after_value = matches!(before, Some(Kind::Number(_) | Kind::Close | Kind::Postfix(_)));
    // At the end it is an exclamation, unless there was a factorial before.
    let may_be_factorial = after_value
        && (!rest[letter.len_utf8()..].trim().is_empty()
            || found.iter().any(|token| token.kind == Kind::Postfix("!")));
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
        '!' if may_be_factorial => Kind::Postfix("!"),
        ',' => Kind::Separator,
        '°' if rest[2..].starts_with(['C', 'F']) => return (Kind::Unit(rest[..3].to_owned()), 3),
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
        for per in ["/h", "/s"] {
            if rest[length..].starts_with(per)
                && !rest[length + per.len()..].starts_with(char::is_alphanumeric)
            {
                return (Kind::Unit(format!("{word}{per}")), length + per.len());
            }
        }
        return (Kind::Unit(word), length);
    }
    (Kind::Other, length)
}
