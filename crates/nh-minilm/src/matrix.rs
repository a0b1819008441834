//! The product of two matrices, where nearly all of the time goes.
//!
//! The right matrix is kept in panels of [`WIDTH`] columns, so that the
//! innermost loop multiplies one number of each of some rows on the left with
//! `WIDTH` neighbours: no sum runs across a vector register, and what is read
//! lies side by side. It is compiled for a few kinds of processor; which of them
//! this one is, is found out when it is run.
//!
//! Measured on one core of an EPYC with AVX-512, all products of twelve tokens:
//! tiles of 6 × 16 take 3.4 ms, of 4 × 16 3.9, of 12 × 32 3.0; with AVX2 only,
//! 4.0, 4.4 and 5.1. A whole text of twelve tokens takes 3.8 ms; with dot products
//! along the rows of the weights it took 8.4. The vectors are spelled out
//! (`f32x16`) because the compiler, left to find them in loops over arrays, missed
//! them in tiles of some shapes, which then took 40 times as long.
//!
//! Each number of the product is summed in the same order wherever its row
//! stands, so a text's vector does not depend on its batch.

use fearless_simd::prelude::*;
use fearless_simd::{Level, dispatch, f32x16};

/// Columns in a panel: two vector registers of AVX2, one of AVX-512.
pub(crate) const WIDTH: usize = 16;

/// Rows that are multiplied at once: with them a tile fills the sixteen
/// registers of AVX2.
const HEIGHT: usize = 6;

/// A matrix of `inputs` rows, and of columns that are kept `WIDTH` together:
/// shape [columns / WIDTH][inputs][WIDTH].
#[derive(Default)]
pub(crate) struct Panels {
    values: Vec<f32>,
    inputs: usize,
}

impl Panels {
    /// No columns yet.
    pub(crate) fn new(inputs: usize) -> Self {
        Self { values: Vec::new(), inputs }
    }

    /// Empties it, for another number of inputs.
    pub(crate) fn reset(&mut self, inputs: usize) {
        self.values.clear();
        self.inputs = inputs;
    }

    /// Appends columns, each of which is given as a row of `inputs` numbers.
    /// Columns of zeroes are added until a panel is full.
    pub(crate) fn append_transposed<'r>(&mut self, mut columns: impl Iterator<Item = &'r [f32]>) {
        while let Some(first) = columns.next() {
            let begin = self.values.len();
            self.values.resize(begin + self.inputs * WIDTH, 0.0);
            let panel = self.values[begin..].as_chunks_mut::<WIDTH>().0;
            let rest = columns.by_ref().take(WIDTH - 1);
            for (at, column) in std::iter::once(first).chain(rest).enumerate() {
                for (row, value) in panel.iter_mut().zip(column) {
                    row[at] = *value;
                }
            }
        }
    }

    /// Appends one panel, given as its `inputs` rows of `WIDTH` numbers.
    pub(crate) fn append_panel<'r>(&mut self, rows: impl Iterator<Item = &'r [f32]>) {
        for row in rows {
            self.values.extend_from_slice(row);
        }
    }
}

/// Rows of a matrix that lie `stride` numbers apart.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'v> {
    pub(crate) values: &'v [f32],
    pub(crate) stride: usize,
    pub(crate) count: usize,
}

/// Where the rows of a product are put, `stride` numbers apart.
pub(crate) struct RowsMut<'v> {
    pub(crate) values: &'v mut [f32],
    pub(crate) stride: usize,
}

/// `into = left × right + bias`. The bias has a number for each column of
/// `right`; `scratch` is overwritten.
pub(crate) fn multiply(
    left: Rows<'_>,
    right: &Panels,
    bias: &[f32],
    into: RowsMut<'_>,
    scratch: &mut Vec<f32>,
) {
    dispatch!(Level::new(), simd => multiply_tiles(simd, left, right, bias, into, scratch));
}

#[inline(always)]
fn multiply_tiles<S: Simd>(
    simd: S,
    left: Rows<'_>,
    right: &Panels,
    bias: &[f32],
    into: RowsMut<'_>,
    scratch: &mut Vec<f32>,
) {
    let inputs = right.inputs;
    scratch.resize(left.count * inputs, 0.0);
    for (begin, height) in tiles(left.count) {
        let rows = left.values[begin * left.stride..].chunks(left.stride);
        interleave(rows.take(height), height, &mut scratch[begin * inputs..][..height * inputs]);
    }
    let panels = right.values.chunks_exact(inputs * WIDTH);
    for (at, (panel, bias)) in panels.zip(bias.as_chunks().0).enumerate() {
        for (begin, height) in tiles(left.count) {
            let tile = &scratch[begin * inputs..][..height * inputs];
            let into = into.values[begin * into.stride + at * WIDTH..].chunks_mut(into.stride);
            match height {
                1 => multiply_tile::<S, 1>(simd, tile, panel, bias, into),
                2 => multiply_tile::<S, 2>(simd, tile, panel, bias, into),
                3 => multiply_tile::<S, 3>(simd, tile, panel, bias, into),
                4 => multiply_tile::<S, 4>(simd, tile, panel, bias, into),
                5 => multiply_tile::<S, 5>(simd, tile, panel, bias, into),
                _ => multiply_tile::<S, HEIGHT>(simd, tile, panel, bias, into),
            }
        }
    }
}

/// The first row and the number of rows of each tile. They differ by one at
/// most: a tile of one row takes as long as one of four.
#[inline(always)]
fn tiles(rows: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = rows.div_ceil(HEIGHT);
    (0..count).map(move |at| {
        let begin = at * rows / count;
        (begin, (at + 1) * rows / count - begin)
    })
}

/// Puts the rows' first numbers side by side, then their second ones.
#[inline(always)]
fn interleave<'r>(rows: impl Iterator<Item = &'r [f32]>, height: usize, tile: &mut [f32]) {
    for (at, row) in rows.enumerate() {
        for (values, value) in tile.chunks_exact_mut(height).zip(row) {
            values[at] = *value;
        }
    }
}

#[inline(always)]
fn multiply_tile<'r, S: Simd, const ROWS: usize>(
    simd: S,
    tile: &[f32],
    panel: &[f32],
    bias: &[f32; WIDTH],
    into: impl Iterator<Item = &'r mut [f32]>,
) {
    let mut sums = [f32x16::load_array_ref(simd, bias); ROWS];
    for (left, right) in tile.as_chunks::<ROWS>().0.iter().zip(panel.as_chunks().0) {
        let right = f32x16::load_array_ref(simd, right);
        for row in 0..ROWS {
            sums[row] = f32x16::splat(simd, left[row]).mul_add(right, sums[row]);
        }
    }
    for (row, sums) in into.zip(sums) {
        sums.store_slice(&mut row[..WIDTH]);
    }
}
