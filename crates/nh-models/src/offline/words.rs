//! Words of a text: cut, stemmed, and freed of those that say nothing.

use std::sync::LazyLock;

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// Letters, digits and what joins them within a word.
pub(super) fn words(text: &str) -> Vec<Word<'_>> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, letter) in text.char_indices() {
        let is_inside = letter.is_alphanumeric() || (start.is_some() && matches!(letter, '\'' | '’'));
        match (is_inside, start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push(Word { text: &text[from..at], start: from, end: at });
                start = None;
            }
            _ => {}
        }
    }
    if let Some(from) = start {
        found.push(Word { text: &text[from..], start: from, end: text.len() });
    }
    found
}

/// The words of an identifier: `http_fetch`, `timeZone`, `web-search`.
pub(super) fn identifier_words(name: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut was_lower = false;
    for letter in name.chars() {
        let begins = letter.is_uppercase() && was_lower;
        if (!letter.is_alphanumeric() || begins) && !word.is_empty() {
            found.push(std::mem::take(&mut word));
        }
        if letter.is_alphanumeric() {
            word.extend(letter.to_lowercase());
        }
        was_lower = letter.is_lowercase();
    }
    if !word.is_empty() {
        found.push(word);
    }
    found
}

/// The stems of the words that say something.
pub(super) fn stems(text: &str) -> Vec<String> {
    words(text)
        .iter()
        .map(|word| word.text.to_lowercase())
        .filter(|word| !is_stop_word(word))
        .map(|word| stem(&word))
        .collect()
}

const SUFFIXES: [&str; 21] = [
    "ations", "ation", "ators", "ating", "ator", "ated", "ates", "ings", "ions", "ate", "ing", "ion", "ies",
    "ers", "ed", "es", "er", "ly", "s", "e", "y",
];
const MIN_STEM_CHARS: usize = 3;

/// A light stemmer: enough that `calculate`, `calculator` and `calculation`
/// meet.
pub(super) fn stem(word: &str) -> String {
    if word == "news" || !word.is_ascii() {
        return word.to_owned();
    }
    let cut = SUFFIXES
        .iter()
        .find_map(|suffix| word.strip_suffix(suffix).filter(|rest| rest.len() >= MIN_STEM_CHARS));
    let Some(rest) = cut else { return word.to_owned() };
    let mut letters = rest.bytes().rev();
    match (letters.next(), letters.next()) {
        (Some(last), Some(before))
            if last == before && last != b'l' && last != b's' && rest.len() > MIN_STEM_CHARS =>
        {
            rest[..rest.len() - 1].to_owned()
        }
        _ => rest.to_owned(),
    }
}

/// In the order of their bytes.
const STOP_WORDS: &[&str] = &[
    "a", "about", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by",
    "can", "could", "did", "do", "does", "for", "from", "give", "given", "had", "has", "have", "how", "i",
    "i'd", "if", "in", "into", "is", "it", "it's", "its", "itself", "just", "know", "let", "like", "many",
    "may", "me", "much", "must", "my", "need", "new", "no", "not", "of", "on", "one", "only", "or", "our",
    "out", "please", "say", "says", "shall", "she", "should", "so", "some", "such", "tell", "than", "that",
    "the", "their", "them", "then", "there", "these", "they", "this", "those", "to", "tool", "up", "us",
    "use", "used", "using", "want", "was", "we", "were", "what", "what's", "whats", "when", "where", "which",
    "who", "whose", "why", "will", "with", "would", "you", "your",
];

pub(super) fn is_stop_word(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_ok()
}

/// Words that people use for one another when they ask for something.
const KINDRED: &[&[&str]] = &[
    &[
        "calculate",
        "compute",
        "evaluate",
        "math",
        "maths",
        "arithmetic",
        "work",
        "sum",
        "solve",
        "multiply",
        "divide",
        "subtract",
        "add",
        "double",
        "halve",
    ],
    &["time", "clock", "hour", "date", "day", "today", "now", "o'clock"],
    &[
        "fetch", "download", "open", "read", "visit", "load", "page", "website", "site", "url", "http",
        "https",
    ],
    &["search", "find", "look", "google", "news", "latest", "research"],
    &["weather", "forecast", "temperature", "rain"],
    &["email", "mail", "send", "message"],
    &["delete", "remove", "erase"],
    &["create", "make", "add", "save", "store", "write"],
    &["list", "show", "every"],
    &["translate", "translation", "language"],
    &["remember", "note", "keep", "store"],
    &["recall", "memory"],
    &["run", "execute", "code", "python", "script"],
];

/// Their stems.
static KINDRED_STEMS: LazyLock<Vec<Vec<String>>> =
    LazyLock::new(|| KINDRED.iter().map(|group| group.iter().map(|word| stem(word)).collect()).collect());

/// The stems of the words akin to one with this stem, without itself.
pub(super) fn kindred(of: &str) -> impl Iterator<Item = &'static str> {
    KINDRED_STEMS
        .iter()
        .filter(move |group| group.iter().any(|stem| stem == of))
        .flatten()
        .map(String::as_str)
        .filter(move |other| *other != of)
}

const QUESTION_WORDS: &[&str] = &[
    "what", "what's", "whats", "when", "when's", "where", "where's", "which", "who", "who's", "whose", "why",
    "how", "is", "are", "does", "do", "did", "was", "were", "has", "have", "will",
];

const COMMANDS: &[&str] = &[
    "add",
    "browse",
    "calculate",
    "call",
    "check",
    "compare",
    "compute",
    "convert",
    "count",
    "create",
    "define",
    "delete",
    "describe",
    "divide",
    "double",
    "download",
    "draw",
    "evaluate",
    "execute",
    "explain",
    "fetch",
    "find",
    "forecast",
    "get",
    "give",
    "google",
    "halve",
    "invoke",
    "list",
    "load",
    "look",
    "lookup",
    "make",
    "multiply",
    "open",
    "play",
    "print",
    "query",
    "read",
    "remember",
    "remove",
    "report",
    "retrieve",
    "run",
    "save",
    "search",
    "send",
    "show",
    "solve",
    "store",
    "subtract",
    "sum",
    "summarise",
    "summarize",
    "tell",
    "translate",
    "use",
    "visit",
    "write",
];

const POLITE: &[&str] = &[
    "please", "then", "also", "and", "now", "first", "next", "finally", "so", "kindly", "hey", "hi", "hello",
];
const POLITE_PHRASES: &[&str] = &[
    "can you",
    "could you",
    "would you",
    "will you",
    "i want you to",
    "i would like you to",
    "i'd like you to",
    "i want to know",
    "i would like to know",
    "i'd like to know",
    "i need to know",
    "i need",
    "let me know",
    "tell me",
    "show me",
    "give me",
];

pub(super) fn is_question_word(word: &str) -> bool {
    QUESTION_WORDS.contains(&word)
}

pub(super) fn is_command(word: &str) -> bool {
    COMMANDS.contains(&word)
}

/// The text without what only makes it polite, at its beginning.
pub(super) fn without_politeness(text: &str) -> &str {
    let mut rest = text
        .trim_start_matches(|letter: char| !letter.is_alphanumeric() && !matches!(letter, '-' | '(' | '"'));
    loop {
        let before = rest;
        for phrase in POLITE_PHRASES.iter().chain(POLITE) {
            if let Some(shorter) = strip_phrase(rest, phrase) {
                rest = shorter;
            }
        }
        if rest.len() == before.len() {
            return rest;
        }
    }
}

/// The text after `phrase`, when it begins with it as whole words.
pub(super) fn strip_phrase<'a>(text: &'a str, phrase: &str) -> Option<&'a str> {
    let head = text.get(..phrase.len())?;
    let rest = &text[phrase.len()..];
    let is_whole = rest.chars().next().is_none_or(|letter| !letter.is_alphanumeric() && letter != '\'');
    (head.eq_ignore_ascii_case(phrase) && is_whole).then(|| rest.trim_start_matches([' ', ',', ':', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kin_of_a_word_meet_in_one_stem() {
        for other in ["calculator", "calculation", "calculates", "calculating"] {
            assert_eq!(stem(other), stem("calculate"), "{other}");
        }
        assert_eq!(stem("searches"), stem("searching"));
        assert_eq!(stem("pages"), stem("page"));
        assert_ne!(stem("news"), stem("new"));
    }

    #[test]
    fn stop_words_are_found_by_their_order() {
        assert!(STOP_WORDS.is_sorted());
        assert!(is_stop_word("the") && is_stop_word("i'd") && !is_stop_word("calculate"));
    }

    #[test]
    fn names_of_tools_fall_into_words() {
        assert_eq!(identifier_words("http_fetch"), ["http", "fetch"]);
        assert_eq!(identifier_words("getTimeZone"), ["get", "time", "zone"]);
    }

    #[test]
    fn politeness_is_cut_off_at_whole_words() {
        assert_eq!(without_politeness("Could you please tell me the time"), "the time");
        assert_eq!(without_politeness("andorra"), "andorra");
        assert_eq!(without_politeness("¿"), "");
    }
}
