//! Parts of a text that are taken whole: URLs, quotations, addresses.

use std::ops::Range;

/// `http://…` or `https://…`, without the punctuation of the sentence around it.
pub(super) fn urls(text: &str) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    let lower = text.to_ascii_lowercase();
    let mut at = 0;
    while let Some(start) = ["http://", "https://"].iter().filter_map(|scheme| lower[at..].find(scheme)).min()
    {
        let start = at + start;
        let rest = &text[start..];
        let length = rest
            .find(|letter: char| {
                letter.is_whitespace() || matches!(letter, '"' | '<' | '>' | '`' | '“' | '”' | '…')
            })
            .unwrap_or(rest.len());
        let url = closed(rest[..length].trim_end_matches(['.', ',', ';', ':', '!', '?', '\'', '*']));
        let scheme = url.find("://").map_or(0, |at| at + 3);
        if url.len() > scheme {
            found.push((start..start + url.len(), url.to_owned()));
        }
        at = start + length.max(1);
    }
    if found.is_empty() { bare_hosts(text) } else { found }
}

/// A bracket that closes nothing belongs to the sentence.
fn closed(url: &str) -> &str {
    let opens = url.matches('(').count();
    let mut url = url;
    while url.ends_with([')', ']']) && url.matches([')', ']']).count() > opens {
        url = url[..url.len() - 1].trim_end_matches(['.', ',']);
    }
    url
}

/// `example.com/page`, as people write it.
fn bare_hosts(text: &str) -> Vec<(Range<usize>, String)> {
    const ENDINGS: [&str; 10] = ["com", "org", "net", "io", "dev", "ai", "edu", "gov", "app", "xyz"];
    let mut found = Vec::new();
    let mut at = 0;
    for token in text.split_whitespace() {
        let Some(start) = text[at..].find(token).map(|offset| at + offset) else { continue };
        at = start + token.len();
        let trimmed = token.trim_end_matches(['.', ',', ';', ':', '!', '?', ')']);
        let host = trimmed.split('/').next().unwrap_or_default();
        let is_host =
            host.rsplit_once('.').is_some_and(|(name, ending)| !name.is_empty() && ENDINGS.contains(&ending))
                && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
        if is_host {
            found.push((start..start + trimmed.len(), format!("https://{trimmed}")));
        }
    }
    found
}

const QUOTES: [(char, char); 5] = [('"', '"'), ('“', '”'), ('„', '“'), ('«', '»'), ('`', '`')];

/// What stands between quotation marks, and where, marks included.
pub(super) fn quotations(text: &str) -> Vec<(Range<usize>, String)> {
    let mut found = Vec::new();
    let mut letters = text.char_indices();
    while let Some((start, letter)) = letters.next() {
        let Some((open, close)) = QUOTES.iter().find(|(open, _)| *open == letter) else { continue };
        let inside = start + open.len_utf8();
        let Some(length) = text[inside..].find(*close) else { continue };
        let end = inside + length + close.len_utf8();
        found.push((start..end, text[inside..inside + length].to_owned()));
        while letters.offset() < end {
            letters.next();
        }
    }
    found
}

/// `someone@example.com`.
pub(super) fn mail_addresses(text: &str) -> Vec<String> {
    text.split(|letter: char| {
        letter.is_whitespace() || matches!(letter, ',' | ';' | '<' | '>' | '(' | ')' | '"')
    })
    .map(|token| token.trim_end_matches(['.', '!', '?', ':']))
    .filter(|token| {
        token.split_once('@').is_some_and(|(name, host)| {
            !name.is_empty() && host.contains('.') && !host.starts_with('.') && !host.contains('@')
        })
    })
    .map(str::to_owned)
    .collect()
}

/// What must not be cut nor calculated with.
pub(super) fn masks(text: &str) -> Vec<Range<usize>> {
    let mut masks: Vec<_> = urls(text).into_iter().chain(quotations(text)).map(|(range, _)| range).collect();
    masks.sort_by_key(|range| range.start);
    masks
}

/// The text with spaces in place of what `ranges` hold; the rest stays where it
/// is.
pub(super) fn blank(text: &str, ranges: &[Range<usize>]) -> String {
    let mut rest = String::with_capacity(text.len());
    for (at, letter) in text.char_indices() {
        if is_masked(ranges, at) {
            rest.extend(std::iter::repeat_n(' ', letter.len_utf8()));
        } else {
            rest.push(letter);
        }
    }
    rest
}

pub(super) fn is_masked(masks: &[Range<usize>], at: usize) -> bool {
    masks.iter().any(|mask| mask.contains(&at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Option<String> {
        urls(text).into_iter().next().map(|(_, url)| url)
    }

    #[test]
    fn urls_end_where_the_sentence_goes_on() {
        assert_eq!(url("Fetch http://127.0.0.1:80/page, then").as_deref(), Some("http://127.0.0.1:80/page"));
        assert_eq!(url("(see https://a.b/c_(d))").as_deref(), Some("https://a.b/c_(d)"));
        assert_eq!(url("open example.com/x.").as_deref(), Some("https://example.com/x"));
        assert_eq!(url("http:// is a scheme"), None);
        assert_eq!(url("3.5 and e.g. this"), None);
    }

    #[test]
    fn quotations_of_any_kind_are_found() {
        let found = quotations("say “Hi, you” and \"bye\" or `x");
        assert_eq!(found.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), ["Hi, you", "bye"]);
    }
}
