//! The embedding model all-MiniLM-L6-v2, run in process: a text becomes a
//! vector of [`DIMENSIONS`] numbers, and texts that mean alike have vectors
//! that point alike.
//!
//! The model is sentence-transformers/all-MiniLM-L6-v2: a BERT encoder of six
//! layers, the mean of its tokens' vectors, scaled to length 1. Its weights and
//! its vocabulary are two files that are pinned by SHA-256 ([`FILES`]); whoever
//! calls says in which directory they lie.
//!
//! All is done on the calling thread, and takes milliseconds: an asynchronous
//! caller puts it where blocking is allowed. `matrix.rs` says what makes it fast
//! and what was measured.
//!
//! This crate must never know where the files come from, what the texts are, or
//! what becomes of the vectors; it opens no connection and starts no thread.
//! Start reading at [`MiniLm`], then at `encoder.rs`.

mod attention;
mod encoder;
mod files;
mod lanes;
mod matrix;
mod minilm;
mod pieces;
mod tensors;
mod tokens;

pub use files::{FILES, LoadError, PinnedFile, verify};
pub use minilm::{DIMENSIONS, Embedding, MAX_TOKENS, MiniLm};
pub use tokens::TokenizeError;
