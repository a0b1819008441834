//! Cuts a long text into pieces that the model can read whole.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use crate::minilm::MAX_TOKENS;
use crate::tokens::{FRAME, Start, TokenizeError, Tokens};

/// Fewer tokens than this are no piece: one character can be some.
const MIN_TOKENS: usize = 16;

/// A piece has at most so many bytes for each of its tokens. Only long white
/// space and words that are none reach it: an English token has four to five.
const BYTES_PER_TOKEN: usize = 16;

/// What a piece may be at most.
struct Limits {
    /// Without `[CLS]` and `[SEP]`.
    tokens: usize,
    overlap: usize,
    bytes: usize,
}

/// See [`crate::MiniLm::pieces`].
pub(crate) fn cut(
    tokens: &Tokens,
    text: &str,
    max_tokens: usize,
    overlap_tokens: usize,
) -> Result<Vec<Range<usize>>, TokenizeError> {
    let room = max_tokens.clamp(MIN_TOKENS, MAX_TOKENS) - FRAME;
    let limits =
        Limits { tokens: room, overlap: overlap_tokens.min(room / 2), bytes: room * BYTES_PER_TOKEN };
    let starts = tokens.starts(text)?;
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut begin = 0;
    loop {
        let done = pieces.last().map_or(0, |piece| piece.end);
        let mut end = limits.end(text, &starts, begin);
        // Alone, a part of a word can have more tokens than within it.
        while let Some(shorter) = limits.shorten(tokens, &text[begin..end])? {
            end = begin + shorter;
        }
        if end <= done && !pieces.is_empty() {
            begin = done;
            continue;
        }
        pieces.push(begin..end);
        if end == text.len() {
            return Ok(pieces);
        }
        begin = limits.next(&starts, begin..end);
    }
}

impl Limits {
    /// Where the piece that begins at `begin` had best end. It is behind
    /// `begin`, unless the text ends there.
    fn end(&self, text: &str, starts: &[Start], begin: usize) -> usize {
        let first = first_from(starts, begin);
        let by_bytes = text.floor_char_boundary(begin + self.bytes);
        let by_tokens = starts.get(first + self.tokens).map_or(text.len(), |start| start.at);
        let last = by_bytes.min(by_tokens);
        if last == text.len() {
            return last;
        }
        let last = last.max(text.ceil_char_boundary(begin + 1));
        let enough = starts.get(first + self.tokens * 2 / 3).map_or(last, |start| start.at);
        let enough = enough.min(begin + (last - begin) * 2 / 3);
        self.best(text, starts, begin, enough, last)
    }

    /// The end of a sentence between `enough` and `last`; else white space, else
    /// the end of a word, else `last`.
    fn best(&self, text: &str, starts: &[Start], begin: usize, enough: usize, last: usize) -> usize {
        let is_good = |at: &usize| *at > enough && *at > begin;
        let sentences = text[begin..last].split_sentence_bound_indices();
        let sentence = sentences.map(|(at, _)| begin + at).filter(is_good).last();
        let white = || {
            let space = text[begin..last].rfind(char::is_whitespace)?;
            Some(text.ceil_char_boundary(begin + space + 1)).filter(is_good)
        };
        let word = || {
            let until = first_from(starts, last + 1);
            let words = starts[..until].iter().rev().take_while(|start| is_good(&start.at));
            words.filter(|start| start.begins_word).map(|start| start.at).next()
        };
        sentence.or_else(white).or_else(word).unwrap_or(last)
    }

    /// A shorter end for a piece that has too many tokens.
    fn shorten(&self, tokens: &Tokens, piece: &str) -> Result<Option<usize>, TokenizeError> {
        let starts = tokens.starts(piece)?;
        let Some(excess) = starts.get(self.tokens) else { return Ok(None) };
        Ok(Some(excess.at.max(piece.ceil_char_boundary(1))))
    }

    /// Where the piece after this one begins: at a word, so that they overlap
    /// as far as they may.
    fn next(&self, starts: &[Start], piece: Range<usize>) -> usize {
        let end = first_from(starts, piece.end);
        let least = end.saturating_sub(self.overlap);
        let word = starts[least..end].iter().find(|start| start.begins_word && start.at > piece.start);
        word.map_or(piece.end, |start| start.at)
    }
}

/// The first token that begins at `at` or behind it.
fn first_from(starts: &[Start], at: usize) -> usize {
    starts.partition_point(|start| start.at < at)
}
