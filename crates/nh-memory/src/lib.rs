//! Memory: what is remembered is embedded, stored and found again by its
//! meaning.
//!
//! The store's rows are the truth; the index is made of them. Whoever needs a
//! model provider to embed brings it along ([`Remote`]); the local model runs
//! here. This crate must never know HTTP routes, agents or runs. Start reading at
//! [`Memories`] (`memories.rs`), then `search.rs` for how something is found, and
//! `index/` for what is searched.

mod check;
mod embedder;
pub mod filter;
mod identifiers;
mod import;
mod index;
mod local;
mod memories;
mod parts;
mod rank;
mod reembed;
mod search;
mod settings;
mod upkeep;
mod weights;

pub use check::{DEFAULT_NAMESPACE, namespaces};
pub use embedder::{LOCAL_MODEL, Remote};
pub use import::Importing;
pub use memories::{Author, Memories, MemoriesSetup, MemoryError};
pub use nh_minilm::FILES;
pub use reembed::REMOTE_MODEL;
pub use search::{DEFAULT_LIMIT, MAX_LIMIT, Query, Which};
pub use settings::MemorySettings;
pub use upkeep::keep;
pub use weights::{FetchError, Sources, Weights, fetch};
