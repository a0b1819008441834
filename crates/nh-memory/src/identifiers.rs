//! Identifiers in a text: what a person writes exactly, such as `E1234`,
//! `parse_config`, `invoice.rs` or `v2.1`. Embeddings blur them, so a search
//! that names one looks for it as it is written.
//!
//! And names: words that begin with a capital. A name that few memories share
//! says that they are about the same thing.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

/// Of one text.
const MAX_IDENTIFIERS: usize = 64;
const MAX_BYTES: usize = 128;

/// The identifiers of a text, in lower case, each once. Of a path, its parts
/// that are identifiers too.
pub(crate) fn identifiers(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for token in text.split(is_separator) {
        add(token, &mut found);
        if token.contains('/') {
            token.split('/').for_each(|part| add(part, &mut found));
        }
        if found.len() >= MAX_IDENTIFIERS {
            break;
        }
    }
    found
}

fn is_separator(letter: char) -> bool {
    letter.is_whitespace() || "\"'`“”‘’«»()[]{}<>,;!?|=*".contains(letter)
}

fn add(token: &str, found: &mut BTreeSet<String>) {
    let token = token.trim_matches(|letter: char| !letter.is_alphanumeric() && letter != '_');
    let token = token.strip_suffix("'s").unwrap_or(token);
    if token.len() <= MAX_BYTES && is_identifier(token) {
        found.insert(token.to_lowercase());
    }
}

/// With a digit, a sign within, or capitals where a word has none.
fn is_identifier(token: &str) -> bool {
    let has = |test: fn(char) -> bool| token.chars().any(test);
    let letters = token.chars().filter(|letter| letter.is_alphabetic()).count();
    let within = || token.chars().skip(1).any(char::is_uppercase) && has(char::is_lowercase);
    let is_acronym = || letters >= 2 && !has(char::is_lowercase) && has(char::is_uppercase);
    has(|letter| letter.is_ascii_digit())
        || has(|letter| matches!(letter, '_' | '.' | '/' | '\\' | ':' | '#' | '@'))
        || within()
        || is_acronym()
}

/// The names in a text, in lower case, each once. Words at the beginning of a
/// sentence are among them: how many memories share one tells them apart.
pub(crate) fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_alphabetic());
    let is_name = |word: &&str| {
        word.chars().next().is_some_and(char::is_uppercase) && (2..=MAX_BYTES).contains(&word.len())
    };
    words.filter(is_name).map(str::to_lowercase).take(MAX_IDENTIFIERS).collect()
}

/// What an index keeps of an identifier or a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fingerprint(u32);

impl Fingerprint {
    pub(crate) fn of_identifier(identifier: &str) -> Self {
        Self::of(0, identifier)
    }

    pub(crate) fn of_name(name: &str) -> Self {
        Self::of(1, name)
    }

    /// The same in every version: pgvector's index keeps them.
    fn of(kind: u8, text: &str) -> Self {
        let hash = Sha256::new().chain_update([kind]).chain_update(text).finalize();
        Self(u32::from_le_bytes(hash.first_chunk().copied().unwrap_or_default()))
    }

    pub(crate) fn number(self) -> i32 {
        self.0.cast_signed()
    }
}

/// Those of all identifiers and names in a text.
pub(crate) fn fingerprints(text: &str) -> impl Iterator<Item = Fingerprint> {
    let identifiers = identifiers(text).into_iter().map(|one| Fingerprint::of_identifier(&one));
    identifiers.chain(names(text).into_iter().map(|one| Fingerprint::of_name(&one)))
}

/// Words that the asker put between quotation marks, in lower case.
pub(crate) fn quoted(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [('"', '"'), ('“', '”'), ('`', '`'), ('«', '»')] {
        let mut rest = text;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((inside, left)) = after.split_once(close) else { break };
            if !inside.trim().is_empty() && inside.len() <= MAX_BYTES && found.len() < MAX_IDENTIFIERS {
                found.push(inside.trim().to_lowercase());
            }
            rest = left;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_told_from_words() {
        let found = |text: &str| identifiers(text).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(found("What does error E1234 mean?"), "e1234");
        assert_eq!(found("Where is src/billing/invoice.rs, again?"), "invoice.rs src/billing/invoice.rs");
        assert_eq!(found("Call parseConfig() or parse_config, not IBM's."), "ibm parse_config parseconfig");
        assert_eq!(found("Mara drinks her coffee black. And I do too."), "");
        assert_eq!(quoted("who said \"Hello World\" and `x`?"), ["hello world", "x"]);
        assert!(identifiers(&"a1 ".repeat(1000)).len() == 1);
    }

    #[test]
    fn names_begin_with_a_capital() {
        let found: Vec<String> =
            names("Wren's queue is kept by Élodie; see São Paulo.").into_iter().collect();
        assert_eq!(found, ["paulo", "são", "wren", "élodie"]);
    }
}
