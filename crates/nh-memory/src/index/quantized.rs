//! Embeddings with one byte a number, and the scan over many of them.
//!
//! An embedding is kept as whole numbers from -127 to 127 and a scale. The scan
//! is written so that the compiler makes the processor's widest instructions of
//! it; which ones there are is found out at run time, and without any of them
//! the same code runs as it is.

use fearless_simd::{Level, dispatch};

/// The largest code; -128 is not used, so that signs are symmetric.
const MOST: f32 = 127.0;

/// The codes of `vector`, appended to `codes`, and their scale: each number is
/// about its code times the scale.
pub(crate) fn quantize(vector: &[f32], codes: &mut Vec<i8>) -> f32 {
    let largest = vector.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 || !largest.is_finite() {
        codes.extend(std::iter::repeat_n(0, vector.len()));
        return 0.0;
    }
    let scale = largest / MOST;
    codes.extend(vector.iter().map(|value| (value / scale).round() as i8));
    scale
}

/// The dot product of `query` with each row of `codes`, scaled; as many as
/// there are scales. A row is as long as the query.
pub(crate) fn score_rows(query: &[i8], scale: f32, codes: &[i8], scales: &[f32], scores: &mut Vec<f32>) {
    dispatch!(Level::new(), _simd => score_lanes(query, scale, codes, scales, scores));
}

#[inline(always)]
fn score_lanes(query: &[i8], scale: f32, codes: &[i8], scales: &[f32], scores: &mut Vec<f32>) {
    scores.clear();
    scores.extend(codes.chunks_exact(query.len()).zip(scales).map(|(row, row_scale)| {
        let products = row.iter().zip(query).map(|(one, other)| i32::from(*one) * i32::from(*other));
        products.sum::<i32>() as f32 * scale * row_scale
    }));
}

/// The dot product of two embeddings: their cosine, since each has length 1.
pub(crate) fn dot(one: &[f32], other: &[f32]) -> f64 {
    one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum()
}
