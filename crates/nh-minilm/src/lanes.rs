//! What is done to each number or each row of the encoder. It is written so that
//! the compiler can make vector instructions of it: without branches, and with
//! sums that run in [`LANES`] lanes.

use fearless_simd::{Level, dispatch};

const LANES: usize = 16;

/// BERT's, as the model's config.json has it (`layer_norm_eps`).
const NORM_EPSILON: f32 = 1e-12;

/// The sum of a row, in an order that only depends on its length.
#[inline(always)]
fn sum(row: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, number) in lanes.iter_mut().zip(chunk) {
            *lane += value(*number);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|number| value(*number)).sum::<f32>()
}

/// Adds `addend` to `rows`, and gives each row of `gain.len()` numbers the mean
/// 0 and the variance 1, then `gain` and `bias`.
pub(crate) fn add_and_normalize(rows: &mut [f32], addend: &[f32], gain: &[f32], bias: &[f32]) {
    dispatch!(Level::new(), _simd => add_and_normalize_lanes(rows, addend, gain, bias));
}

#[inline(always)]
fn add_and_normalize_lanes(rows: &mut [f32], addend: &[f32], gain: &[f32], bias: &[f32]) {
    let width = gain.len();
    for (row, addend) in rows.chunks_exact_mut(width).zip(addend.chunks_exact(width)) {
        for (value, addend) in row.iter_mut().zip(addend) {
            *value += *addend;
        }
        let mean = sum(row, |value| value) / width as f32;
        let variance = sum(row, |value| (value - mean) * (value - mean)) / width as f32;
        let scale = 1.0 / (variance + NORM_EPSILON).sqrt();
        for ((value, gain), bias) in row.iter_mut().zip(gain).zip(bias) {
            *value = (*value - mean) * scale * *gain + *bias;
        }
    }
}

/// The Gaussian error linear unit, by the error function (BERT's `gelu`, not
/// its approximation by the hyperbolic tangent).
pub(crate) fn gelu(values: &mut [f32]) {
    dispatch!(Level::new(), _simd => gelu_lanes(values));
}

#[inline(always)]
fn gelu_lanes(values: &mut [f32]) {
    for value in values {
        *value = 0.5 * *value * (1.0 + erf(*value * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// Makes probabilities of the first `count` numbers of each row of `stride`
/// numbers, after they were multiplied by `scale`, which is positive. The others
/// become 0.
pub(crate) fn softmax(rows: &mut [f32], stride: usize, count: usize, scale: f32) {
    dispatch!(Level::new(), _simd => softmax_lanes(rows, stride, count, scale));
}

#[inline(always)]
fn softmax_lanes(rows: &mut [f32], stride: usize, count: usize, scale: f32) {
    for row in rows.chunks_exact_mut(stride) {
        let (row, padding) = row.split_at_mut(count);
        padding.fill(0.0);
        let greatest = row.iter().copied().fold(f32::MIN, f32::max);
        for value in row.iter_mut() {
            *value = exp((*value - greatest) * scale);
        }
        let share = 1.0 / sum(row, |value| value);
        for value in row {
            *value *= share;
        }
    }
}

/// The error function, within 5e-7: the rational approximation that XLA and
/// Eigen use for f32 (`ErfImpl32` in xla/client/lib/math.cc, `erf_float`).
#[inline(always)]
fn erf(x: f32) -> f32 {
    const ALPHA: [f32; 7] = [
        -2.726_142e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_3e-5,
        -7.349_906_5e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const BETA: [f32; 5] = [-1.456_607_1e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let above = ALPHA.iter().fold(0.0, |sum, factor| sum * square + factor);
    let below = BETA.iter().fold(0.0, |sum, factor| sum * square + factor);
    x * above / below
}

/// The exponential function of a number that is at most 0, within 2e-7 of it:
/// two to the power of a whole number, times a polynomial of degree 6 (that of
/// Cephes, `expf.c`).
#[inline(always)]
fn exp(x: f32) -> f32 {
    // 1.5 × 2^23: added to a small number, it leaves it rounded in the last bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const FACTORS: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_6e-1, 0.5];
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let whole = shifted - ROUND;
    let rest = x - whole * LN_2_HIGH - whole * LN_2_LOW;
    let series = FACTORS.iter().fold(0.0, |sum, factor| sum * rest + factor);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    (series * rest * rest + rest + 1.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(from: i32, to: i32, ours: fn(f32) -> f32, exact: fn(f64) -> f64) -> f64 {
        let points = (from * 1000..=to * 1000).map(|at| at as f32 / 1000.0);
        points.map(|x| (f64::from(ours(x)) - exact(f64::from(x))).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn the_functions_are_as_near_as_they_say() {
        assert!(worst(-10, 10, erf, libm::erf) < 5e-7, "{}", worst(-10, 10, erf, libm::erf));
        assert!(worst(-1, 0, exp, libm::exp) < 2e-7, "{}", worst(-1, 0, exp, libm::exp));
        assert!(worst(-200, 0, exp, libm::exp) < 2e-7, "{}", worst(-200, 0, exp, libm::exp));
    }

    #[test]
    fn the_probabilities_of_a_row_are_those_of_its_numbers() {
        let mut rows = [1000.0, 1000.0, f32::MAX, 1.0, -3000.0, f32::MIN];
        softmax(&mut rows, 3, 2, 1.0);
        assert_eq!(rows[..3], [0.5, 0.5, 0.0]);
        assert!(rows[3] == 1.0 && rows[4] < 1e-30 && rows[5] == 0.0);
    }
}
