//! Attention: each token takes from each other one of its text what it needs.

use crate::encoder::{HEAD, HEADS, HIDDEN};
use crate::lanes::softmax;
use crate::matrix::{Panels, Rows, RowsMut, WIDTH, multiply};
use crate::minilm::MAX_TOKENS;

const NO_BIAS: [f32; MAX_TOKENS] = [0.0; MAX_TOKENS];

/// What is overwritten again and again.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) product: Vec<f32>,
    keys: Panels,
    values: Panels,
    scores: Vec<f32>,
}

/// Writes what each token of one text takes into `taken`, shape
/// [tokens][`HIDDEN`]. `asked` has each token's query, key and value: shape
/// [tokens][3][`HEADS`][`HEAD`].
pub(crate) fn attend(asked: &[f32], taken: &mut [f32], scratch: &mut Scratch) {
    const STRIDE: usize = 3 * HIDDEN;
    let tokens = asked.len() / STRIDE;
    let padded = tokens.next_multiple_of(WIDTH);
    scratch.scores.resize(tokens * padded, 0.0);
    for head in 0..HEADS {
        let begin = head * HEAD;
        let part = |at: usize, width: usize| asked.chunks_exact(STRIDE).map(move |row| &row[at..][..width]);

        scratch.keys.reset(HEAD);
        scratch.keys.append_transposed(part(HIDDEN + begin, HEAD));
        scratch.values.reset(tokens);
        for at in (0..HEAD).step_by(WIDTH) {
            scratch.values.append_panel(part(2 * HIDDEN + begin + at, WIDTH));
        }

        let queries = Rows { values: &asked[begin..], stride: STRIDE, count: tokens };
        let into = RowsMut { values: &mut scratch.scores, stride: padded };
        multiply(queries, &scratch.keys, &NO_BIAS, into, &mut scratch.product);
        softmax(&mut scratch.scores, padded, tokens, (HEAD as f32).sqrt().recip());

        let scores = Rows { values: &scratch.scores, stride: padded, count: tokens };
        let into = RowsMut { values: &mut taken[begin..], stride: HIDDEN };
        multiply(scores, &scratch.values, &NO_BIAS, into, &mut scratch.product);
    }
}
