//! Cuts a goal into clauses: the pieces that each ask for one thing.

use std::sync::Arc;

use super::choose::{Choice, choose};
use super::places;
use super::spans::{is_masked, masks};
use super::toolbox::{Role, Tool};
use super::words::{
    self, is_command, is_question_word, stems, strip_phrase, without_politeness, words as words_of,
};

/// One thing that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Clause {
    /// As it was written.
    pub(super) text: String,
    /// The tool of the clause before, for a clause that leaves it out: "… in
    /// Tokyo and **Paris**".
    pub(super) inherited: Option<usize>,
}

/// More is not read.
const MAX_CLAUSES: usize = 32;

/// Places where a goal may be cut; after them it is cut at sentences only. What
/// came before is read again at each of them.
const MAX_CUTS: usize = 2 * MAX_CLAUSES;

/// What may separate two clauses within a sentence; the longest first.
const CONNECTORS: &[&str] = &[
    ", and after that ",
    ", and finally ",
    ", and then ",
    ", and also ",
    ", then ",
    ", also ",
    ", plus ",
    ", and ",
    " and after that ",
    " and finally ",
    " and then ",
    " and also ",
    " as well as ",
    " after that ",
    " then ",
    " and ",
    ", ",
    " & ",
];

pub(super) fn split(goal: &str, tools: &[Arc<Tool>]) -> Vec<Clause> {
    let mut clauses: Vec<Clause> = Vec::new();
    let mut cuts_left = MAX_CUTS;
    for sentence in sentences(goal) {
        let mut pieces = pieces(sentence).into_iter();
        let Some((_, first)) = pieces.next() else { continue };
        let mut current = Clause { text: first.to_owned(), inherited: None };
        for (connector, piece) in pieces {
            let joined = match cuts_left {
                0 => Join::Goes,
                _ => join(&current, piece, tools),
            };
            cuts_left = cuts_left.saturating_sub(1);
            match joined {
                Join::Goes => {
                    current.text.push_str(connector);
                    current.text.push_str(piece);
                }
                Join::Stands(inherited) => {
                    let next = Clause { text: piece.to_owned(), inherited };
                    clauses.push(std::mem::replace(&mut current, next));
                }
            }
        }
        clauses.push(current);
    }
    for clause in &mut clauses {
        clause.text =
            clause.text.trim_matches(|letter: char| letter.is_whitespace() || letter == ',').to_owned();
    }
    clauses.retain(|clause| clause.text.chars().any(char::is_alphanumeric));
    clauses.truncate(MAX_CUTS);
    clauses = merge_remarks(clauses, tools);
    clauses.truncate(MAX_CLAUSES);
    clauses
}

/// "Fetch http://… . Tell me what it says." is one thing asked for.
fn merge_remarks(clauses: Vec<Clause>, tools: &[Arc<Tool>]) -> Vec<Clause> {
    let mut merged: Vec<Clause> = Vec::new();
    for clause in clauses {
        if let Some(before) = merged.last_mut()
            && refers_back(&clause.text)
            && choose(&before.text, before.inherited, tools).call().is_some()
            && choose(&clause.text, None, tools).call().is_none()
        {
            before.text.push_str(". ");
            before.text.push_str(&clause.text);
            continue;
        }
        merged.push(clause);
    }
    merged
}

/// Cuts at line ends, semicolons, and full stops that end a sentence.
fn sentences(goal: &str) -> Vec<&str> {
    let masks = masks(goal);
    let mut found = Vec::new();
    let mut start = 0;
    for (at, letter) in goal.char_indices() {
        let rest = &goal[at + letter.len_utf8()..];
        let ends = match letter {
            '\n' | ';' => true,
            '?' => rest.is_empty() || rest.starts_with(char::is_whitespace),
            // `12! / 10!` is one expression.
            '!' if goal[..at].ends_with(|before: char| before.is_ascii_digit()) => rest.trim().is_empty(),
            '!' => rest.is_empty() || rest.starts_with(char::is_whitespace),
            '.' => {
                let next = rest.trim_start().chars().next();
                let is_apart = rest.is_empty() || rest.starts_with(char::is_whitespace);
                is_apart && !is_abbreviation(&goal[start..at]) && next.is_none_or(|next| !next.is_lowercase())
            }
            _ => false,
        };
        if ends && !is_masked(&masks, at) {
            let end = at + letter.len_utf8();
            found.push(&goal[start..end]);
            start = end;
        }
    }
    found.push(&goal[start..]);
    found
}

/// Whether a full stop after this ends no sentence: `1.` of a list, `e.g.`, `J.`
fn is_abbreviation(before: &str) -> bool {
    let word = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let is_letter = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    let is_dotted = word.contains('.') && word.starts_with(char::is_alphabetic) && word.len() <= 4;
    is_letter || is_dotted || before.trim().bytes().all(|byte| byte.is_ascii_digit())
}

/// A sentence cut at every connector, each piece with the connector before it.
fn pieces(sentence: &str) -> Vec<(&str, &str)> {
    let masks = masks(sentence);
    let lower = sentence.to_ascii_lowercase();
    let mut found = Vec::new();
    let (mut start, mut connector, mut at, mut depth) = (0, "", 0, 0_i32);
    while at < sentence.len() {
        let letter = sentence[at..].chars().next().unwrap_or(' ');
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        let here = CONNECTORS.iter().find(|connector| lower[at..].starts_with(**connector));
        match here {
            Some(here) if depth <= 0 && !is_masked(&masks, at) => {
                found.push((connector, &sentence[start..at]));
                connector = &sentence[at..at + here.len()];
                at += here.len();
                start = at;
            }
            _ => at += letter.len_utf8(),
        }
    }
    found.push((connector, &sentence[start..]));
    found
}

enum Join {
    /// The piece goes on with the clause before.
    Goes,
    /// The piece is a clause of its own.
    Stands(Option<usize>),
}

fn join(current: &Clause, piece: &str, tools: &[Arc<Tool>]) -> Join {
    let before = choose(&current.text, current.inherited, tools).call();
    let own = choose(piece, None, tools);
    if let Choice::Call { is_certain: true, .. } = own {
        return Join::Stands(None);
    }
    if let Some(tool) = before
        && tools[tool].has(Role::Zone)
        && places::is_place(piece)
    {
        // "Tokyo, Japan" is one place.
        let zone = |text: &str| places::find(text).map(|place| place.zone);
        return if zone(piece) == zone(&current.text) { Join::Goes } else { Join::Stands(Some(tool)) };
    }
    if is_detail(piece) {
        return Join::Goes;
    }
    let begins = begins_like_clause(piece);
    if refers_back(piece) {
        // "read it to me" is no second fetch; "double it" is a second calculation.
        let is_new = own.call().is_some_and(|tool| Some(tool) != before || tools[tool].has(Role::Expression));
        return if begins && is_new { Join::Stands(None) } else { Join::Goes };
    }
    if begins && stems(piece).iter().any(|stem| !stem.is_empty()) {
        return Join::Stands(None);
    }
    match before {
        // "the time in Tokyo and the weather in Paris"
        Some(tool) if !tools[tool].takes_free_text() && is_noun_phrase(piece) => Join::Stands(None),
        _ => Join::Goes,
    }
}

fn first_word(text: &str) -> String {
    words_of(without_politeness(text)).first().map(|word| word.text.to_lowercase()).unwrap_or_default()
}

pub(super) fn begins_like_clause(text: &str) -> bool {
    let first = first_word(text);
    let is_asked = ["tell me ", "show me ", "give me "].iter().any(|ask| text.to_lowercase().contains(ask));
    is_question_word(&first) || is_command(&first) || is_asked
}

fn is_noun_phrase(text: &str) -> bool {
    let text = text.trim();
    ["the", "a", "an", "my", "our", "its"].iter().any(|article| strip_phrase(text, article).is_some())
}

/// Whether it speaks of what an earlier clause brings.
pub(super) fn refers_back(text: &str) -> bool {
    const BACK: &[&str] =
        &["it", "its", "that", "this", "them", "they", "those", "result", "results", "answer", "there"];
    words::words(text).iter().any(|word| BACK.contains(&word.text.to_lowercase().as_str()))
}

/// "… and a summary", "… and its title": a part of what was asked before.
fn is_detail(text: &str) -> bool {
    const DETAILS: &[&str] = &[
        "summary",
        "title",
        "content",
        "contents",
        "text",
        "body",
        "headline",
        "headlines",
        "details",
        "summarise",
        "summarize",
    ];
    let said: Vec<String> = words_of(text)
        .iter()
        .map(|word| word.text.to_lowercase())
        .filter(|word| !words::is_stop_word(word))
        .collect();
    !said.is_empty() && said.iter().all(|word| DETAILS.contains(&word.as_str()))
}
