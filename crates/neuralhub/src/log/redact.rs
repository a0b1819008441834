//! What the operator wants in no line of the log.

use std::io::{self, Stderr, Write};

use regex::bytes::{NoExpand, Regex, RegexBuilder};
use tracing_subscriber::fmt::MakeWriter;

const IN_ITS_PLACE: NoExpand<'static> = NoExpand(b"[redacted]");
/// Of one expression, compiled.
const MAX_BYTES: usize = 1024 * 1024;

/// Writes to stderr what is left of each line.
pub(super) struct Redacting(Vec<Regex>);

impl Redacting {
    pub(super) fn new(patterns: &[String]) -> Result<Self, String> {
        patterns.iter().map(|pattern| compiled(pattern)).collect::<Result<_, _>>().map(Self)
    }
}

/// An expression of the configuration; or what is wrong with it.
pub(crate) fn compiled(pattern: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(pattern)
        .size_limit(MAX_BYTES)
        .build()
        .map_err(|error| format!("`{pattern}` is no regular expression: {error}"))?;
    // It would be put between all letters.
    if compiled.is_match(b"") {
        return Err(format!("`{pattern}` matches what is empty; say what has to be there"));
    }
    Ok(compiled)
}

/// Takes the whole of one line at once, as the log writes it.
pub(super) struct Line<'a> {
    patterns: &'a [Regex],
    to: Stderr,
}

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { patterns: &self.0, to: io::stderr() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.to.write_all(&without(self.patterns, line))?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn without<'l>(patterns: &[Regex], line: &'l [u8]) -> std::borrow::Cow<'l, [u8]> {
    let mut left = std::borrow::Cow::Borrowed(line);
    for pattern in patterns {
        if let std::borrow::Cow::Owned(replaced) = pattern.replace_all(&left, IN_ITS_PLACE) {
            left = replaced.into();
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matches_is_not_written() {
        let patterns =
            Redacting::new(&[r"\d{3}-\d{4}".to_owned(), "(?i)secret".to_owned()]).expect("patterns").0;
        let line = without(&patterns, b"{\"m\":\"call 555-1234, SECRET or \xff 555-12\"}\n");
        assert_eq!(&*line, b"{\"m\":\"call [redacted], [redacted] or \xff 555-12\"}\n");
        assert!(matches!(without(&patterns, b"nothing"), std::borrow::Cow::Borrowed(_)));
    }

    #[test]
    fn what_is_no_expression_is_named() {
        for bad in ["(", "a*", "", "(a{1000}){1000}"] {
            assert!(compiled(bad).is_err_and(|message| message.contains(bad)), "{bad}");
        }
    }
}
