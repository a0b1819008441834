//! What the operator wants in no line of the log.

use std::borrow::Cow;
use std::io::{self, Stderr, Write};

use regex::bytes::{NoExpand, Regex, RegexBuilder};
use tracing_subscriber::fmt::MakeWriter;

const IN_ITS_PLACE: NoExpand<'static> = NoExpand(b"[redacted]");
/// Of one expression, compiled.
const MAX_BYTES: usize = 1024 * 1024;

/// What has every kind of place between its letters where something empty can be.
const BETWEEN: &[u8] = b"ab a  b.\n\na";

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
    // It would be put between all letters, or all words.
    let is_empty = |text: &'static [u8]| compiled.find_iter(text).any(|found| found.is_empty());
    if [b"".as_slice(), BETWEEN].into_iter().any(is_empty) {
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

/// The end of the line is no pattern's: without it two lines would be one.
fn without<'l>(patterns: &[Regex], line: &'l [u8]) -> Cow<'l, [u8]> {
    let (words, end) = match line.split_last() {
        Some((b'\n', words)) => (words, b"\n".as_slice()),
        _ => (line, b"".as_slice()),
    };
    let mut left = Cow::Borrowed(words);
    for pattern in patterns {
        if let Cow::Owned(replaced) = pattern.replace_all(&left, IN_ITS_PLACE) {
            left = replaced.into();
        }
    }
    match left {
        Cow::Borrowed(_) => Cow::Borrowed(line),
        Cow::Owned(mut left) => {
            left.extend_from_slice(end);
            left.into()
        }
    }
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
        assert!(matches!(without(&patterns, b"nothing"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_line_stays_a_line() {
        let patterns =
            Redacting::new(&["token=[^ ]*".to_owned(), r"(?s)\{.*".to_owned()]).expect("patterns").0;
        assert_eq!(&*without(&patterns, b"a token=x\n"), b"a [redacted]\n");
        assert_eq!(&*without(&patterns, b"{}\n"), b"[redacted]\n");
        assert_eq!(&*without(&patterns, b"token=x"), b"[redacted]");
        assert_eq!(&*without(&patterns, b"nothing\n"), b"nothing\n");
    }

    #[test]
    fn what_is_no_expression_is_named() {
        for bad in
            ["(", "a*", "", "(a{1000}){1000}", r"\b", r"(?m)^x?|\b", r"\B", "$", r"(?m)^", r"x|\b{end}"]
        {
            assert!(compiled(bad).is_err_and(|message| message.contains(bad)), "{bad}");
        }
    }
}
