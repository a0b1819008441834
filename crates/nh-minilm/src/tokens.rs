//! Text to tokens: BERT's word pieces, without regard to case and accents.

use std::path::Path;

use tokenizers::{Encoding, Tokenizer};

use crate::encoder::VOCABULARY;
use crate::files::LoadError;

/// `[CLS]` before a text and `[SEP]` behind it, which count as tokens too.
pub(crate) const FRAME: usize = 2;
const CLS: u32 = 101;
const SEP: u32 = 102;

/// Texts are tokenised in segments of about so many bytes, so that one that is
/// long is not held in memory as tokens at once, nor read beyond what is needed.
const SEGMENT_BYTES: usize = 4096;

/// The tokenizer refused a text. No text is known for which it does.
#[derive(Debug, thiserror::Error)]
#[error("a text of {bytes} bytes could not be made into tokens: {reason}")]
pub struct TokenizeError {
    pub bytes: usize,
    pub reason: String,
}

pub(crate) struct Tokens {
    tokenizer: Tokenizer,
}

/// Where a token begins.
pub(crate) struct Start {
    /// A byte of the text, the first of a character.
    pub(crate) at: usize,
    pub(crate) begins_word: bool,
}

impl Tokens {
    pub(crate) fn load(path: &Path) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path).map_err(|source| LoadError::io(path, source))?;
        let unreadable = |error: tokenizers::Error| LoadError::unreadable(path, error);
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(unreadable)?;
        tokenizer.with_padding(None).with_truncation(None).map_err(unreadable)?;
        let vocabulary = tokenizer.get_vocab(true);
        let greatest = vocabulary.values().max().copied().unwrap_or_default();
        if vocabulary.len() != VOCABULARY || greatest as usize >= VOCABULARY {
            let found = vocabulary.len();
            return Err(LoadError::unreadable(
                path,
                format!("its vocabulary has {found} words with numbers up to {greatest}, not {VOCABULARY}"),
            ));
        }
        Ok(Self { tokenizer })
    }

    /// The numbers of the first tokens, at most `most` with `[CLS]` and
    /// `[SEP]`: each is below [`VOCABULARY`].
    pub(crate) fn first(&self, text: &str, most: usize) -> Result<Vec<u32>, TokenizeError> {
        let mut ids = vec![CLS];
        for segment in segments(text) {
            ids.extend_from_slice(self.encode(segment)?.get_ids());
            if ids.len() >= most {
                break;
            }
        }
        ids.truncate(most.saturating_sub(1));
        ids.push(SEP);
        Ok(ids)
    }

    /// How many tokens the text has, with `[CLS]` and `[SEP]`.
    pub(crate) fn count(&self, text: &str) -> Result<usize, TokenizeError> {
        segments(text).try_fold(FRAME, |count, segment| Ok(count + self.encode(segment)?.len()))
    }

    /// Where the tokens of a text begin, but for `[CLS]` and `[SEP]`.
    pub(crate) fn starts(&self, text: &str) -> Result<Vec<Start>, TokenizeError> {
        let mut starts = Vec::new();
        let mut begin = 0;
        for segment in segments(text) {
            let encoding = self.encode(segment)?;
            let mut before = None;
            for ((from, _), word) in encoding.get_offsets().iter().zip(encoding.get_word_ids()) {
                let begins_word = word.is_none() || *word != before;
                before = *word;
                starts.push(Start { at: begin + segment.floor_char_boundary(*from), begins_word });
            }
            begin += segment.len();
        }
        Ok(starts)
    }

    fn encode(&self, segment: &str) -> Result<Encoding, TokenizeError> {
        self.tokenizer
            .encode(segment, false)
            .map_err(|error| TokenizeError { bytes: segment.len(), reason: error.to_string() })
    }
}

/// Cuts a text where its tokens are the same whether it is cut or not: behind
/// white space, and before what is always a token of its own. A part
/// without any of these is not cut, however long.
fn segments(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let least = text.floor_char_boundary(SEGMENT_BYTES);
        let end = text[least..].char_indices().find_map(|(at, character)| match character {
            ' ' | '\n' | '\t' => Some(least + at + 1),
            '\u{4e00}'..='\u{9fff}' => Some(least + at),
            // Not within "[SEP]" and its like, which are tokens as they stand.
            ']' => None,
            _ if character.is_ascii_punctuation() => Some(least + at),
            _ => None,
        });
        let segment;
        (segment, text) = text.split_at(end.unwrap_or(text.len()));
        (!segment.is_empty()).then_some(segment)
    })
}
