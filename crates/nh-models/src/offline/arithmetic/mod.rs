//! Expressions in a text: `17 * 23`, `15% of 240`, `the sum of 3 and 4`, `the
//! square root of 144`, `5 km in miles`.

mod tokens;
mod worded;

use tokens::{Kind, Token, tokens};
use worded::worded;

/// An expression that stands in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expression {
    /// In the notation that calculators share.
    pub(super) text: String,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The longest expression of a text; None when nothing in it is to be
/// calculated. Text between `masked` ranges (URLs, quotations) is left alone.
pub(super) fn find(text: &str, masked: &[std::ops::Range<usize>]) -> Option<Expression> {
    let tokens = tokens(text, masked);
    worded(text, &tokens).or_else(|| longest_run(&tokens))
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
            ("What's 20% off 50 dollars", "50 * (1 - 20 / 100)"),
            ("add a 10% tip to $45.50", "45.50 * (1 + 10 / 100)"),
            ("double 15", "15 * 2"),
            ("how many seconds are in a day?", "1 day to seconds"),
            ("How many minutes are there in 3 hours", "3 hours to minutes"),
            ("What is 100 km/h in mph", "100 km/h to mph"),
            ("20 °C to °F", "20 °C to °F"),
            ("12! / 10!", "12! / 10!"),
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
