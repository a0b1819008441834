//! The network: BERT, as `BertModel` of transformers has it, in the size that
//! the model's config.json gives.

use crate::attention::{Scratch, attend};
use crate::files::LoadError;
use crate::lanes::{add_and_normalize, gelu};
use crate::matrix::{Panels, Rows, RowsMut, multiply};
use crate::minilm::MAX_TOKENS;
use crate::tensors::Tensors;

pub(crate) const HIDDEN: usize = 384;
pub(crate) const HEADS: usize = 12;
pub(crate) const HEAD: usize = HIDDEN / HEADS;
pub(crate) const VOCABULARY: usize = 30_522;
const INNER: usize = 1536;
const LAYERS: usize = 6;
const POSITIONS: usize = 512;

pub(crate) struct Encoder {
    /// Shape [`VOCABULARY`][`HIDDEN`].
    words: Vec<f32>,
    /// Shape [`MAX_TOKENS`][`HIDDEN`]: of the place in the text, and of being in
    /// the first of two texts (there is no second).
    places: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    /// To a query, a key and a value.
    ask: Dense,
    take: Dense,
    take_norm: Norm,
    widen: Dense,
    narrow: Dense,
    narrow_norm: Norm,
}

struct Dense {
    weights: Panels,
    bias: Vec<f32>,
}

struct Norm {
    gain: Vec<f32>,
    bias: Vec<f32>,
}

impl Encoder {
    pub(crate) fn load(tensors: &mut Tensors) -> Result<Self, LoadError> {
        let words = tensors.read("embeddings.word_embeddings.weight", &[VOCABULARY, HIDDEN])?;
        let mut places = tensors.read_first(
            "embeddings.position_embeddings.weight",
            &[POSITIONS, HIDDEN],
            MAX_TOKENS * HIDDEN,
        )?;
        let kind = tensors.read_first("embeddings.token_type_embeddings.weight", &[2, HIDDEN], HIDDEN)?;
        for place in places.chunks_exact_mut(HIDDEN) {
            add(place, &kind);
        }
        let norm = Norm::load(tensors, "embeddings.LayerNorm")?;
        let layers = (0..LAYERS).map(|at| Layer::load(tensors, &format!("encoder.layer.{at}")));
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Self { words, places, norm, layers })
    }

    /// Each text's vector, of length 1. A text is its tokens: at most
    /// [`MAX_TOKENS`], each below [`VOCABULARY`].
    pub(crate) fn embed(&self, texts: &[&[u32]]) -> Vec<Vec<f32>> {
        let mut rows = self.embed_tokens(texts);
        let mut scratch = Scratch::default();
        for layer in &self.layers {
            layer.apply(texts, &mut rows, &mut scratch);
        }
        let mut rest = rows.as_slice();
        let vectors = texts.iter().map(|text| {
            let (rows, after) = rest.split_at(text.len() * HIDDEN);
            rest = after;
            mean(rows)
        });
        vectors.collect()
    }

    fn embed_tokens(&self, texts: &[&[u32]]) -> Vec<f32> {
        let mut rows = Vec::new();
        let mut places = Vec::new();
        for text in texts {
            for token in *text {
                rows.extend_from_slice(&self.words[*token as usize * HIDDEN..][..HIDDEN]);
            }
            places.extend_from_slice(&self.places[..text.len() * HIDDEN]);
        }
        self.norm.apply(&mut rows, &places);
        rows
    }
}

impl Layer {
    fn load(tensors: &mut Tensors, name: &str) -> Result<Self, LoadError> {
        let asked = ["query", "key", "value"].map(|part| format!("{name}.attention.self.{part}"));
        Ok(Self {
            ask: Dense::load(tensors, &asked, HIDDEN, HIDDEN)?,
            take: Dense::load(tensors, &[format!("{name}.attention.output.dense")], HIDDEN, HIDDEN)?,
            take_norm: Norm::load(tensors, &format!("{name}.attention.output.LayerNorm"))?,
            widen: Dense::load(tensors, &[format!("{name}.intermediate.dense")], HIDDEN, INNER)?,
            narrow: Dense::load(tensors, &[format!("{name}.output.dense")], INNER, HIDDEN)?,
            narrow_norm: Norm::load(tensors, &format!("{name}.output.LayerNorm"))?,
        })
    }

    /// `rows` has the tokens of all texts: they go through each matrix
    /// together, but attend to those of their own text only.
    fn apply(&self, texts: &[&[u32]], rows: &mut [f32], scratch: &mut Scratch) {
        let asked = self.ask.apply(rows, HIDDEN, scratch);
        let mut taken = vec![0.0; rows.len()];
        let (mut asked, mut into) = (asked.as_slice(), taken.as_mut_slice());
        for text in texts {
            let asked = asked.split_off(..text.len() * 3 * HIDDEN).unwrap_or_default();
            let into = into.split_off_mut(..text.len() * HIDDEN).unwrap_or_default();
            attend(asked, into, scratch);
        }
        self.take_norm.apply(rows, &self.take.apply(&taken, HIDDEN, scratch));
        let mut wide = self.widen.apply(rows, HIDDEN, scratch);
        gelu(&mut wide);
        self.narrow_norm.apply(rows, &self.narrow.apply(&wide, INNER, scratch));
    }
}

impl Dense {
    /// Of several tensors the outputs are put side by side.
    fn load(
        tensors: &mut Tensors,
        names: &[String],
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, LoadError> {
        let mut dense = Self { weights: Panels::new(inputs), bias: Vec::new() };
        for name in names {
            let weights = tensors.read(&format!("{name}.weight"), &[outputs, inputs])?;
            dense.weights.append_transposed(weights.chunks_exact(inputs));
            dense.bias.extend(tensors.read(&format!("{name}.bias"), &[outputs])?);
        }
        Ok(dense)
    }

    fn apply(&self, rows: &[f32], inputs: usize, scratch: &mut Scratch) -> Vec<f32> {
        let left = Rows { values: rows, stride: inputs, count: rows.len() / inputs };
        let mut product = vec![0.0; left.count * self.bias.len()];
        let into = RowsMut { values: &mut product, stride: self.bias.len() };
        multiply(left, &self.weights, &self.bias, into, &mut scratch.product);
        product
    }
}

impl Norm {
    fn load(tensors: &mut Tensors, name: &str) -> Result<Self, LoadError> {
        let gain = tensors.read(&format!("{name}.weight"), &[HIDDEN])?;
        let bias = tensors.read(&format!("{name}.bias"), &[HIDDEN])?;
        Ok(Self { gain, bias })
    }

    fn apply(&self, rows: &mut [f32], addend: &[f32]) {
        add_and_normalize(rows, addend, &self.gain, &self.bias);
    }
}

fn add(to: &mut [f32], addend: &[f32]) {
    for (value, addend) in to.iter_mut().zip(addend) {
        *value += *addend;
    }
}

/// The rows' mean, scaled to length 1.
fn mean(rows: &[f32]) -> Vec<f32> {
    let mut vector = vec![0.0; HIDDEN];
    for row in rows.chunks_exact(HIDDEN) {
        add(&mut vector, row);
    }
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    vector.iter_mut().for_each(|value| *value /= length);
    vector
}
