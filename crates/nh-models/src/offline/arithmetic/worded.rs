//! Expressions that are said in words: `add 5 and 7`, `20% off 50`.

use super::Expression;
use super::tokens::{Kind, Token};

#[derive(Clone, Copy)]
enum Form {
    Join(&'static str),
    Reverse(&'static str),
    Mean,
    /// What happens to a single number.
    Alone(&'static str),
}

const FORMS: &[(&str, Form)] = &[
    ("sum of", Form::Join("+")),
    ("product of", Form::Join("*")),
    ("difference between", Form::Join("-")),
    ("difference of", Form::Join("-")),
    ("average of", Form::Mean),
    ("mean of", Form::Mean),
    ("half of", Form::Alone(" / 2")),
    ("halve", Form::Alone(" / 2")),
    ("double", Form::Alone(" * 2")),
    ("triple", Form::Alone(" * 3")),
    ("add", Form::Join("+")),
    ("multiply", Form::Join("*")),
    ("divide", Form::Join("/")),
    ("subtract", Form::Reverse("-")),
];

pub(super) fn worded(text: &str, tokens: &[Token]) -> Option<Expression> {
    let lower = text.to_ascii_lowercase();
    percentage_change(&lower, tokens)
        .or_else(|| how_many(&lower, tokens))
        .or_else(|| FORMS.iter().find_map(|(phrase, form)| with_form(&lower, tokens, phrase, *form)))
}

fn with_form(lower: &str, tokens: &[Token], phrase: &str, form: Form) -> Option<Expression> {
    let start = find_word(lower, phrase)?;
    let numbers = numbers_after(lower, tokens, start + phrase.len());
    let end = numbers.last()?.1;
    let values: Vec<&str> = numbers.iter().map(|(value, _)| value.as_str()).collect();
    let text = match form {
        Form::Alone(change) => format!("{}{change}", values[0]),
        _ if values.len() < 2 => return None,
        Form::Join(operator) => values.join(&format!(" {operator} ")),
        Form::Mean => format!("({}) / {}", values.join(" + "), values.len()),
        Form::Reverse(operator) => format!("{} {operator} {}", values[1], values[0]),
    };
    Some(Expression { text, start, end })
}

fn find_word(text: &str, phrase: &str) -> Option<usize> {
    text.match_indices(phrase).map(|(at, _)| at).find(|at| {
        let begins = !text[..*at].ends_with(char::is_alphanumeric);
        begins && !text[at + phrase.len()..].starts_with(char::is_alphanumeric)
    })
}

/// The numbers of a list such as `1, 2 and 3` or `4 from 10`, with their ends.
/// An operator among them makes it no list.
fn numbers_after(lower: &str, tokens: &[Token], from: usize) -> Vec<(String, usize)> {
    let mut numbers = Vec::new();
    for token in tokens.iter().skip_while(|token| token.start < from) {
        match &token.kind {
            Kind::Number(value) => numbers.push((value.clone(), token.end)),
            Kind::Separator | Kind::Into => {}
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

/// Words that may stand between a percentage and what it is of.
const MAX_BETWEEN: usize = 3;

/// `20% off 50`, `add a 10% tip to 45.50`.
fn percentage_change(lower: &str, tokens: &[Token]) -> Option<Expression> {
    let at = tokens.windows(2).position(|pair| {
        matches!(pair[0].kind, Kind::Number(_)) && matches!(pair[1].kind, Kind::Postfix("%"))
    })?;
    let rest = &tokens[at + 2..];
    let gap = rest
        .iter()
        .take_while(|token| matches!(token.kind, Kind::Other | Kind::Into | Kind::Separator))
        .count();
    let base = rest.get(gap).filter(|_| (1..=MAX_BETWEEN).contains(&gap))?;
    let (Kind::Number(percent), Kind::Number(amount)) = (&tokens[at].kind, &base.kind) else { return None };
    let said = |words: &[&str]| words.iter().any(|word| find_word(lower, word).is_some());
    let sign = if said(&["off", "discount", "less", "reduce", "subtract", "decrease"]) {
        '-'
    } else if said(&["add", "tip", "tax", "increase", "raise"]) {
        '+'
    } else {
        return None;
    };
    let text = format!("{amount} * (1 {sign} {percent} / 100)");
    Some(Expression { text, start: tokens[at].start, end: base.end })
}

/// `how many seconds are in a day`.
fn how_many(lower: &str, tokens: &[Token]) -> Option<Expression> {
    let start = find_word(lower, "how many")?;
    let units: Vec<(usize, &str)> = tokens
        .iter()
        .enumerate()
        .filter(|(_, token)| token.start > start)
        .filter_map(
            |(at, token)| if let Kind::Unit(unit) = &token.kind { Some((at, unit.as_str())) } else { None },
        )
        .collect();
    let [(first, into), (last, from)] = units.as_slice() else { return None };
    let has_in = tokens[*first..*last].iter().any(|token| token.kind == Kind::Into);
    let count = match &tokens[last - 1].kind {
        Kind::Number(number) => number.as_str(),
        _ => "1",
    };
    has_in.then(|| Expression { text: format!("{count} {from} to {into}"), start, end: tokens[*last].end })
}
