//! Made-up embeddings, and what a search of them is held against: an exact scan,
//! and a bare scan of one-byte codes.

use std::cmp::Ordering;

use fearless_simd::{Level, dispatch};

/// Vectors of length 1 in clusters, as embeddings are.
pub struct Vectors(Vec<f32>);

/// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// About normal: the sum of four even numbers.
    fn normal(&mut self) -> f32 {
        let sum: f64 = (0..4).map(|_| (self.next() >> 11) as f64 / (1_u64 << 53) as f64 - 0.5).sum();
        (sum * 1.73) as f32
    }
}

impl Vectors {
    pub const WIDTH: usize = 384;
    const CLUSTERS: usize = 500;

    pub fn new(rows: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let centres: Vec<f32> = (0..Self::CLUSTERS * Self::WIDTH).map(|_| random.normal()).collect();
        let mut values = Vec::with_capacity(rows * Self::WIDTH);
        for _ in 0..rows {
            let centre = random.next() as usize % Self::CLUSTERS * Self::WIDTH;
            let row: Vec<f32> =
                centres[centre..][..Self::WIDTH].iter().map(|value| value + 0.8 * random.normal()).collect();
            values.extend(of_length_one(row));
        }
        Self(values)
    }

    /// Each near one of `others`.
    pub fn like(others: &Self, rows: usize, seed: u64) -> Self {
        let mut random = Random(seed);
        let mut values = Vec::with_capacity(rows * Self::WIDTH);
        for _ in 0..rows {
            let near = others.row(random.next() as usize % others.len());
            let noise = 0.8 / (Self::WIDTH as f32).sqrt();
            let row = near.iter().map(|value| value + noise * random.normal()).collect();
            values.extend(of_length_one(row));
        }
        Self(values)
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.0[row * Self::WIDTH..][..Self::WIDTH]
    }

    pub fn len(&self) -> usize {
        self.0.len() / Self::WIDTH
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows nearest to `to`, exactly.
    pub fn best(&self, to: &[f32], count: usize) -> Vec<usize> {
        let dot = |row: &[f32]| row.iter().zip(to).map(|(one, other)| one * other).sum::<f32>();
        let scores = self.0.chunks_exact(Self::WIDTH).map(dot).enumerate();
        highest(scores.map(|(row, score)| (score, row)).collect(), count)
    }
}

fn of_length_one(row: Vec<f32>) -> Vec<f32> {
    let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
    row.into_iter().map(|value| value / length).collect()
}

fn highest(mut scores: Vec<(f32, usize)>, count: usize) -> Vec<usize> {
    let by_score = |one: &(f32, usize), other: &(f32, usize)| -> Ordering { other.0.total_cmp(&one.0) };
    if scores.len() > count {
        scores.select_nth_unstable_by(count, by_score);
        scores.truncate(count);
    }
    scores.sort_by(by_score);
    scores.into_iter().map(|(_, row)| row).collect()
}

/// One byte a number, all rows in one piece.
pub struct Codes(Vec<i8>);

impl Codes {
    const SCALE: f32 = 127.0 * 4.0;

    pub fn of(vectors: &Vectors) -> Self {
        Self(vectors.0.iter().map(|value| code(*value)).collect())
    }

    /// The rows with the highest dot products.
    pub fn best(&self, to: &[f32], count: usize) -> Vec<usize> {
        let query: Vec<i8> = to.iter().map(|value| code(*value)).collect();
        let mut scores = Vec::with_capacity(self.0.len() / Vectors::WIDTH);
        dispatch!(Level::new(), _simd => score(&self.0, &query, &mut scores));
        highest(scores, count)
    }
}

fn code(value: f32) -> i8 {
    (value * Codes::SCALE).round().clamp(-127.0, 127.0) as i8
}

#[inline(always)]
fn score(codes: &[i8], query: &[i8], scores: &mut Vec<(f32, usize)>) {
    for (row, codes) in codes.chunks_exact(Vectors::WIDTH).enumerate() {
        let products = codes.iter().zip(query).map(|(one, other)| i32::from(*one) * i32::from(*other));
        scores.push((products.sum::<i32>() as f32, row));
    }
}

/// A fact in the manner of agents' memories.
pub fn content(row: usize) -> String {
    const NAMES: [&str; 16] = [
        "Mara", "Leon", "Aiko", "Sofia", "Ivan", "Priya", "Ben", "Julia", "Astrid", "Omar", "Nina", "Tomas",
        "Chloe", "Ravi", "Elena", "Karl",
    ];
    const VERBS: [&str; 8] = [
        "prefers the early train to",
        "wrote the report about",
        "is responsible for the cluster in",
        "reported the error in the service at",
        "moved the meeting about the budget to",
        "keeps the spare key of the office in",
        "asked for a summary of the visit to",
        "approved the contract with the supplier from",
    ];
    const PLACES: [&str; 12] = [
        "Lisbon", "Riga", "Oslo", "Porto", "Ghent", "Turin", "Bergen", "Kyoto", "Quito", "Perth", "Leeds",
        "Bonn",
    ];
    format!(
        "{} {} {} in week {} of the project number {row}.",
        NAMES[row % 16],
        VERBS[row / 16 % 8],
        PLACES[row / 128 % 12],
        row / 1536 % 52
    )
}
