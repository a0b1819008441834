//! Which tool a clause asks for.

use std::sync::Arc;

use super::clauses::{begins_like_clause, refers_back};
use super::toolbox::{Role, Tool, affinities};
use super::words::{self, is_question_word, stems};
use super::{arithmetic, places, spans};

/// What a clause asks for, as far as the tools can tell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Choice {
    Call {
        tool: usize,
        /// A structure of the text (an expression, a URL, a time) or the tool's
        /// name says so, not only a likeness of words.
        is_certain: bool,
    },
    /// Several fit equally well.
    Ambiguous(Vec<usize>),
    /// The words speak for a tool, but what it cannot be called without is not
    /// there.
    Lacks(usize, Role),
    Nothing,
}

impl Choice {
    pub(super) fn call(&self) -> Option<usize> {
        match self {
            Self::Call { tool, .. } => Some(*tool),
            Self::Ambiguous(_) | Self::Lacks(..) | Self::Nothing => None,
        }
    }
}

/// Less than this is chance: one word shared with a description.
const MIN_SCORE: f64 = 1.6;
/// Scores closer than this are equal.
const SAME: f64 = 0.15;
/// A tool is named as the one that fits only when its own name speaks for it.
const MIN_AFFINITY_ALONE: f64 = 2.5;
const NAMED: f64 = 10.0;
const STRUCTURE: f64 = 6.0;

/// What the text of a clause holds, whatever the tools are.
struct Signs {
    stems: Vec<String>,
    has_url: bool,
    has_expression: bool,
    asks_time: bool,
    asks_amount: bool,
    /// Of another time than now.
    is_other_time: bool,
    refers_back: bool,
    is_question: bool,
    lower: String,
}

impl Signs {
    fn read(text: &str) -> Self {
        let masks = spans::masks(text);
        let expression = arithmetic::find(text, &masks);
        // The words of an expression ("times", "of") and of a URL speak for no tool.
        let mut spoken = spans::urls(text).into_iter().map(|(range, _)| range).collect::<Vec<_>>();
        spoken.extend(expression.as_ref().map(|expression| expression.start..expression.end));
        let rest = spans::blank(text, &spoken);
        Self {
            stems: stems(&rest),
            has_url: !spans::urls(text).is_empty(),
            has_expression: expression.is_some(),
            asks_time: asks_time(&rest),
            asks_amount: ["how many", "how much", "how long", "how old", "how far"]
                .iter()
                .any(|phrase| text.to_lowercase().contains(phrase)),
            is_other_time: [
                " ago",
                "tomorrow",
                "yesterday",
                "will it be",
                "was it",
                "next week",
                "last week",
            ]
            .iter()
            .any(|phrase| text.to_lowercase().contains(phrase)),
            refers_back: refers_back(text),
            is_question: is_question(text),
            lower: text.to_lowercase(),
        }
    }
}

fn asks_time(text: &str) -> bool {
    const WORDS: &[&str] = &["time", "clock", "o'clock", "date", "today", "weekday"];
    let lower = text.to_lowercase();
    let says = words::words(&lower).iter().any(|word| WORDS.contains(&word.text));
    let is_other =
        ["how long", "how many times", "release date", "birth date", "first time", "last time", "due date"];
    (says || lower.contains("what day")) && !is_other.iter().any(|phrase| lower.contains(phrase))
}

pub(super) fn choose(text: &str, inherited: Option<usize>, tools: &[Arc<Tool>]) -> Choice {
    if let Some(tool) = inherited {
        return Choice::Call { tool, is_certain: true };
    }
    let signs = Signs::read(text);
    let affinities = affinities(&signs.stems, tools);
    let mut scores: Vec<(usize, f64, bool)> = Vec::new();
    let mut lacking = None;
    for (index, tool) in tools.iter().enumerate() {
        match score(tool, affinities[index], &signs, text) {
            Ok((score, is_certain)) => scores.push((index, score, is_certain)),
            Err(role) if affinities[index] >= MIN_AFFINITY_ALONE => lacking = lacking.or(Some((index, role))),
            Err(_) => {}
        }
    }
    scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    match scores.first() {
        Some(&(tool, best, is_certain)) if best >= MIN_SCORE => {
            let equal: Vec<usize> = scores
                .iter()
                .take_while(|(_, score, _)| best - score < SAME)
                .map(|(index, ..)| *index)
                .collect();
            if equal.len() > 1 { Choice::Ambiguous(equal) } else { Choice::Call { tool, is_certain } }
        }
        _ => match (last_resort(text, &signs, tools), lacking) {
            (Choice::Nothing, Some((tool, role))) => Choice::Lacks(tool, role),
            (choice, _) => choice,
        },
    }
}

/// The score of one tool, and whether a structure of the text speaks for it.
/// An error names what it lacks and cannot be called without.
fn score(tool: &Tool, affinity: f64, signs: &Signs, text: &str) -> Result<(f64, bool), Role> {
    let is_named = signs.lower.contains(&tool.name.to_lowercase()) && tool.name.len() > 3;
    let borrows = signs.refers_back && (affinity >= MIN_SCORE || is_named);
    if tool.requires(Role::Url) && !signs.has_url && !borrows {
        return Err(Role::Url);
    }
    if tool.requires(Role::Expression) && !signs.has_expression && !(borrows && is_calculation(signs, text)) {
        return Err(Role::Expression);
    }
    let mut score = affinity;
    let mut is_certain = false;
    let mut add = |is_sign: bool, points: f64| {
        if is_sign {
            score += points;
            is_certain = true;
        }
    };
    add(is_named, NAMED);
    add(tool.has(Role::Url) && signs.has_url, STRUCTURE);
    add(tool.has(Role::Expression) && signs.has_expression, STRUCTURE);
    add(tool.has(Role::Zone) && signs.asks_time && !signs.has_url, STRUCTURE - 2.0);
    // "What do you remember …" asks; "Remember that …" tells.
    if signs.is_question && tool.keeps() {
        return Ok((0.0, false));
    }
    if tool.has(Role::Place) && places::find(text).is_some() {
        score += 0.5;
    }
    if tool.has(Role::Url) && !tool.requires(Role::Url) && !signs.has_url {
        score -= 0.5;
    }
    // "How many days …" asks for a number, "… 3 hours ago" for another time.
    if tool.has(Role::Zone) && (signs.is_other_time || (signs.asks_amount && !signs.asks_time)) {
        return Ok((0.0, false));
    }
    Ok((score, is_certain))
}

/// Whether a clause about an earlier result says what to do with it: "divide it
/// by 2", "double that".
fn is_calculation(signs: &Signs, text: &str) -> bool {
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    has_digit || ["double", "triple", "halve", "half of"].iter().any(|word| signs.lower.contains(word))
}

fn is_question(text: &str) -> bool {
    let first = words::words(words::without_politeness(text)).first().map(|word| word.text.to_lowercase());
    text.trim_end().ends_with('?') || first.as_deref().is_some_and(is_question_word)
}

/// A question that no tool is made for can still be searched for: out there if
/// that can be done, else in what is remembered.
fn last_resort(text: &str, signs: &Signs, tools: &[Arc<Tool>]) -> Choice {
    let is_about_something = !signs.stems.is_empty() && !signs.refers_back;
    let searches = |tool: &Arc<Tool>| tool.requires(Role::Query);
    let is_outward = |tool: &Arc<Tool>| searches(tool) && !tool.name.contains("memory");
    let search = tools.iter().position(is_outward).or_else(|| tools.iter().position(searches));
    match search {
        Some(tool) if signs.is_question && is_about_something && begins_like_clause(text) => {
            Choice::Call { tool, is_certain: false }
        }
        _ => Choice::Nothing,
    }
}
