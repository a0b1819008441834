//! The model as others see it.

use std::ops::Range;
use std::path::Path;

use crate::encoder::{Encoder, HIDDEN};
use crate::files::{LoadError, TOKENIZER, WEIGHTS, verify};
use crate::pieces;
use crate::tensors::Tensors;
use crate::tokens::{TokenizeError, Tokens};

/// How many numbers a vector has.
pub const DIMENSIONS: usize = HIDDEN;

/// How many tokens of a text are read, with the two that stand around it: the
/// `max_seq_length` of the model's sentence_bert_config.json.
pub const MAX_TOKENS: usize = 256;

/// So many tokens go through the network at once. More would not be faster, but
/// take more memory.
const BATCH_TOKENS: usize = 256;

/// The model in memory, about 100 MB. It can be used by many threads at once.
pub struct MiniLm {
    tokens: Tokens,
    encoder: Encoder,
}

/// What a text means.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// [`DIMENSIONS`] numbers; its length is 1, so that the product of two
    /// vectors is the cosine of the angle between them.
    pub vector: Vec<f32>,
    /// How many tokens of the text were read: from 2 to [`MAX_TOKENS`].
    pub tokens: usize,
}

impl MiniLm {
    /// Checks the files in `directory` ([`verify`]) and loads them. Blocks for
    /// some tenths of a second.
    ///
    /// # Errors
    /// Those of [`verify`]; [`LoadError::Unreadable`] if this code does not
    /// understand the files, and that is its fault.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        verify(directory)?;
        let tokens = Tokens::load(&directory.join(TOKENIZER.name))?;
        let encoder = Encoder::load(&mut Tensors::open(&directory.join(WEIGHTS.name))?)?;
        Ok(Self { tokens, encoder })
    }

    /// The texts' vectors, in the texts' order. Of a text with more than
    /// [`MAX_TOKENS`] the first ones are read, as sentence-transformers does. A
    /// text's vector does not depend on the others. Blocks for milliseconds a
    /// text.
    ///
    /// # Errors
    /// [`TokenizeError`], of which no case is known.
    pub fn embed(&self, texts: &[&str]) -> Result<Vec<Embedding>, TokenizeError> {
        let mut embeddings = Vec::with_capacity(texts.len());
        let mut batch = Vec::new();
        let mut batch_tokens = 0;
        for text in texts {
            let ids = self.tokens.first(text, MAX_TOKENS)?;
            if batch_tokens + ids.len() > BATCH_TOKENS {
                self.embed_batch(&batch, &mut embeddings);
                batch.clear();
                batch_tokens = 0;
            }
            batch_tokens += ids.len();
            batch.push(ids);
        }
        self.embed_batch(&batch, &mut embeddings);
        Ok(embeddings)
    }

    fn embed_batch(&self, batch: &[Vec<u32>], embeddings: &mut Vec<Embedding>) {
        let texts: Vec<&[u32]> = batch.iter().map(Vec::as_slice).collect();
        let vectors = self.encoder.embed(&texts).into_iter().zip(batch);
        embeddings.extend(vectors.map(|(vector, ids)| Embedding { vector, tokens: ids.len() }));
    }

    /// How many tokens the whole text has, with the two that stand around it.
    ///
    /// # Errors
    /// [`TokenizeError`], of which no case is known.
    pub fn count_tokens(&self, text: &str) -> Result<usize, TokenizeError> {
        self.tokens.count(text)
    }

    /// Cuts a text into pieces that [`MiniLm::embed`] reads whole: ranges of
    /// bytes that begin and end between characters, cover all of the text, and
    /// each have at most `max_tokens` (16 to [`MAX_TOKENS`]; what lies outside is
    /// taken for the nearest) when tokenised alone, with the two tokens that
    /// stand around it. There is always one at least; only that of an empty text
    /// is empty.
    ///
    /// A piece ends behind a sentence, if one ends in its last third; else at
    /// white space, else between words, else where it must. About
    /// `overlap_tokens` of it (half of it at most) begin the next piece as well.
    ///
    /// # Errors
    /// [`TokenizeError`], of which no case is known.
    pub fn pieces(
        &self,
        text: &str,
        max_tokens: usize,
        overlap_tokens: usize,
    ) -> Result<Vec<Range<usize>>, TokenizeError> {
        pieces::cut(&self.tokens, text, max_tokens, overlap_tokens)
    }
}
