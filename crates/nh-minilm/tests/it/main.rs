//! The model at its edge: texts in, vectors out. Needs its two files.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // a test may fail so

mod files;
mod hostile;
mod pieces;
mod vectors;

use std::path::PathBuf;
use std::sync::LazyLock;

use nh_minilm::MiniLm;

/// Where the model's files lie.
fn directory() -> PathBuf {
    let directory = nh_testkit::weights();
    assert!(
        directory.join("model.safetensors").is_file(),
        "the embedding model is not in {}: run scripts/setup test, or say in NEURALHUB_MINILM where it is",
        directory.display()
    );
    directory
}

static MODEL: LazyLock<MiniLm> =
    LazyLock::new(|| MiniLm::load(&directory()).unwrap_or_else(|error| panic!("{error}")));

fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let product = |one: &[f32], other: &[f32]| -> f64 {
        one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    product(one, other) / (product(one, one) * product(other, other)).sqrt()
}

fn furthest(one: &[f32], other: &[f32]) -> f32 {
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
